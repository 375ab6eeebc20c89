"""Locks: one process at a time."""

import threading

import pytest

from snakemake_apptainer_freshness.common import locks
from snakemake_apptainer_freshness.common.locks import exclusive, lock_path
from snakemake_apptainer_freshness.errors import LocalIOError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def test_a_lock_is_held_by_one_and_gone_afterwards(file):
    with exclusive(file):
        assert lock_path(file).exists()
        with pytest.raises(LocalIOError, match="waited too long"), exclusive(file, timeout=0.0):
            pass
    assert not lock_path(file).exists()


def test_waiting_for_a_lock_ends_when_it_is_told_to_stop(file):
    stop = threading.Event()
    stop.set()
    with exclusive(file), pytest.raises(InterruptedError), exclusive(file, stop=stop):
        pass


def test_a_lock_whose_holder_was_killed_before_it_could_say_who_it_is_is_removed(file, monkeypatch):
    monkeypatch.setattr(locks, "DISK", locks.DISK._replace(lock_unclaimed=0.3))
    lock_path(file).touch()

    with exclusive(file, timeout=5):
        pass

    assert not lock_path(file).exists()


def test_a_lock_whose_holder_has_had_no_time_to_say_who_it_is_is_waited_for(file):
    lock_path(file).touch()

    with pytest.raises(LocalIOError, match="waited too long"), exclusive(file, timeout=0.5):
        pass

    assert lock_path(file).exists()
