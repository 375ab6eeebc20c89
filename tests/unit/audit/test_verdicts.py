"""The verdict on one output, for all that can be known of it."""

import pytest

from snakemake_apptainer_freshness.audit.disk import OutputStatus
from snakemake_apptainer_freshness.audit.results import OutputVerdict
from snakemake_apptainer_freshness.audit.verdicts import (
    ImageCondition,
    Maker,
    by_image,
    changed,
    digest_in,
    made_again,
    without_us,
    worst,
)
from snakemake_apptainer_freshness.record.metadata import MadeBy
from snakemake_apptainer_freshness.record.run import OutputRecord
from tests.support import audits

LEFT = OutputRecord(path="a", size=4, mtime_ns=1_772_438_400_123_456_789, sha256="ab" * 32)


def maker(image=None, **changes):
    job = audits.job(1, "count", "a", ran=image, **changes)
    return Maker(run=audits.run(1, job), job=job, left=LEFT)


def verdict(image, now=None, *, believed=True, vouched=True, **changes):
    return by_image(maker(image, **changes), image, now, believed=believed, vouched=vouched)


def now(state, **changes):
    return ImageCondition(state=state, detail="as it is", path="/x.simg", ran=audits.image().sha256, **changes)


def test_a_verified_image_proves():
    assert verdict(audits.image(), now("verified"))[0] is OutputVerdict.PROVEN


def test_that_an_image_was_verified_is_a_claim_of_its_record_unless_something_else_says_so():
    judged, why = verdict(audits.image(), vouched=False)

    assert judged is OutputVerdict.UNPROVEN
    assert "you have not proven that file" in why
    assert (
        verdict(audits.image(), now("verified", sha256=audits.image().sha256), vouched=False)[0] is OutputVerdict.PROVEN
    )


def test_the_word_of_the_jobs_own_process_counts_more_than_that_of_the_run():
    assert verdict(audits.image(), disk="altered")[0] is OutputVerdict.BAD_IMAGE
    assert verdict(audits.image(disk="bound"), disk="verified")[0] is OutputVerdict.PROVEN


@pytest.mark.parametrize("state", ["stale", "altered", "corrupt"])
def test_an_image_that_was_bad_then_is_bad_whatever_it_is_now(state):
    judged, why = verdict(audits.image(disk=state), now("verified"))

    assert judged is OutputVerdict.BAD_IMAGE
    assert f"was {state} just before it ran" in why


@pytest.mark.parametrize("state", ["stale", "altered", "corrupt"])
def test_an_image_that_is_bad_now_is_bad_though_it_was_proven_then(state):
    judged, why = verdict(audits.image(), now(state))

    assert judged is OutputVerdict.BAD_IMAGE
    assert f"is {state} now" in why
    assert "was verified" in why


def test_a_file_that_took_the_place_of_the_one_that_ran_says_nothing_of_it():
    assert verdict(audits.image(sha256="77" * 32), now("altered"))[0] is OutputVerdict.PROVEN


def test_an_image_that_is_gone_now_was_what_it_was():
    assert verdict(audits.image(), now("absent"))[0] is OutputVerdict.PROVEN


@pytest.mark.parametrize("state", ["bound", "absent", ""])
def test_what_nobody_proved_is_unproven(state):
    assert verdict(audits.image(disk=state))[0] is OutputVerdict.UNPROVEN


def test_a_proof_of_the_very_file_that_ran_holds_for_what_it_made():
    bound = audits.image(disk="bound")

    assert verdict(bound, now("verified", sha256=bound.sha256))[0] is OutputVerdict.PROVEN
    assert verdict(bound, now("verified", sha256="77" * 32))[0] is OutputVerdict.UNPROVEN


@pytest.mark.parametrize("image", [audits.image(disk="unbound"), audits.image(digest="", disk="unbound")])
def test_a_tag_that_ran_cannot_be_attributed(image):
    assert verdict(image)[0] is OutputVerdict.UNATTRIBUTABLE


