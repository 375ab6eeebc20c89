"""Each check on the way of an image to a job is what stops its attack: without it, the attack succeeds.

First the pull through Apptainer's cache, which belongs to no check but ours; then the run, which provides what its jobs
need before any of them starts.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import pytest

from snakemake_apptainer_freshness.engine import containers, images
from snakemake_apptainer_freshness.engine.guard import Guard
from snakemake_apptainer_freshness.errors import FreshnessError, TagMoved, UnprovenImage
from snakemake_apptainer_freshness.freshness import RemoteState, Verdict
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.settings import Mode, Options, Reaction
from snakemake_apptainer_freshness.store import facts, pull, state
from tests.support import pins, sifs
from tests.support.mutants import mutant, unchecked
from tests.support.pulls import PIN, SOUND, Pull

EVIL = sifs.pulled(f"{pins.REPOSITORY}@{PIN.digest}", content=sifs.squashfs(filler=b"\x66"))


# --- The pull through a cache -----------------------------------------------------------------------------------------


class CachedPull(Pull):
    """A pull with a cache that another user may write; its stand-in reuses and builds as Apptainer does."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.fake.serve(PIN, SOUND)
        self.layers = self.blobs()
        (folder / "sound").write_bytes(self.layers[-1].read_bytes())
        (folder / "evil").write_bytes(EVIL)
        self.place = self.entry(b"")
        self.place.unlink()

    def is_fooled(self, module: ModuleType, *, before: str = "", reuse: str = "") -> bool:
        """Whether the evil image is obtained; `before` is what happens before the pull, `reuse` what it says."""
        folder = self.temporary.parent
        self.fake.behave(f"""
            {before}
            if [ "$past_cache" ]; then cp "$image" "$destination"
            elif [ -e {self.place} ]; then cp {self.place} "$destination"; echo "{reuse}"
            elif cmp -s {self.layers[-1]} {folder}/sound; then cp "$image" "$destination"
            else cp {folder}/evil "$destination"; fi
            """)
        with contextlib.suppress(FreshnessError):
            return self(module=module).sha256 == hashlib.sha256(EVIL).hexdigest()
        return False


def image_put_into_the_cache_before(folder: Path, module: ModuleType) -> bool:
    """By an Apptainer that does not say, as ours listens for, that it reused it."""
    puller = CachedPull(folder)
    puller.entry(EVIL)
    return puller.is_fooled(module)


def image_put_into_the_cache_at_the_same_time(folder: Path, module: ModuleType) -> bool:
    puller = CachedPull(folder)
    put = f"cp {folder}/evil {puller.place}"
    return puller.is_fooled(module, before=put, reuse="INFO:    Using cached SIF image")


def layer_in_the_cache_that_is_another(folder: Path, module: ModuleType) -> bool:
    puller = CachedPull(folder)
    puller.layers[-1].write_bytes(b"evil")
    return puller.is_fooled(module)


def manifest_and_layers_that_the_cache_lost_after_the_build(folder: Path, module: ModuleType) -> bool:
    """What it was built from cannot be looked at any more."""
    puller = CachedPull(folder)
    puller.layers[-1].write_bytes(b"evil")
    return puller.is_fooled(module, before=f"rm {puller.layers[0]}")


def image_of_the_size_of_a_proven_one(folder: Path, module: ModuleType) -> bool:
    puller = CachedPull(folder)
    puller.entry(EVIL)
    facts.keep(pins.fact_of(SOUND, PIN))
    puller.fake.behave("exit 1")
    with contextlib.suppress(FreshnessError):
        return bool(puller(module=module)) and puller.temporary.read_bytes() == EVIL
    return False


PULLS = [
    (image_put_into_the_cache_before, "            _make_room(pin, cache, note)\n", ""),
    (image_put_into_the_cache_at_the_same_time, "            if reused:\n", "            if False:\n"),
    (
        layer_in_the_cache_that_is_another,
        "            _prove_blobs(pin, cache, source, note)\n            _rem",
        "            _rem",
    ),
    (layer_in_the_cache_that_is_another, "    if damaged:\n", "    if False:\n"),
    (
        manifest_and_layers_that_the_cache_lost_after_the_build,
        "    if damaged is None:\n        raise",
        "    if damaged is None:\n        return\n        raise",
    ),
    (
        image_of_the_size_of_a_proven_one,
        "fact = facts.proving(proven, _copy(path, temporary, may_link=may_link))",
        "fact = _copy(path, temporary, may_link=may_link) and proven[0]",
    ),
]


# --- What a run provides ----------------------------------------------------------------------------------------------


