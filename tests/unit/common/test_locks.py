"""Locks: one process at a time."""

import threading

import pytest

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
