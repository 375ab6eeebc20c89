"""What is found across the runs, and what is a matter of course."""

import hashlib
import subprocess
from dataclasses import replace

from snakemake_apptainer_freshness.audit.findings import SEVERITIES
from snakemake_apptainer_freshness.audit.results import FindingKind, Severity
from snakemake_apptainer_freshness.record.run import Ending, LockUsed
from tests.support import audits, records
from tests.support.audits import kinds, verdicts, with_digest


def test_every_kind_has_a_severity():
    assert set(SEVERITIES) == set(FindingKind)


def test_a_pin_that_moved_is_found_with_what_it_did(work):
    image = work.image()
    newer = with_digest(image, "newer")
    work.write(
        work.run(1, records.job(1, "count", work.output("a"), ran=image), images=(image,)),
        work.run(2, records.job(1, "count", work.output("b"), ran=newer), images=(newer,), mode="update"),
    )

    found = work.audit()

    assert kinds(found) == {"pin-moved": 1, "mixed-digests": 1}
    moved = next(one for one in found.findings if one.kind is FindingKind.PIN_MOVED)
    assert moved.subjects[0] == image.reference
    assert "sha256:d1d1d1d1d1d1" in moved.text
    mixed = next(one for one in found.findings if one.kind is FindingKind.MIXED_DIGESTS)
    assert mixed.subjects == ("a", "b")


def test_a_pin_that_goes_there_and_back_moved_twice(work):
    image = work.image()
    newer = with_digest(image, "newer")
    work.write(*(work.run(n, images=(one,)) for n, one in enumerate((image, newer, image), start=1)))

    assert kinds(work.audit()) == {"pin-moved": 2}


def test_an_index_that_moved_and_has_the_same_image_for_this_platform_is_a_note(work):
    image = work.image()
    newer = replace(with_digest(image, "newer"), manifest=image.manifest)
    work.write(work.run(1, images=(image,)), work.run(2, images=(newer,)))

    [moved] = work.audit().findings

    assert (moved.kind, moved.severity) == (FindingKind.PIN_MOVED, Severity.NOTE)


def test_a_tag_that_moved_while_the_pin_stayed_is_no_finding(work):
    image = replace(work.image(), remote="moved", points_at=audits.digest("newer"))
    work.write(work.run(1, records.job(1, "count", work.output("a"), ran=image), images=(image,)))

    assert work.audit().findings == ()


def test_a_rule_whose_wildcards_choose_its_image_is_not_mixed(work):
    one = work.image()
    two = with_digest(one, "two", reference="docker://quay.io/team/tool:2.0")
    jobs = [records.job(1, "count", work.output("a"), ran=one), records.job(2, "count", work.output("b"), ran=two)]
    work.write(work.run(1, *jobs, images=(one, two)))

    assert work.audit().findings == ()


def test_a_rule_whose_container_was_edited_between_runs_is_mixed(work):
    one = work.image()
    two = with_digest(one, "two", reference="docker://quay.io/team/tool:2.0")
    work.write(
        work.run(1, records.job(1, "count", work.output("a"), ran=one), images=(one,)),
        work.run(2, records.job(1, "count", work.output("b"), ran=two), images=(two,)),
    )

    assert kinds(work.audit()) == {"mixed-digests": 1}


def test_a_lock_that_was_never_committed_is_found_once_for_all_runs(work):
    image = work.image()
    never = LockUsed(path="containers.lock", sha256="ab" * 32, committed=False)
    work.write(*(work.run(number, images=(image,), lock=never) for number in (1, 2, 3)))

    found, first = work.audit().findings

    assert (found.kind, found.severity) == (FindingKind.LOCK_NOT_COMMITTED, Severity.WARNING)
    assert found.subjects == tuple(work.run(number).id for number in (2, 3))
    assert (first.kind, first.severity) == (FindingKind.LOCK_NOT_COMMITTED, Severity.NOTE)
    assert first.subjects == (work.run(1).id,)


def test_a_first_run_leaves_nothing_that_must_be_explained(work):
    image = work.image()
    made = LockUsed(path=str(work.folder / "containers.lock"), sha256="ab" * 32, committed=False)
    work.write(work.run(1, records.job(1, "count", work.output("a"), ran=image), images=(image,), lock=made))

    assert [one.severity for one in work.audit().findings] == [Severity.NOTE]


