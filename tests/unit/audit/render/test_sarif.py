"""The findings of an audit as SARIF: each has a rule and a place."""

from dataclasses import replace

from snakemake_apptainer_freshness.audit.render.sarif import RULES, results
from snakemake_apptainer_freshness.audit.results import FindingKind
from tests.support import audits


def test_every_kind_of_finding_has_its_rule_and_each_finding_a_place():
    audit = audits.sample()
    found = list(results(audit))

    assert set(RULES) == set(FindingKind)
    assert [one.message for one in found] == [one.text for one in audit.findings]
    assert next(one for one in found if one.rule == "bad-image").uri == "trimmed/a.fq"
    assert next(one for one in found if one.rule == "run-unfinished").uri.startswith(".snakemake/apptainer-freshness/")
    assert all(one.uri for one in found)


def test_places_of_several_folders_are_whole_paths():
    audit = replace(audits.sample(), workdirs=(audits.WORKDIR, "/data/other"))

    assert all(one.uri.startswith("/data/") for one in results(audit))
