"""Pins of a run: what is taken from the lock, what is asked of registries, and what happens where neither helps."""

import threading

import pytest

from snakemake_apptainer_freshness import lockfile
from snakemake_apptainer_freshness.actions.pinning import DriftCheck, Pins
from snakemake_apptainer_freshness.errors import (
    NotFound,
    NotLocked,
    PinningFailed,
    TimedOut,
    Unpinnable,
)
from snakemake_apptainer_freshness.freshness import RemoteFact, RemoteState
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.settings import Mode, Options, PinKind, Reaction
from tests.support.pins import lock_entry, run_as

OLD, NEW, HERE = ("sha256:" + letter * 64 for letter in "abc")


def entry(text, digest):
    return lock_entry(
        reference=text,
        digest=digest,
        media_type="application/vnd.oci.image.index.v1+json",
        platforms={"linux/amd64": HERE},
    )


class World:
    """Registries whose every tag points at one digest, but for what is `broken`; remembers what it was asked."""

    def __init__(self, digest=NEW, broken=()):
        self.digest = digest
        self.broken = dict(broken)
        self.asked = []

    def resolve(self, references):
        for reference in references:
            self.asked.append(reference.text)
            error = self.broken.get(reference.text)
            yield reference, error or entry(reference.text, self.digest)

    def check(self, entries):
        for found in entries:
            self.asked.append(found.reference)
            yield found, RemoteFact(state=RemoteState.MOVED, digest=self.digest)


def pins(mode, *locked, world=None, **options):
    world = world or World()
    return Pins(
        options=Options(mode=mode, **options),
        lock=Lock.of(locked),
        lockfile="containers.lock",
        platform=Platform.parse("linux/amd64"),
        registries=lambda: world,
    )


def no_network():
    raise AssertionError("asked a registry")


@pytest.mark.parametrize("mode", [Mode.LOCK, Mode.LOCKED, Mode.FROZEN])
def test_a_pin_of_the_lock_is_taken_without_asking(mode):
    found = pins(mode, entry("docker://q.io/a:1", OLD))
    found.registries = no_network

    found.ensure(["docker://q.io/a:1"])

    assert found.pinned("docker://q.io/a:1") == f"docker://q.io/a@{OLD}"
    assert found.new_lock() == found.lock


def test_mode_lock_adds_what_is_missing_and_moves_no_pin():
    world = World(NEW)
    found = pins(Mode.LOCK, entry("docker://q.io/a:1", OLD), world=world)

    found.ensure(["docker://q.io/a:1", "docker://q.io/b:1"])

    assert world.asked == ["docker://q.io/b:1"]
    assert found.new_lock() == Lock.of([entry("docker://q.io/a:1", OLD), entry("docker://q.io/b:1", NEW)])


def test_mode_update_moves_every_pin():
    found = pins(Mode.UPDATE, entry("docker://q.io/a:1", OLD), world=World(NEW))

    found.ensure(["docker://q.io/a:1"])

    assert found.pinned("docker://q.io/a:1") == f"docker://q.io/a@{NEW}"
    assert found.new_lock() == Lock.of([entry("docker://q.io/a:1", NEW)])


@pytest.mark.parametrize("mode", [Mode.LOCKED, Mode.FROZEN])
def test_modes_that_never_write_refuse_what_the_lock_lacks(mode):
    found = pins(mode)
    found.registries = no_network

    with pytest.raises(PinningFailed, match=r"docker://q\.io/a:1: not in containers\.lock") as caught:
        found.ensure(["docker://q.io/a:1"])

    assert isinstance(caught.value.failures["docker://q.io/a:1"], NotLocked)


def test_a_reference_met_often_is_asked_about_once():
    world = World()
    found = pins(Mode.LOCK, world=world)

    found.ensure(["docker://q.io/a:1"] * 200)
    found.ensure(["docker://q.io/a:1"])

    assert world.asked == ["docker://q.io/a:1"]


def test_two_spellings_of_one_image_are_asked_about_once_and_stand_in_the_lock_as_written():
    world = World()
    found = pins(Mode.LOCK, world=world)

    found.ensure(["docker://busybox", "docker://docker.io/library/busybox:latest"])

    assert world.asked == ["docker://busybox"]
    assert list(found.new_lock().entries) == ["docker://busybox", "docker://docker.io/library/busybox:latest"]


