"""What a lock should say: what is added, moved, held back, removed, and left alone because it could not be seen."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.lock import EntryChange, LockRequest, PlatformChange, lock, plan
from snakemake_apptainer_freshness.actions.lock_io import read_lock, writer
from snakemake_apptainer_freshness.actions.workflow import RuleUse, Unseen, Workflow, of_references
from snakemake_apptainer_freshness.errors import InvalidLock, InvalidReference, NotFound, Unpinnable, UsageError
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from snakemake_apptainer_freshness.settings import DISK, Options, Reaction
from tests.support.pins import lock_entry

OLD, NEW, HERE, OTHER = ("sha256:" + letter * 64 for letter in "abcd")
PLATFORM = str(Platform.here())
A, B, GONE = "docker://q.io/a:1", "docker://q.io/b:1", "docker://q.io/gone:1"
UPGRADE = LockRequest(upgrade=("*",))


def entry(text, digest, here=HERE, platforms=None, **changes):
    platforms = platforms or ({PLATFORM: here} if here else {})
    return lock_entry(text, digest, platforms, **changes)


class World:
    """Registries that serve `entries`, else the digest NEW; remembers what it was asked."""

    warnings = ()

    def __init__(self, *entries, broken=()):
        self.entries = {one.reference: one for one in entries}
        self.broken = dict(broken)
        self.asked = []

    def resolve(self, references):
        for reference in references:
            self.asked.append(reference.text)
            answer = self.broken.get(reference.text) or self.entries.get(reference)
            yield reference, answer or entry(reference.text, NEW, OTHER)

    def check(self, entries):
        raise AssertionError("asked whether tags moved")


@pytest.fixture
def workflow(tmp_path):
    def make(*references, **changes):
        use = RuleUse(rule="r", snakefile=str(tmp_path / "Snakefile"), line=1)
        made = Workflow(
            snakefile=tmp_path / "Snakefile",
            workdir=tmp_path,
            lockfile=tmp_path / "containers.lock",
            options=Options(),
            prefix=tmp_path / "images",
            uses=dict.fromkeys(references, (use,)),
            unseen=(),
            outputs=(),
        )
        return replace(made, **changes)

    return make


def planned(workflow, *locked, wish=None, world=None):
    world = world or World()
    return plan(workflow, Lock.of(locked), wish or LockRequest(), registries=lambda: world)


def test_what_is_missing_is_added_and_no_pin_moves(workflow):
    world = World()
    found = planned(workflow(A, B), entry(A, OLD), world=world)

    assert world.asked == [B]
    assert found.after == Lock.of([entry(A, OLD), entry(B, NEW, OTHER)])
    assert [(one.what, one.reference) for one in found.differences] == [(EntryChange.ADDED, B)]


def test_a_check_asks_nobody_and_names_what_is_missing(workflow):
    world = World()
    found = planned(workflow(A, B), entry(A, OLD), wish=LockRequest(offline=True), world=world)

    assert world.asked == []
    assert (found.missing, found.differences, found.is_as_agreed) == ((B,), (), False)
    assert found.after == found.before


def test_a_complete_lock_is_as_agreed(workflow):
    assert planned(workflow(A), entry(A, OLD), wish=LockRequest(offline=True)).is_as_agreed
    assert not planned(workflow(A), entry(A, OLD), entry(GONE, OLD), wish=LockRequest(offline=True)).is_as_agreed


def test_another_spelling_of_a_locked_image_gets_its_pin(workflow):
    world = World()
    found = planned(workflow("docker://ubuntu"), entry("docker://docker.io/library/ubuntu:latest", OLD), world=world)

    assert world.asked == []
    assert str(found.after.get("docker://ubuntu").digest) == OLD


def test_an_upgrade_moves_the_pins_that_it_names_and_no_other(workflow):
    found = planned(workflow(A, B), entry(A, OLD), entry(B, OLD), wish=LockRequest(upgrade=("*/b:*",)))

    [one] = found.differences
    assert (one.what, one.reference, str(one.old.digest), str(one.new.digest)) == (EntryChange.UPDATED, B, OLD, NEW)
    assert one.platforms == {Platform.here(): PlatformChange.CHANGED}
    assert str(found.after.get(A).digest) == OLD


def test_an_upgrade_moves_every_spelling_of_an_image_so_that_the_lock_does_not_contradict_itself(workflow):
    spellings = ["docker://ubuntu", "docker://docker.io/library/ubuntu:latest"]
    locked = [entry(text, OLD) for text in spellings]
    found = planned(workflow(spellings[0]), *locked, wish=LockRequest(upgrade=("docker://ubuntu",)))

    assert {str(one.digest) for one in found.after} == {NEW}
    assert len(found.after) == 2


def test_an_index_with_the_same_image_for_this_platform_is_held_back(workflow):
    world = World(entry(A, NEW, HERE))
    found = planned(workflow(A), entry(A, OLD), wish=UPGRADE, world=world)

    assert (found.differences, found.after) == ((), found.before)
    [held] = found.held_back
    assert (str(held.old.digest), str(held.new.digest), held.platforms) == (
        OLD,
        NEW,
        {Platform.here(): PlatformChange.SAME},
    )
    assert found.is_as_agreed


def test_a_new_spelling_of_what_is_held_back_gets_the_old_pin(workflow):
    spellings = ["docker://ubuntu", "docker://docker.io/library/ubuntu:latest"]
    found = planned(
        workflow(*spellings), entry(spellings[0], OLD), wish=UPGRADE, world=World(entry("docker://ubuntu", NEW))
    )

    assert {str(one.digest) for one in found.after} == {OLD}


def test_it_is_taken_where_that_is_asked_for(workflow):
    wish = LockRequest(upgrade=("*",), take_same_platform=True)
    found = planned(workflow(A), entry(A, OLD), wish=wish, world=World(entry(A, NEW, HERE)))

    assert str(found.after.get(A).digest) == NEW
    assert found.held_back == ()


@pytest.mark.parametrize(
    ("old", "new", "held"),
    [
        (entry(A, HERE, None), entry(A, NEW, HERE), True),
        (entry(A, OLD, HERE), entry(A, HERE, None), True),
        (entry(A, OLD, None), entry(A, NEW, None), False),
        (entry(A, OLD, None), entry(A, NEW, HERE), False),
        (entry(A, OLD, platforms={"linux/s390x": HERE}), entry(A, NEW, platforms={"linux/s390x": HERE}), False),
    ],
    ids=["index around it", "out of the index", "both lone", "another index", "not for this platform"],
)
def test_a_lone_manifest_is_the_image_of_every_platform(workflow, old, new, held):
    found = planned(workflow(A), old, wish=UPGRADE, world=World(new))

    assert bool(found.held_back) is held
    assert bool(found.differences) is not held


def test_other_hints_for_the_same_image_change_nothing(workflow):
    world = World(entry(A, OLD, hints={"etag": "another"}))

    assert planned(workflow(A), entry(A, OLD), wish=UPGRADE, world=world).differences == ()


def test_orphans_are_told_and_removed_where_that_is_wished(workflow):
    kept = planned(workflow(A), entry(A, OLD), entry(GONE, OLD))
    pruned = planned(workflow(A), entry(A, OLD), entry(GONE, OLD), wish=LockRequest(prune=True))

    assert (kept.orphans, kept.differences) == ((GONE,), ())
    assert [(one.what, one.reference) for one in pruned.differences] == [(EntryChange.REMOVED, GONE)]
    assert list(pruned.after.entries) == [A]


def test_nothing_is_an_orphan_while_a_rule_could_not_be_seen(workflow):
    unseen = (Unseen(rule="dynamic", why="no job"),)
    found = planned(workflow(A, unseen=unseen), entry(A, OLD), entry(GONE, OLD), wish=LockRequest(prune=True))

    assert (found.orphans, found.unclear, found.differences) == ((), (GONE,), ())


def test_a_lock_is_not_as_agreed_while_a_rule_could_not_be_seen_unless_that_is_allowed(workflow):
    blind = workflow(A, unseen=(Unseen(rule="dynamic", why="no job"), Unseen(rule="", why="no DAG")))
    refused = planned(blind, entry(A, OLD), wish=LockRequest(offline=True))
    allowed = planned(blind, entry(A, OLD), wish=LockRequest(offline=True, allow_unseen=True))

    assert (refused.unseen, refused.is_as_agreed) == (("dynamic",), False)
    assert (allowed.unseen, allowed.is_as_agreed) == ((), True)


def test_references_alone_are_added_beside_what_is_locked(tmp_path):
    locked = Lock.of([entry(A, OLD)])
    named = of_references([B], locked=locked.entries, lockfile=tmp_path / "containers.lock", prefix=tmp_path)
    found = planned(named, *locked)
    moved = planned(named, *locked, entry(B, OLD), wish=LockRequest(upgrade=(B,)))

    assert found.after == Lock.of([entry(A, OLD), entry(B, NEW, OTHER)])
    assert (found.orphans, found.unclear) == ((), ())
    assert moved.after == found.after


def test_a_dag_that_cannot_be_built_hides_no_orphan_where_no_rule_needs_it(workflow):
    unseen = (Unseen(rule="", why="no DAG"),)

    assert planned(workflow(A, unseen=unseen), entry(GONE, OLD)).orphans == (GONE,)


def test_an_upgrade_of_all_includes_what_unseen_rules_may_name(workflow):
    unseen = (Unseen(rule="dynamic", why="no job"),)
    found = planned(workflow(A, unseen=unseen), entry(A, OLD), entry(GONE, OLD), wish=UPGRADE)

    assert [one.reference for one in found.differences] == [A, GONE]
    assert [
        one.reference for one in planned(workflow(A), entry(A, OLD), entry(GONE, OLD), wish=UPGRADE).differences
    ] == [A]


@pytest.mark.parametrize(("pattern", "meant"), [("salmon", " (did you mean '*salmon*'?)"), ("*gone*", "")])
def test_a_pattern_that_matches_nothing_is_an_error_that_helps(workflow, pattern, meant):
    with pytest.raises(UsageError) as caught:
        planned(workflow("docker://q.io/salmon:1"), entry(GONE, OLD), wish=LockRequest(upgrade=(pattern,)))

    assert caught.value.message == f"the pattern {pattern} matches no image of this workflow{meant}"


def test_one_that_cannot_be_pinned_stops_no_other_and_keeps_its_entry(workflow):
    world = World(broken={B: NotFound("no such tag")})
    found = planned(workflow(A, B, "docker://q.io/NO"), entry(B, OLD), wish=UPGRADE, world=world)

    assert [one.reference for one in found.differences] == [A]
    assert str(found.after.get(B).digest) == OLD
    assert {text: type(error) for text, error in found.failures.items()} == {
        B: NotFound,
        "docker://q.io/NO": InvalidReference,
    }
    assert not found.is_as_agreed


@pytest.mark.parametrize("offline", [True, False])
def test_what_has_no_digest_is_told_or_refused_as_the_options_say(workflow, offline):
    hub = "shub://team/tool"
    world = World(broken={hub: Unpinnable("has no digest")})
    wish = LockRequest(offline=offline)

    assert list(planned(workflow(hub), wish=wish, world=world).unpinnable) == [hub]
    strict = planned(workflow(hub, options=Options(on_unpinnable=Reaction.ERROR)), wish=wish, world=world)
    assert isinstance(strict.failures[hub], Unpinnable)


def test_local_images_are_looked_for_in_the_workflows_folder(workflow, tmp_path):
    seen = []

    class Here(World):
        def resolve(self, references):
            seen.append(Path.cwd())
            return super().resolve(references)

    (tmp_path / "elsewhere").mkdir()
    planned(workflow(A, workdir=tmp_path / "elsewhere"), world=Here())

    assert seen == [tmp_path / "elsewhere"]
    assert Path.cwd() != tmp_path / "elsewhere"


# --- Writing ------------------------------------------------------------------------------------------------------


def test_the_lock_is_written_once_and_then_left_alone(workflow):
    flow, world = workflow(A), World()
    first = lock(flow, LockRequest(), registries=lambda: world)
    status = flow.lockfile.stat()
    second = lock(flow, LockRequest(), registries=lambda: world)

    assert read_lock(flow.lockfile) == first.after == second.after
    assert flow.lockfile.stat().st_mtime_ns == status.st_mtime_ns
    assert second.differences == ()


def test_a_second_writer_waits_is_told_and_sees_what_the_first_wrote(workflow, monkeypatch):
    monkeypatch.setattr("snakemake_apptainer_freshness.common.locks.DISK", DISK._replace(lock_patience=0.0))
    flow, world, told = workflow(A, B), World(), []
    holding, go = threading.Event(), threading.Event()

    def first():
        with writer(flow.lockfile) as write:
            holding.set()
            go.wait(10)
            write(Lock.of([entry(A, OLD), entry(GONE, OLD)]))

    thread = threading.Thread(target=first)
    thread.start()
    holding.wait(10)
    found = lock(flow, LockRequest(), registries=lambda: world, waiting=lambda who: (told.append(who), go.set()))
    thread.join()

    assert told
    assert told[0].startswith("process ")
    assert {one.reference.text: str(one.digest) for one in read_lock(flow.lockfile)} == {A: OLD, B: NEW, GONE: OLD}
    assert [one.reference for one in found.differences] == [B]


def test_an_interruption_leaves_the_lock_as_it_was_and_no_other_file(workflow, tmp_path):
    class Interrupted(World):
        def resolve(self, references):
            raise KeyboardInterrupt

    flow = workflow(A, B)
    flow.lockfile.write_text(dumps(Lock.of([entry(A, OLD)])))
    before = flow.lockfile.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        lock(flow, LockRequest(), registries=Interrupted)

    assert flow.lockfile.read_bytes() == before
    assert list(tmp_path.iterdir()) == [flow.lockfile]


def test_a_lock_of_a_newer_version_is_not_touched(workflow):
    flow = workflow(A)
    flow.lockfile.write_text("version = 2\n")
    with pytest.raises(InvalidLock, match="has version 2"):
        lock(flow, LockRequest(), registries=World)

    assert flow.lockfile.read_text() == "version = 2\n"
