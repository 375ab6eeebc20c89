"""Files: what is believed of one, and how one appears whole or not at all."""

import os
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.common.files import (
    NotAFile,
    StatKey,
    appearing,
    is_left_behind,
    opened,
    quarantine,
    read_small,
    sha256_of,
    status_of,
    unique,
    writable_by_all,
    write_atomically,
)
from snakemake_apptainer_freshness.common.tables import Damaged, Table
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.settings import DISK


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def key(path):
    return StatKey.of(status_of(path))


def test_a_key_changes_with_every_write(file):
    before = key(file)
    file.write_bytes(b"CONTENT")
    os.utime(file, ns=(before.mtime_ns, before.mtime_ns))

    assert not key(file).same_file(before)


def test_a_key_of_another_host_is_compared_without_its_device(file):
    before = key(file)

    assert before.same_file(replace(before, host="elsewhere", device=before.device + 1))
    assert not before.same_file(replace(before, device=before.device + 1))


STAT = frozenset({"stat"})


def test_a_key_is_settled_once_its_times_are_old_enough(file):
    newest = max(key(file).mtime_ns, key(file).ctime_ns)
    tick = int(DISK.settle * 1_000_000_000)

    assert not key(file).settled(newest + tick - 1)
    assert key(file).settled(newest + tick)


def test_a_key_is_read_as_it_was_written(file):
    assert StatKey.read(Table({"stat": key(file).to_dict()}, STAT), "stat") == key(file)


@pytest.mark.parametrize("change", [{"inode": "1"}, {"inode": True}, {"more": 1}, {"host": 1}])
def test_a_damaged_key_is_refused(file, change):
    with pytest.raises(Damaged, match=r"^stat(\.| has an unknown key)"):
        StatKey.read(Table({"stat": key(file).to_dict() | change}, STAT), "stat")


def test_a_key_that_is_null_is_none():
    assert StatKey.read(Table({"stat": None}, STAT), "stat") is None


@pytest.mark.parametrize("kind", ["folder", "link", "fifo"])
def test_only_a_regular_file_is_opened(tmp_path, file, kind):
    path = tmp_path / "other"
    {"folder": path.mkdir, "link": lambda: path.symlink_to(file), "fifo": lambda: os.mkfifo(path)}[kind]()

    with pytest.raises(NotAFile):
        status_of(path)
    with pytest.raises(NotAFile), opened(path):
        pass


def test_a_hash_starts_at_the_start_of_the_file(file):
    with opened(file) as content:
        content.read(3)
        assert sha256_of(content) == Digest.of(b"content").hex


def test_a_small_file_is_read_and_a_larger_one_is_refused_not_cut(file):
    assert read_small(file, 7) == b"content"
    with pytest.raises(ValueError, match="larger than 6 bytes"):
        read_small(file, 6)


def test_a_file_that_is_written_keeps_its_mode(file):
    file.chmod(0o640)
    write_atomically(file, b"new")

    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"new", 0o640)


def test_what_fails_halfway_leaves_the_old_file_and_nothing_else(file):
    def fail():
        with appearing(file) as new:
            new.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert file.read_bytes() == b"content"
    assert [path.name for path in file.parent.iterdir()] == ["file"]


def test_what_is_moved_aside_is_kept_under_a_name_that_says_so(file):
    aside = quarantine(file)

    assert aside is not None
    assert aside.name.startswith("file.quarantine-")
    assert aside.read_bytes() == b"content"
    assert quarantine(file) is None


def test_the_file_of_a_living_process_is_not_left_behind():
    assert not is_left_behind(f"x.partial-{unique().replace(str(os.getpid()), str(os.getppid()))}")
    assert is_left_behind(f"x.partial-{unique().replace(str(os.getpid()), str(2**30))}")
    assert not is_left_behind(f"x.partial-elsewhere-{2**30}-12345678")


@pytest.mark.parametrize(("mode", "writable"), [(0o100644, False), (0o100664, False), (0o100666, True)])
def test_anyone_may_write_where_the_mode_says_so(mode, writable):
    assert writable_by_all(mode) is writable


def test_a_name_that_no_file_can_have_is_no_file(tmp_path):
    with pytest.raises(NotAFile, match="a name that no file can have"):
        status_of(tmp_path / "a\0b")
