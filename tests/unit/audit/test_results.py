"""The values of an audit say the few things that they say of themselves."""

import pytest

from snakemake_apptainer_freshness.audit.results import (
    SENTENCES,
    Acknowledgement,
    FindingKind,
    ImageReplay,
    OutputVerdict,
)
from tests.support import audits


def test_every_verdict_has_a_sentence_of_its_own():
    assert set(SENTENCES) == set(OutputVerdict)
    assert len(set(SENTENCES.values())) == len(OutputVerdict)


def test_verdicts_stand_the_worst_first():
    words = [verdict.value for verdict in OutputVerdict]
    assert (words[0], words[-1]) == ("bad image", "proven")
    assert words.index("unattributable") < words.index("unproven") < words.index("no container")


def test_words_of_findings_can_stand_on_a_command_line():
    for kind in FindingKind:
        assert kind.value == kind.value.lower()
        assert " " not in kind.value


def test_an_acknowledgement_says_who_until_when_and_why():
    answered = Acknowledgement(reason="known good", who="ada", until="2026-12-31")
    assert answered.sentence == "acknowledged by ada until 2026-12-31: known good"


def test_an_output_explains_through_which_files_a_bad_image_reaches_it():
    made = audits.run(1, audits.job(1, "count", "c"))
    output = audits.audited("c", OutputVerdict.PROVEN, "it is proven", made, made.jobs[0])
    affected = audits.audited("c", OutputVerdict.PROVEN, "it is proven", made, made.jobs[0], affected_by=("b", "a"))
    assert output.explanation == "it is proven"
    assert affected.explanation == "it is proven; affected by a bad image through b from a"


@pytest.mark.parametrize(
    ("served", "same_platform", "on_disk", "elsewhere", "possible"),
    [
        (True, True, False, (), True),
        (True, None, False, (), True),
        (True, False, False, (), False),
        (None, True, False, (), False),
        (False, None, False, (), False),
        (False, None, True, (), True),
        (None, None, False, ("mirror.example",), True),
    ],
)
def test_an_image_can_be_run_again_only_where_that_is_known(served, same_platform, on_disk, elsewhere, possible):
    replay = ImageReplay(
        digest=audits.digest("x"), served=served, same_platform=same_platform, on_disk=on_disk, elsewhere=elsewhere
    )
    assert replay.possible is possible


def test_an_audit_counts_its_outputs_by_verdict():
    audit = audits.sample()
    counts = {verdict: audit.count(verdict) for verdict in OutputVerdict}
    assert sum(counts.values()) == len(audit.outputs)
    assert counts[OutputVerdict.PROVEN] == len([one for one in audit.outputs if one.verdict == "proven"]) > 0