def test_without_a_container_there_is_nothing_to_prove():
    assert verdict(None)[0] is OutputVerdict.NO_CONTAINER


def test_an_image_that_the_record_does_not_describe_is_unproven():
    found = by_image(maker(audits.image()), None, None, believed=True, vouched=True)

    assert found[0] is OutputVerdict.UNPROVEN


def test_an_altered_record_proves_nothing_good_and_everything_bad():
    assert verdict(audits.image(), believed=False)[0] is OutputVerdict.UNPROVEN
    assert verdict(None, believed=False)[0] is OutputVerdict.NO_RECORD
    assert verdict(audits.image(disk="altered"), believed=False)[0] is OutputVerdict.BAD_IMAGE


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ("docker://quay.io/team/tool@sha256:" + "ab" * 32, OutputVerdict.UNPROVEN),
        ("library://team/tool:sha256." + "ab" * 32, OutputVerdict.UNPROVEN),
        ("docker://quay.io/team/tool:1.0", OutputVerdict.UNATTRIBUTABLE),
        ("tool.sif", OutputVerdict.UNATTRIBUTABLE),
        ("", OutputVerdict.NO_RECORD),
    ],
)
def test_a_run_without_us_is_known_by_what_snakemake_wrote(container, expected):
    assert without_us(MadeBy(rule="count", container=container), again=False)[0] is expected
    assert without_us(None, again=False)[0] is OutputVerdict.NO_RECORD


def test_digests_are_found_in_urls():
    assert digest_in("docker://a/b@sha256:" + "ab" * 32) == "sha256:" + "ab" * 32
    assert digest_in("library://a/b/c:sha256." + "ab" * 32) == "sha256:" + "ab" * 32
    assert digest_in("docker://a/b:1.0") == ""
    assert digest_in("git@host:x") == ""


def seen(**changes):
    return OutputStatus(**{"exists": True, "size": 4, "mtime_ns": LEFT.mtime_ns} | changes)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (seen(), ""),
        (seen(size=5), "5 bytes now, and had 4"),
        (seen(mtime_ns=1, sha256="ab" * 32), ""),
        (seen(mtime_ns=1, sha256="cd" * 32), "SHA-256 is not the one"),
        (seen(mtime_ns=1), "it was touched"),
        (seen(mtime_ns=1_772_438_400_000_000_000), ""),
        (seen(mtime_ns=1, folder=True), ""),
        (seen(mtime_ns=1, size=9, elsewhere=True), ""),
        (OutputStatus(exists=False), ""),
    ],
    ids=["untouched", "size", "touched, same", "touched, other", "touched, unknown", "from an archive", "folder",
         "remote", "gone"],
)  # fmt: skip
def test_how_an_output_changed(found, words):
    assert (words in changed(LEFT, found)) if words else changed(LEFT, found) == ""


def test_of_an_output_that_nobody_saw_no_change_is_known():
    assert changed(OutputRecord(path="a"), seen(size=17)) == ""


def test_metadata_of_a_later_job_says_that_it_was_made_again():
    ended = LEFT.mtime_ns / 1e9
    job_ended = 1_772_438_681.0

    assert made_again(maker(), MadeBy(rule="count", started=job_ended + 60, ended=job_ended + 90))
    assert not made_again(maker(), MadeBy(rule="count", started=ended - 60, ended=ended))
    assert not made_again(maker(), MadeBy(rule="count", started=ended - 60, ended=ended + 500))
    assert not made_again(maker(), None)


def test_the_worst_verdict_counts():
    assert worst((OutputVerdict.PROVEN, "a"), (OutputVerdict.CHANGED, "b")) == (OutputVerdict.CHANGED, "b")
    assert worst((OutputVerdict.BAD_IMAGE, "a"), (OutputVerdict.CHANGED, "b")) == (OutputVerdict.BAD_IMAGE, "a")
