"""Findings that people answer for: shown as such, never hidden, and only until their day."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.audit.acknowledge import acknowledged, load, parse
from snakemake_apptainer_freshness.audit.judge import with_acknowledgements
from snakemake_apptainer_freshness.audit.results import FindingKind
from snakemake_apptainer_freshness.errors import FreshnessError, LocalIOError, UsageError
from tests.support.audits import SALMON, sample

ENTRY = """
[[acknowledged]]
finding = "{finding}"
subject = "{subject}"
reason = "looked at"
who = "ada@site.org"
until = {until}
"""


def entries(*subjects, finding="mixed-digests", until="2026-11-23"):
    """Entries for `subjects`; the sample was audited on 2026-11-23."""
    text = "version = 1\n" + "".join(ENTRY.format(finding=finding, subject=one, until=until) for one in subjects)
    return parse(text.encode(), "audit.toml")


def answered(audit):
    return {one.kind.value: one.acknowledged.sentence for one in audit.findings if one.acknowledged}


def test_a_finding_is_acknowledged_and_stays():
    audit = sample()

    found = acknowledged(audit, entries("quants/*"))

    assert answered(found) == {"mixed-digests": "acknowledged by ada@site.org until 2026-11-23: looked at"}
    assert [one.text for one in found.findings] == [one.text for one in audit.findings]
    assert found.notes == audit.notes


def test_a_finding_about_outputs_needs_every_one_of_them():
    assert answered(acknowledged(sample(), entries("quants/a.sf", "quants/b.sf"))) == {}
    assert answered(acknowledged(sample(), entries("quants/[ab].sf", "quants/c.sf", "quants/d.sf")))


def test_a_finding_about_an_image_or_a_run_needs_one_subject():
    run = sample().runs[1].id

    assert set(answered(acknowledged(sample(), entries(SALMON, finding="pin-moved")))) == {"pin-moved"}
    assert set(answered(acknowledged(sample(), entries(run, finding="run-unfinished")))) == {"run-unfinished"}


def test_another_kind_of_finding_about_the_same_is_not_acknowledged():
    assert "output-changed" not in answered(acknowledged(sample(), entries("quants/*")))


def test_after_its_last_day_it_counts_no_more_and_that_is_told():
    found = acknowledged(sample(), entries("quants/*", until="2026-11-22"))

    assert answered(found) == {}
    assert "the acknowledgement of mixed-digests for quants/* by ada@site.org ended on 2026-11-22" in found.notes


def test_one_that_speaks_of_nothing_is_told():
    found = acknowledged(sample(), entries("elsewhere/*"))

    assert found.notes[-1].startswith("1 acknowledgement speaks of nothing that was found, such as mixed-digests")


def test_the_one_that_ends_first_is_shown():
    early, late = entries("quants/[ab].sf", until="2026-12-01"), entries("quants/[cd].sf", until="2027-01-01")

    [sentence] = answered(acknowledged(sample(), (*late, *early))).values()
    assert "until 2026-12-01" in sentence


def test_the_answer_says_how_many_are_acknowledged():
    assert "; 1 finding acknowledged" in with_acknowledgements(sample(), entries("quants/*")).answer


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version = ", "not valid TOML"),
        ("acknowledged = []", "it has no version"),
        ("version = 2\nacknowledged = []", "it has version 2; this program knows version 1"),
        ("version = true\nacknowledged = []", "it has no version"),
        ("version = 1\nacknowledged = 1", "acknowledged must be a list"),
        ("version = 1\nacknowledged = [1]", "acknowledged[1] must be a table"),
        ("version = 1\nmore = 1\nacknowledged = []", "unknown key 'more'"),
        ("version = 1" + ENTRY.format(finding="bad", subject="x", until="2027-01-01"), "[1].finding cannot be 'bad'"),
        (
            "version = 1" + ENTRY.format(finding="unproven", subject="", until="2027-01-01"),
            "[1].subject must be a text",
        ),
        ("version = 1" + ENTRY.format(finding="unproven", subject="x", until="'soon'"), "[1].until must be a day"),
        ("version = 1" + ENTRY.format(finding="unproven", subject="x", until="2027-01-01T10:00:00"), "must be a day"),
        ("version = 1\n[[acknowledged]]\nfinding = 'unproven'", "acknowledged[1] lacks "),
    ],
)
def test_a_file_that_is_wrong_names_the_place(text, words):
    with pytest.raises(UsageError) as raised:
        parse(text.encode(), "audit.toml")

    assert words in raised.value.message
    assert raised.value.message.startswith("audit.toml")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_file_or_one_clear_error(content):
    try:
        parse(content, "audit.toml")
    except FreshnessError as error:
        assert error.hint  # noqa: PT017  any error of ours is right


def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path):
    with pytest.raises(LocalIOError, match="cannot read the acknowledgements"):
        load(tmp_path / "audit.toml")


def test_every_kind_can_be_acknowledged():
    assert {entries("x", finding=str(kind))[0].finding for kind in FindingKind} == set(FindingKind)
