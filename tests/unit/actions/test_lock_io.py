"""The file of a lock: read strictly, written whole, by one at a time."""

import stat

import pytest

from snakemake_apptainer_freshness.actions import lock_io
from snakemake_apptainer_freshness.actions.lock_io import read_lock, write_lock
from snakemake_apptainer_freshness.errors import InvalidLock, LocalIOError, NotLocked
from snakemake_apptainer_freshness.lockfile import Lock
from tests.support.pins import lock_entry

OLD, NEW = ("sha256:" + letter * 64 for letter in "ab")


def entry(text, digest):
    return lock_entry(reference=text, digest=digest)


def test_a_lock_that_is_not_there_is_empty(tmp_path):
    assert read_lock(tmp_path / "containers.lock") == Lock()


def test_a_lock_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "containers.lock").write_bytes(b"\xff\xfe")

    with pytest.raises(InvalidLock, match="not UTF-8"):
        read_lock(tmp_path / "containers.lock")


def test_a_folder_at_the_locks_place_is_told(tmp_path):
    (tmp_path / "containers.lock").mkdir()

    with pytest.raises(InvalidLock, match="it is a folder"):
        read_lock(tmp_path / "containers.lock")


def test_writing_keeps_what_another_run_added_meanwhile(tmp_path):
    path = tmp_path / "containers.lock"
    mine, theirs = entry("docker://q.io/a:1", NEW), entry("docker://q.io/b:1", NEW)
    write_lock(path, before=Lock(), after=Lock.of([theirs]))

    write_lock(path, before=Lock(), after=Lock.of([mine]))

    assert read_lock(path) == Lock.of([mine, theirs])
    assert [file.name for file in tmp_path.iterdir()] == ["containers.lock"]


def test_two_runs_that_pin_one_reference_elsewhere_do_not_overwrite_each_other(tmp_path):
    path = tmp_path / "containers.lock"
    write_lock(path, before=Lock(), after=Lock.of([entry("docker://q.io/a:1", NEW)]))

    with pytest.raises(NotLocked, match="another run changed the pin"):
        write_lock(path, before=Lock(), after=Lock.of([entry("docker://q.io/a:1", OLD)]))

    assert read_lock(path) == Lock.of([entry("docker://q.io/a:1", NEW)])


def test_nothing_is_written_where_nothing_changed(tmp_path):
    path = tmp_path / "absent" / "containers.lock"

    write_lock(
        path,
        before=Lock.of([entry("docker://q.io/a:1", OLD)]),
        after=Lock.of([entry("docker://q.io/a:1", OLD)]),
    )

    assert not path.exists()


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(LocalIOError):
        write_lock(
            tmp_path / "absent" / "containers.lock",
            before=Lock(),
            after=Lock.of([entry("docker://q.io/a:1", NEW)]),
        )


def test_the_lock_keeps_its_mode(tmp_path):
    path = tmp_path / "containers.lock"
    path.write_text("version = 1\n")
    path.chmod(0o640)

    write_lock(path, before=Lock(), after=Lock.of([entry("docker://q.io/a:1", NEW)]))

    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_lock_that_is_larger_than_any_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lock_io, "_LARGEST_LOCK", 10)
    (tmp_path / "containers.lock").write_text("version = 1\n")

    with pytest.raises(InvalidLock, match="larger than 10 bytes"):
        read_lock(tmp_path / "containers.lock")


def test_what_was_taken_out_of_a_lock_goes_and_the_rest_stays(tmp_path):
    path = tmp_path / "containers.lock"
    both = Lock.of([entry("docker://q.io/a:1", NEW), entry("docker://q.io/b:1", NEW)])
    one = Lock.of([entry("docker://q.io/b:1", NEW)])
    write_lock(path, before=Lock(), after=both)

    assert write_lock(path, before=both, after=one) == one
    assert read_lock(path) == one


def test_a_lock_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "containers.lock"
    write_lock(path, before=Lock(), after=Lock.of([entry("docker://q.io/a:1", NEW)]))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lock_io, "write_atomically", full)
    with pytest.raises(LocalIOError, match="No space left on device"):
        write_lock(path, before=Lock(), after=Lock.of([entry("docker://q.io/b:1", NEW)]))
    assert read_lock(path) == Lock.of([entry("docker://q.io/a:1", NEW)])