def test_another_spelling_of_a_locked_image_gets_the_locked_pin_even_where_the_tag_moved():
    found = pins(Mode.LOCK, entry("docker://busybox", OLD))
    found.registries = no_network

    found.ensure(["docker://docker.io/library/busybox:latest"])

    assert found.pinned("docker://docker.io/library/busybox:latest") == f"docker://docker.io/library/busybox@{OLD}"
    assert lockfile.loads(lockfile.dumps(found.new_lock())) == found.new_lock()


def test_one_bad_image_does_not_hide_the_others():
    world = World(broken={"docker://q.io/b:1": NotFound("no such tag"), "docker://q.io/c:1": TimedOut("no answer")})
    found = pins(Mode.LOCK, world=world)

    with pytest.raises(PinningFailed) as caught:
        found.ensure(["docker://q.io/a:1", "docker://q.io/b:1", "docker://q.io/c:1", "docker://Q"])

    assert list(caught.value.failures) == ["docker://q.io/b:1", "docker://q.io/c:1", "docker://Q"]
    assert "docker://q.io/a:1" in found.entries


def test_what_cannot_be_pinned_is_an_error_only_for_who_needs_it():
    world = World(broken={"docker://q.io/b:1": NotFound("no such tag")})
    found = pins(Mode.LOCK, world=world)

    found.attempt(["docker://q.io/a:1", "docker://q.io/b:1"])
    found.ensure(["docker://q.io/a:1"])

    assert str(found.failures["docker://q.io/b:1"]) == "no such tag"
    assert list(found.table()) == ["docker://q.io/a:1"]
    with pytest.raises(PinningFailed, match="no such tag"):
        found.pinned("docker://q.io/b:1")
    assert world.asked == ["docker://q.io/a:1", "docker://q.io/b:1"]


def test_what_cannot_be_pinned_is_left_as_it_is_unless_that_is_an_error():
    world = World(broken={"shub://a/b": Unpinnable("Singularity Hub is gone")})
    tolerant = pins(Mode.LOCK, world=world)
    tolerant.ensure(["shub://a/b"])

    assert tolerant.pinned("shub://a/b") == "shub://a/b"
    assert tolerant.unpinnable == {"shub://a/b": "Singularity Hub is gone"}

    with pytest.raises(PinningFailed):
        pins(Mode.LOCK, world=world, on_unpinnable=Reaction.ERROR).ensure(["shub://a/b"])


@pytest.mark.parametrize("mode", [Mode.LOCKED, Mode.FROZEN])
def test_what_cannot_be_pinned_is_not_missing_from_the_lock(mode, tmp_path):
    found = pins(mode)
    found.registries = no_network

    found.ensure(["shub://a/b", str(tmp_path)])

    assert set(found.unpinnable) == {"shub://a/b", str(tmp_path)}


def test_a_command_that_runs_no_job_leaves_what_the_lock_lacks_alone():
    found = pins(Mode.FROZEN)
    found.tolerant = True
    found.registries = no_network

    found.ensure(["docker://q.io/a:1"])

    assert found.table() == {"docker://q.io/a:1": run_as("docker://q.io/a:1")}
    assert found.images() == {}


def test_rules_can_be_pinned_to_this_platforms_manifest():
    found = pins(Mode.LOCK, pin=PinKind.PLATFORM)

    assert found.pinned("docker://q.io/a:1") == f"docker://q.io/a@{HERE}"


def test_the_table_for_jobs_holds_what_is_pinned_and_what_cannot_be():
    world = World(broken={"shub://a/b": Unpinnable("gone")})
    found = pins(Mode.LOCK, world=world)
    found.ensure(["docker://q.io/a:1", "shub://a/b"])

    assert found.table() == {
        "docker://q.io/a:1": run_as("docker://q.io/a:1", f"docker://q.io/a@{NEW}", NEW),
        "shub://a/b": run_as("shub://a/b"),
    }
    assert list(found.images()) == [f"docker://q.io/a@{NEW}"]


def test_whether_tags_moved_is_asked_in_the_background():
    asked = threading.Event()

    class Slow(World):
        def check(self, entries):
            asked.wait(5)
            yield from super().check(entries)

    drift = DriftCheck(Slow)
    drift.ask([entry("docker://q.io/a:1", OLD)])
    asked.set()

    assert drift.facts()["docker://q.io/a:1"].state is RemoteState.MOVED


def test_registries_that_cannot_be_asked_at_all_are_unreachable():
    def none():
        raise TimedOut("the proxy does not answer")

    drift = DriftCheck(none)
    drift.ask([entry("docker://q.io/a:1", OLD)])

    fact = drift.facts()["docker://q.io/a:1"]
    assert (fact.state, fact.detail) == (RemoteState.UNREACHABLE, "the proxy does not answer")
