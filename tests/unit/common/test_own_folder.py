"""A folder of one's own stays the same folder, whatever its name leads to."""

import errno
import os
import subprocess
from types import SimpleNamespace

import pytest

from snakemake_apptainer_freshness.common.own_folder import folder_of, handles, own_folder, readable


def test_what_is_in_it_stays_there_when_it_is_renamed_and_another_is_put_in_its_place(tmp_path):
    with own_folder(tmp_path / "own") as own:
        (own / "file").write_text("mine")
        (tmp_path / "own").rename(tmp_path / "taken")
        (tmp_path / "own").mkdir()
        (tmp_path / "own/file").write_text("evil")
        assert (own / "file").read_text() == "mine"
        (own / "file").rename(tmp_path / "result")
    assert (tmp_path / "result").read_text() == "mine"
    assert (tmp_path / "own/file").read_text() == "evil"


def test_it_is_removed_with_all_that_is_left_in_it_whatever_happens(tmp_path):
    def fail():
        with own_folder(tmp_path / "own") as own:
            (own / "inner").mkdir()
            (own / "inner/file").write_text("left")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_only_its_owner_may_enter_it_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        with own_folder(tmp_path / "own") as own:
            assert own.stat().st_mode & 0o077 == 0
    finally:
        os.umask(before)


def test_one_within_another(tmp_path):
    with own_folder(tmp_path / "own") as own, own_folder(own / "inner") as inner:
        (inner / "file").write_text("mine")
        assert (tmp_path / "own/inner/file").read_text() == "mine"


def test_a_folder_whose_file_system_keeps_no_modes_is_ones_own_all_the_same(tmp_path, monkeypatch):
    without_modes = SimpleNamespace(st_uid=99, st_mode=0o777)
    with monkeypatch.context() as patches:
        patches.setattr("os.fstat", lambda _descriptor: without_modes)
        entered = own_folder(tmp_path / "own")
        own = entered.__enter__()
    (own / "file").write_text("mine")
    entered.__exit__(None, None, None)


def test_what_is_there_already_is_left_alone(tmp_path):
    (tmp_path / "own").mkdir()
    with pytest.raises(FileExistsError), own_folder(tmp_path / "own"):
        pass
    assert (tmp_path / "own").is_dir()


def test_a_folder_that_cannot_be_written_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError), own_folder(tmp_path / "nowhere" / "own"):
        pass


def test_a_program_that_gets_the_descriptor_finds_it(tmp_path):
    with own_folder(tmp_path / "own") as own:
        arguments = ["touch", f"{own}/file"]
        subprocess.run(arguments, check=True, pass_fds=handles(arguments))
        assert (tmp_path / "own/file").exists()


def test_people_read_where_it_was_made(tmp_path):
    with own_folder(tmp_path / "own") as own:
        assert folder_of(own / "file") == tmp_path
        assert readable(f"open {own}/file: no space left") == f"open {tmp_path}/own/file: no space left"
    assert folder_of(tmp_path / "file") == tmp_path


def test_nothing_stays_of_it_where_the_disk_is_full(tmp_path, monkeypatch):
    opened = os.open

    def full(path, flags, *mode, **options):
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, flags, *mode, **options)

    monkeypatch.setattr("os.open", full)
    with pytest.raises(OSError, match="No space left"), own_folder(tmp_path / "own"):
        pass
    assert list(tmp_path.iterdir()) == []