def test_a_lock_that_a_later_run_found_committed_needs_no_explanation(work):
    image = work.image()
    first, grown = (LockUsed(path="containers.lock", sha256=word * 32, committed=True) for word in ("ab", "cd"))
    locks = (first, replace(grown, committed=False), grown)
    work.write(*(work.run(number, images=(image,), lock=lock) for number, lock in enumerate(locks, start=1)))

    [found] = work.audit().findings

    assert (found.severity, found.subjects) == (Severity.NOTE, (work.run(2).id,))
    assert "committed afterwards" in found.text


def test_a_lock_that_is_committed_today_needs_no_explanation(work, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    path = work.folder / "containers.lock"
    path.write_bytes(b"version = 1\n")
    used = LockUsed(path=str(path), sha256=hashlib.sha256(b"version = 1\n").hexdigest(), committed=False)
    earlier = LockUsed(path=str(path), sha256="ab" * 32, committed=True)
    work.write(work.run(1, lock=earlier), work.run(2, lock=used))
    assert [one.severity for one in work.audit().findings] == [Severity.WARNING]

    author = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (("init", "-q"), ("add", "containers.lock"), (*author, "commit", "-qm", "a")):
        subprocess.run(["git", *command], cwd=work.folder, check=True)

    assert [one.severity for one in work.audit().findings] == [Severity.NOTE]


def test_a_pin_that_moved_with_a_committed_lock_is_a_note(work):
    image = work.image()
    newer = with_digest(image, "newer")
    old, new = (LockUsed(path="containers.lock", sha256=word * 32, committed=True) for word in ("ab", "cd"))
    work.write(
        work.run(1, records.job(1, "count", work.output("a"), ran=image), images=(image,), lock=old),
        work.run(2, records.job(1, "count", work.output("a"), ran=newer), images=(newer,), lock=new),
    )

    [moved] = work.audit().findings

    assert (moved.kind, moved.severity) == (FindingKind.PIN_MOVED, Severity.NOTE)
    assert moved.text.endswith("; its lock is committed")


def test_outputs_of_two_indexes_with_the_same_image_are_not_mixed(work):
    image = work.image()
    newer = replace(with_digest(image, "newer"), manifest=image.manifest)
    work.write(
        work.run(1, records.job(1, "count", work.output("a"), ran=image), images=(image,)),
        work.run(2, records.job(1, "count", work.output("b"), ran=newer), images=(newer,)),
    )

    assert kinds(work.audit()) == {"pin-moved": 1}


def test_whether_a_lock_was_committed_may_not_be_known(work):
    unknown = LockUsed(path="containers.lock", sha256="ab" * 32, committed=None)
    work.simple("a")
    work.write(work.run(2, lock=unknown), chained=False)

    found = work.audit()

    assert any("whether the lock was committed is not known of 1 run" in note for note in found.notes)
    assert "lock-not-committed" not in kinds(found)


def test_an_image_that_was_bad_then_is_found_by_its_run(work):
    bad = replace(work.image(), disk="corrupt")
    work.write(work.run(1, records.job(1, "count", work.output("a"), ran=bad), images=(bad,)))

    [found] = work.audit().findings

    assert (found.kind, found.subjects) == (FindingKind.BAD_IMAGE, ("a",))
    assert "that was corrupt then" in found.text


def test_a_failed_run_is_no_finding_and_one_without_an_end_is(work):
    image = work.image()
    work.write(
        work.run(1, images=(image,), ending=Ending.FAILED),
        work.run(2, images=(image,), ending=Ending.INTERRUPTED),
        work.run(3, images=(image,), ending=Ending.UNKNOWN, ended=""),
    )

    assert kinds(work.audit()) == {"run-unfinished": 1}


def test_many_outputs_of_one_fact_are_one_finding(work):
    bound = replace(work.image(recorded=False), disk="bound", sha256="")
    jobs = [records.job(n, "count", work.output(f"out{n}"), ran=bound) for n in range(20)]
    work.write(work.run(1, *jobs, images=(bound,)))

    [found] = work.audit().findings

    assert found.text.startswith("20 outputs of rule count were made by an image that was not proven")
    assert len(found.subjects) == 20
    assert set(verdicts(work.audit()).values()) == {"unproven"}


def test_the_worst_stands_first(work):
    work.simple("a", "b")
    work.write(work.run(2, ending=Ending.UNKNOWN, ended=""), chained=False)
    (work.folder / "b").write_text("edited")

    severities = [one.severity for one in work.audit().findings]

    assert severities == sorted(severities, key=list(Severity).index)
    assert severities[0] is Severity.ERROR
