"""A BioCompute Object, held to the models that Galaxy generated from the published schema of IEEE 2791."""

import hashlib
import json
from dataclasses import replace

import pydantic
import pytest
from galaxy.schema import bco as ieee

from snakemake_apptainer_freshness.audit.render import bco
from snakemake_apptainer_freshness.errors import UsageError
from tests.support import audits

DOMAINS = {
    "provenance_domain": ieee.ProvenanceDomain,
    "usability_domain": ieee.UsabilityDomain,
    "description_domain": ieee.DescriptionDomain,
    "execution_domain": ieee.ExecutionDomain,
    "parametric_domain": ieee.ParametricDomain,
    "io_domain": ieee.InputAndOutputDomain,
    "error_domain": ieee.ErrorDomain,
}


def wrong(made):
    """The domains of `made` that the standard's models refuse."""
    found = []
    for name, model in DOMAINS.items():
        try:
            model.model_validate(made[name])
        except pydantic.ValidationError as error:
            found.append(f"{name}: {error}")
    return found


@pytest.mark.parametrize("audit", [audits.sample(), audits.large(50)], ids=["sample", "large"])
def test_the_standard_s_models_take_every_domain(audit):
    made = bco.bco(audit)

    assert wrong(made) == []
    assert set(made) == {"object_id", "spec_version", "etag", *DOMAINS}
    assert made["spec_version"] == ieee.SPEC_VERSION


def test_the_standard_s_models_refuse_one_that_lacks_what_they_ask_for():
    made = bco.bco(audits.sample())
    del made["execution_domain"]["script_driver"]
    made["provenance_domain"]["created"] = "soon"

    assert [one.partition(":")[0] for one in wrong(made)] == ["provenance_domain", "execution_domain"]


def test_an_image_is_a_prerequisite_by_its_digest_and_its_file_by_its_own_hash():
    prerequisites = bco.bco(audits.sample())["execution_domain"]["software_prerequisites"]
    versions = {(one["name"], one["version"]) for one in prerequisites}

    assert (audits.FASTP, audits.digest("fastp")) in versions
    assert (f"{audits.FASTP} (SIF)", f"sha256:{audits.sha256('fastp sif')}") in versions
    assert (audits.BUSYBOX, "unknown") in versions


def test_steps_are_the_rules_in_the_order_in_which_they_ran():
    steps = bco.bco(audits.sample())["description_domain"]["pipeline_steps"]

    assert [(one["step_number"], one["name"]) for one in steps] == [
        (1, "trim"), (2, "quantify"), (3, "count"), (4, "plot"), (5, "report"), (6, "legacy"),
    ]  # fmt: skip


def test_inputs_are_what_no_rule_made_and_outputs_have_verdict_and_hash():
    made = bco.bco(audits.sample())

    assert [one["uri"]["filename"] for one in made["io_domain"]["input_subdomain"]] == ["reads/a.fq"]
    judged = {one["path"]: one for one in made["error_domain"]["algorithmic_error"]["output"]}
    assert judged["quants/d.sf"]["verdict"] == "proven"
    assert judged["quants/d.sf"]["sha256"] == audits.sha256("quants/d.sf")
    assert "sha256" not in judged["legacy/old.txt"]


def test_the_tag_of_the_object_is_the_hash_of_its_domains():
    made = bco.bco(audits.sample())
    domains = {name: made[name] for name in DOMAINS}
    text = json.dumps(domains, sort_keys=True, separators=(",", ":"))

    assert made["etag"] == hashlib.sha256(text.encode()).hexdigest()
    other = bco.bco(replace(audits.sample(), answer="another"))
    assert other["etag"] != made["etag"]


def test_it_is_written_as_one_file_of_ascii(tmp_path):
    bco.check(audits.sample(), tmp_path / "bco.json", {})
    bco.write(audits.sample(), tmp_path / "bco.json", {})

    text = (tmp_path / "bco.json").read_text()
    assert text.isascii()
    assert wrong(json.loads(text)) == []


def test_it_is_about_one_work_directory(tmp_path):
    with pytest.raises(UsageError, match="one work directory"):
        bco.check(replace(audits.sample(), workdirs=("/a", "/b")), tmp_path / "bco.json", {})
