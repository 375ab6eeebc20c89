"""What a user sees at the start of a run."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from snakemake_apptainer_freshness.engine.summary import Facts, keep_summary_visible, lines
from snakemake_apptainer_freshness.freshness import UNCHECKED, RemoteFact, RemoteState, Verdict
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Change
from snakemake_apptainer_freshness.settings import Mode, Options, Reaction
from tests.support.pins import lock_entry

OLD, NEW = ("sha256:" + letter * 64 for letter in "ab")


def entry(name, digest):
    return lock_entry(reference=name, digest=digest, media_type="x")


def verdict(name, state=RemoteState.CURRENT, *, same=False, detail=""):
    return Verdict(
        reference=parse(name),
        pinned=Digest.parse(OLD),
        remote=RemoteFact(state=state, digest=Digest.parse(NEW), detail=detail),
        disk=None,
        same_platform=same,
    )


def told(*verdicts, changes=(), unpinnable=None, left_alone=(), unneeded=None, refused=(), dryrun=False, **options):
    facts = Facts(
        verdicts=verdicts,
        changes=changes,
        unpinnable=unpinnable or {},
        left_alone=left_alone,
        unneeded=unneeded or {},
        refused=refused,
    )
    return lines(facts, Options(**options), lockfile="containers.lock", dryrun=dryrun)


def test_images_that_are_current_take_one_line_together():
    [line] = told(verdict("a"), verdict("b"))

    assert line.text == "apptainer-freshness: 2 images pinned by containers.lock (mode lock): 2 current"
    assert not line.problem


def test_a_workflow_without_containers_has_nothing_to_pin():
    assert told()[0].text == "apptainer-freshness: 0 images pinned by containers.lock (mode lock): nothing to pin"


def test_what_is_new_is_counted_as_added_and_not_as_asked_about():
    summary, added = told(
        Verdict(reference=parse("a"), pinned=Digest.parse(NEW), remote=UNCHECKED, disk=None),
        changes=[Change(reference="a", old=None, new=entry("a", NEW))],
    )

    assert summary.text.endswith(": 1 added")
    assert added.text == "  added: a → sha256:bbbbbbbbbbbb"


def test_a_dry_run_says_what_would_be_done():
    change = Change(reference="a", old=entry("a", OLD), new=entry("a", NEW))
    summary, updated = told(verdict("a"), changes=[change], dryrun=True, mode=Mode.UPDATE)

    assert summary.text.endswith("(mode update): 1 would be updated")
    assert updated.text == "  would be updated: a sha256:aaaaaaaaaaaa → sha256:bbbbbbbbbbbb"


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (RemoteState.UNTAGGED, "the tag is gone from the registry; its pinned digest is still served"),
        (RemoteState.LOST, "the pinned digest is no longer served"),
        (RemoteState.UNREACHABLE, "could not ask whether the tag moved: no route"),
    ],
)
def test_what_is_not_current_is_a_warning_of_its_own(state, said):
    summary, line = told(verdict("a", state, detail="no route"))

    assert summary.text.endswith(f": 1 {state}")
    assert line.text.startswith(f"  {state}: a: {said}")
    assert line.problem


def test_a_tag_that_moved_is_told_with_both_digests_and_both_ways_on():
    summary, moved, ways = told(verdict("docker://a", RemoteState.MOVED))

    assert summary.text.endswith(": 1 moved")
    assert moved.text == "  moved: docker://a: sha256:aaaaaaaaaaaa → sha256:bbbbbbbbbbbb"
    assert ways.text == (
        "    the pin stays; take this one: apptainer-freshness lock --upgrade-image docker://a; "
        "take all: snakemake … --config apptainer_freshness=update"
    )
    assert moved.problem
    assert ways.problem


def test_a_move_that_stops_the_run_does_not_say_that_the_pin_stays():
    _, moved, ways = told(verdict("a", RemoteState.MOVED), refused=["a"], on_moved=Reaction.ERROR)

    assert moved.text.endswith("; on_moved is error: this run stops")
    assert ways.text.startswith("    take this one: ")


def test_a_host_that_cannot_be_asked_takes_one_line_for_all_its_images():
    down = [verdict(name, RemoteState.UNREACHABLE, detail="q.io did not answer in time") for name in "abcd"]
    summary, host, other = told(*down, verdict("e", RemoteState.UNREACHABLE, detail="no route"))

    assert summary.text.endswith(": 5 unreachable")
    assert host.text == (
        "  unreachable: a, b, c and 1 more: could not ask whether 4 tags moved: q.io did not answer in time"
    )
    assert other.text == "  unreachable: e: could not ask whether the tag moved: no route"


def test_the_summary_is_silenced_no_sooner_than_the_lines_below_it():
    quiet = keep_summary_visible(told(verdict("a")))
    loud = keep_summary_visible(told(verdict("a", RemoteState.LOST)))

    assert [line.problem for line in quiet] == [False]
    assert [line.problem for line in loud] == [True, True]


def test_a_move_that_does_not_change_this_platforms_image_says_so():
    assert "the image for this platform is the same" in told(verdict("a", RemoteState.MOVED, same=True))[1].text


def test_moves_can_be_ignored():
    assert len(told(verdict("a", RemoteState.MOVED), on_moved=Reaction.IGNORE)) == 1


def test_what_cannot_be_pinned_is_told_with_the_reason_unless_that_is_ignored():
    assert told(unpinnable={"box": "a folder"})[1].text == "  unpinnable: box: a folder"
    assert len(told(unpinnable={"box": "a folder"}, on_unpinnable=Reaction.IGNORE)) == 1


def test_what_a_command_that_runs_no_job_left_alone_is_counted():
    assert told(left_alone=["a"])[0].text.endswith(": 1 not in the lock")


def test_what_a_registry_said_beside_its_answer_is_a_note():
    assert told(verdict("a", detail="via a mirror"))[1].text == "  note: a: via a mirror"


@pytest.mark.parametrize("name", ["docker://quay.io/a/b", "docker://quay.io/a/b:latest", "oras://ghcr.io/a/b"])
def test_a_new_pin_whose_name_says_no_version_is_a_warning(name):
    change = Change(reference=name, old=None, new=entry(name, NEW))
    warning = told(changes=[change])[-1]

    assert warning.problem
    assert warning.text.startswith(f"  no version: {name}: ")
    assert len(told(changes=[change], policy={"tags": {"refuse": ["dev"]}})) == 2  # the policy decides


def test_a_new_pin_whose_name_says_a_version_is_none():
    names = ["docker://quay.io/a/b:1.0", f"docker://quay.io/a/b@{NEW}", "images/latest"]

    assert not any(
        line.problem for line in told(changes=[Change(reference=n, old=None, new=entry(n, NEW)) for n in names])
    )


def test_what_no_job_needs_and_could_not_be_pinned_takes_one_line_a_reason():
    summary, gone, missing = told(unneeded={"a": "no such\ntag"} | dict.fromkeys("bcdef", "not in the lock"))

    assert summary.text.endswith(": 6 not pinned")
    assert gone.text == "  not pinned, no job needs it: a: no such tag"
    assert missing.text == "  not pinned, no job needs them: b, c, d and 2 more: not in the lock"
    assert missing.problem


def remembered(name, minutes, state=RemoteState.CURRENT):
    at = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    found = verdict(name, state)
    return replace(found, remote=replace(found.remote, asked_at=at))


def test_where_nobody_was_asked_just_now_the_longest_age_is_told():
    [line] = told(remembered("a", 2), remembered("b", 3))
    assert line.text.endswith(": 2 current (asked 3 min ago)")


def test_of_answers_of_which_some_are_remembered_it_is_told_how_many():
    [line] = told(remembered("a", 2), verdict("b"))
    assert line.text.endswith(": 2 current (1 of them asked 2 min ago)")


def test_a_tag_that_had_moved_a_while_ago_is_told_with_the_age_of_the_answer():
    line = told(remembered("a", 2, RemoteState.MOVED))[1]
    assert line.text == "  moved: a: sha256:aaaaaaaaaaaa → sha256:bbbbbbbbbbbb (asked 2 min ago)"