class Run:
    """A run with one image, proven and in its place, whose Snakemake would go on once its images are provided."""

    def __init__(self, folder: Path, *, is_local: bool = False) -> None:
        self.image = pins.put(folder, pins.pin())
        pins.record(self.image, pins.pin())
        self.is_local = is_local
        self.workflow = SimpleNamespace(dryrun=False, touch=False, local_exec=True)

    def alter(self) -> None:
        pins.flip_seven_bytes(self.image)
        os.utime(self.image, (time.time() - 30, time.time() - 30))

    def provide(self, module: ModuleType, *verdicts: tuple[Verdict, ...]) -> bool:
        """Have the image provided, by `module`, once for each of `verdicts` on the references that jobs need then."""
        url, options = pins.pin().url, Options(mode=Mode.FROZEN, on_moved=Reaction.ERROR)
        guard = Guard(
            pins.pin(), self.image, options=options, hashes={}, on_image=lambda *_: None, is_local=self.is_local
        )
        of_workflow = SimpleNamespace(folder=self.image.parent, what_next="", guards=lambda: {url: guard})
        with mock.patch.object(containers, "of", return_value=of_workflow):
            provider = module.Images(self.workflow, options, main=True)
        return all(provider.provide({url: pins.pin()}, lambda: True, {url: each}) for each in verdicts)

    def goes_on(self, module: ModuleType, *verdicts: tuple[Verdict, ...]) -> bool:
        """Whether Snakemake goes on then."""
        with contextlib.suppress(FreshnessError):
            return self.provide(module, *verdicts)
        return False


def verdict(tag: str, remote: RemoteState) -> Verdict:
    reference = parse(f"docker://{pins.REPOSITORY}:{tag}")
    return Verdict(reference=reference, pinned=pins.DIGEST, remote=pins.remote_fact(remote, pins.OTHER))


CURRENT = verdict("a", RemoteState.CURRENT)
MOVED = verdict("b", RemoteState.MOVED)


def altered_image(folder: Path, module: ModuleType) -> bool:
    run = Run(folder)
    run.alter()
    return run.goes_on(module, (CURRENT,))


def altered_image_of_the_users_own(folder: Path, module: ModuleType) -> bool:
    run = Run(folder, is_local=True)
    run.alter()
    return run.goes_on(module, (CURRENT,))


def tag_that_moved(folder: Path, module: ModuleType) -> bool:
    return Run(folder).goes_on(module, (CURRENT, MOVED))


def tag_that_moved_and_is_needed_after_another_of_its_image(folder: Path, module: ModuleType) -> bool:
    return Run(folder).goes_on(module, (CURRENT,), (CURRENT, MOVED))


NOTHING_REFUSED = "nothing is refused"
MOVED_LATER = "Images.provide: (moved := self._moved((url for url in guards if url not in needed)))"
UNPROVEN = (
    "Images._carry_out: (bad := [(pin, self.facts[pin.url]) for pin, reason in refused.items() "
    "if reason is not Reason.MOVED])"
)
REFUSED = "Images._carry_out: refused"
RUNS = unchecked(images) | {
    NOTHING_REFUSED: mutant(images, "if decision.action is Action.REFUSE}", "if decision is None}")
}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two folders, each for a user of its own."""

    def new(name: str) -> Path:
        (tmp_path / name).mkdir()
        monkeypatch.setenv(state.VARIABLE, str(tmp_path / f"state {name}"))
        return tmp_path / name

    return new


@pytest.mark.parametrize(("attack", "old", "new"), PULLS, ids=[f"{row[0].__name__}-{row[1].strip()}" for row in PULLS])
def test_without_its_check_another_image_is_pulled(attack, old, new, folders):
    assert not attack(folders("with"), pull)
    assert attack(folders("without"), mutant(pull, old, new))


@pytest.mark.parametrize(
    ("attack", "check"),
    [
        (altered_image, NOTHING_REFUSED),
        (altered_image_of_the_users_own, NOTHING_REFUSED),
        (tag_that_moved, NOTHING_REFUSED),
        (tag_that_moved, REFUSED),
        (tag_that_moved_and_is_needed_after_another_of_its_image, MOVED_LATER),
    ],
)
def test_without_its_check_a_run_goes_on(attack, check, folders):
    assert not attack(folders("with"), images)
    assert attack(folders("without"), RUNS[check])


def test_without_its_check_an_altered_image_is_told_as_a_tag_that_moved(folders):
    altered = Run(folders("altered"))
    altered.alter()
    with pytest.raises(UnprovenImage, match="is altered"):
        altered.provide(images, (CURRENT,))
    with pytest.raises(TagMoved):
        altered.provide(RUNS[UNPROVEN], (CURRENT,))


def test_every_refusal_of_a_run_has_its_attack():
    assert set(RUNS) == {NOTHING_REFUSED, MOVED_LATER, UNPROVEN, REFUSED}
