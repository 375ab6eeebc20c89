"""What the disk says of each pin, and what it costs to ask."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.actions import check as module
from snakemake_apptainer_freshness.actions.check import check, check_one, check_settled
from snakemake_apptainer_freshness.common import files
from snakemake_apptainer_freshness.common.files import StatKey
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.store import clock, places
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import sifs
from tests.support.fake_apptainer import python, unprivileged
from tests.support.pins import DIGEST, OTHER, REPOSITORY, flip_seven_bytes, pin, put, record, settle


def state(image, wanted=None, **how) -> str:
    return check_one(wanted or pin(), image, **how).state


@pytest.fixture
def old(monkeypatch):
    """As if images that are made now were hashed a minute later."""
    real = clock.time_in
    monkeypatch.setattr(clock, "time_in", lambda folder: real(folder) + 60_000_000_000)


def test_each_pin_gets_its_word(tmp_path):
    def of(number: int):
        return pin(replace(DIGEST, hex=f"{number:064x}"))

    record(put(tmp_path, of(0)), of(0))
    put(tmp_path, of(1))
    put(tmp_path, of(2), sifs.pulled(f"{REPOSITORY}:1.0"))
    put(tmp_path, of(3), sifs.pulled(f"{REPOSITORY}@{OTHER}"))
    flip_seven_bytes(altered := put(tmp_path, of(4)))
    record(altered, of(4))
    flip_seven_bytes(altered)
    altered.write_bytes(sifs.pulled(f"{REPOSITORY}@{of(4).digest}", image_id=b"x" * 16))
    put(tmp_path, of(5), b"")

    facts = check([of(number) for number in range(7)], tmp_path)

    assert [fact.state for fact in facts.values()] == [
        "verified", "bound", "unbound", "stale", "altered", "corrupt", "absent",
    ]  # fmt: skip
    assert list(facts) == [of(number).url for number in range(7)]
    assert all(fact.path == str(image_path(tmp_path, url)) and fact.detail for url, fact in facts.items())


def test_a_recorded_image_is_not_opened_again(tmp_path, old, monkeypatch):
    image = put(tmp_path, pin())
    record(image, pin())
    assert state(image) == "verified"

    monkeypatch.setattr(module, "opened", lambda path: pytest.fail(f"{path} was opened"))

    assert state(image) == "verified"
    assert check([pin()], tmp_path)[pin().url].detail == "untouched since its SHA-256 was checked"


def test_a_full_check_opens_it(tmp_path, old):
    image = put(tmp_path, pin())
    record(image, pin())
    settle(image)
    files_times = image.stat()
    flip_seven_bytes(image)
    os.utime(image, ns=(files_times.st_atime_ns, files_times.st_mtime_ns))
    settle(image)  # as if the change had left no trace
    assert state(image) == "verified"
    assert check([pin()], tmp_path, full=True)[pin().url].state == "altered"


def test_a_file_touched_within_two_seconds_of_hashing_is_not_trusted_by_its_stat_key(tmp_path):
    image = put(tmp_path, pin())  # its ctime is now
    record(image, pin())
    assert state(image) == "verified"
    known = places.load(image)
    assert known is not None
    assert known.stat is None


def test_after_two_seconds_it_is(tmp_path):
    image = put(tmp_path, pin())
    record(image, pin())
    time.sleep(2.1)
    assert state(image) == "verified"
    known = places.load(image)
    assert known is not None
    assert known.stat is not None


def test_an_image_that_was_just_fetched_is_hashed_once_for_all_looks_that_follow(tmp_path, monkeypatch):
    image = put(tmp_path, pin())
    record(image, pin())
    [fact] = check_settled([pin()], tmp_path).values()
    assert fact.known is not None
    assert fact.known.stat == StatKey.of(image.lstat())

    monkeypatch.setattr(module, "opened", lambda path: pytest.fail(f"{path} was opened"))
    assert state(image) == "verified"


def test_only_what_is_verified_then_is_told(tmp_path):
    image = put(tmp_path, pin())
    record(image, pin())
    flip_seven_bytes(image)
    assert check_settled([pin()], tmp_path) == {}
    assert check_settled([], tmp_path / "absent") == {}


def test_an_old_image_in_a_folder_that_cannot_be_written_is_hashed_once(tmp_path, monkeypatch):
    image = put(tmp_path, pin())
    record(image, pin())

    def refuse(_folder):
        raise PermissionError

    monkeypatch.setattr(clock, "time_in", refuse)
    assert state(image) == "verified"
    assert known_key(image) is None  # its times may be of this very moment
    monkeypatch.setattr(clock.time, "time_ns", lambda: time.clock_gettime_ns(time.CLOCK_REALTIME) + 3700 * 10**9)
    assert state(image) == "verified"
    assert known_key(image) == StatKey.of(image.lstat())


def known_key(image):
    """The stat key by which `image` is known."""
    known = places.load(image)
    assert known is not None
    return known.stat


def test_a_check_that_must_not_write_does_not(tmp_path, old):
    image = put(tmp_path, pin())
    record(image, pin())
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    folder = tmp_path.stat().st_mtime_ns
    assert state(image, remember=False) == "verified"
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    assert tmp_path.stat().st_mtime_ns == folder


def test_a_copied_folder_is_hashed_again_and_verified(tmp_path, old):
    image = put(tmp_path / "here", pin())
    record(image, pin())
    assert state(image) == "verified"
    subprocess.run(["cp", "-a", tmp_path / "here", tmp_path / "there"], check=True)
    fact = check([pin()], tmp_path / "there")[pin().url]
    assert fact.state == "verified"
    assert "SHA-256 is the one recorded" in fact.detail


def test_an_image_that_changes_while_it_is_read_is_not_believed(tmp_path, monkeypatch):
    image = put(tmp_path, pin())
    record(image, pin())

    def hash_and_meddle(file):
        result = files.sha256_of(file)
        flip_seven_bytes(image)
        return result

    monkeypatch.setattr(module, "sha256_of", hash_and_meddle)
    fact = check_one(pin(), image)
    assert (fact.state, fact.detail) == ("corrupt", "it changes while it is read")


def test_an_image_that_may_not_be_read_is_said(tmp_path):
    image = put(tmp_path, pin())
    image.chmod(0)
    code = (
        "from pathlib import Path; from tests.support.pins import pin;"
        "from snakemake_apptainer_freshness.actions.check import check;"
        f"f = check([pin()], Path({str(tmp_path)!r}))[pin().url]; print(f.state.value, f.detail)"
    )
    said = subprocess.run([*unprivileged(), *python(code)], capture_output=True, text=True, check=True).stdout
    assert said == "corrupt it cannot be read: Permission denied\n"


def test_a_folder_that_cannot_be_written_can_be_checked(tmp_path, monkeypatch):
    image = put(tmp_path, pin())
    record(image, pin())

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(clock, "time_in", refuse)
    assert state(image) == "verified"


def test_a_pin_that_stands_twice_is_asked_once(tmp_path):
    assert len(check([pin(), pin()], tmp_path)) == 1


def test_a_library_image_is_verified_by_its_own_hash(tmp_path):
    from hashlib import sha256

    content = sifs.pulled("", labels={})
    named = replace(DIGEST, hex=sha256(content).hexdigest())
    wanted = replace(pin(), pinned=parse(f"library://team/tool:sha256.{named.hex}"), digest=named, content=named)
    image = put(tmp_path, wanted, content)
    assert state(image, wanted) == "verified"
    flip_seven_bytes(image)
    assert state(image, wanted) == "stale"
