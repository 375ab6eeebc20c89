"""The state folder: whose it is, where it lies, and what is refused."""

from __future__ import annotations

import os
import stat

import pytest

from snakemake_apptainer_freshness.errors import UsageError
from snakemake_apptainer_freshness.store import state


@pytest.fixture(autouse=True)
def looked_at_anew():
    """A process looks at the folder once."""
    state._checked.cache_clear()


def test_it_lies_in_the_state_home(state_home):
    assert state.folder() == state_home / "apptainer-freshness"


def test_it_lies_in_the_home_where_there_is_no_state_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME")
    assert state.folder() == tmp_path / ".local" / "state" / "apptainer-freshness"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert state.folder() == tmp_path / ".local" / "state" / "apptainer-freshness"


def test_the_environment_names_another(monkeypatch, tmp_path):
    monkeypatch.setenv(state.VARIABLE, str(tmp_path / "mine"))
    assert state.folder() == tmp_path / "mine"


def test_a_relative_name_would_be_that_of_a_folder_of_a_clone(monkeypatch):
    monkeypatch.setenv(state.VARIABLE, "state")
    with pytest.raises(UsageError, match="must be an absolute path, not 'state'"):
        state.folder()


def test_it_is_made_for_its_user_alone():
    path = state.folder() / "some" / "fact.json"
    assert state.read(path, 100) is None
    state.write(path, b"fact")
    assert state.read(path, 100) == b"fact"
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent, state.folder())]
    assert modes == [0o600, 0o700, 0o700]


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o720, 0o702])
def test_a_folder_that_others_may_write_is_one_clear_error(mode):
    state.folder().mkdir()
    state.folder().chmod(mode)
    state._checked.cache_clear()
    with pytest.raises(UsageError, match=f"others may write to the state folder .* \\(mode 0{mode:o}\\)"):
        state.folder()


def test_a_folder_of_somebody_else_is_one_clear_error(monkeypatch):
    state.folder().mkdir()
    state._checked.cache_clear()
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(UsageError, match=r"belongs to user \d+, not to user 4711"):
        state.folder()


def test_a_file_in_its_place_is_one_clear_error():
    state.folder().touch()
    state._checked.cache_clear()
    with pytest.raises(UsageError, match="is no folder"):
        state.folder()


def test_a_file_that_others_may_write_says_nothing():
    path = state.folder() / "fact.json"
    state.write(path, b"fact")
    path.chmod(0o620)
    assert state.read(path, 100) is None


def test_a_link_or_a_large_file_says_nothing(tmp_path):
    path = state.folder() / "fact.json"
    state.write(path, b"fact")
    assert state.read(path, 3) is None
    path.rename(tmp_path / "fact.json")
    path.symlink_to(tmp_path / "fact.json")
    assert state.read(path, 100) is None


def test_one_folder_has_one_key_by_whatever_path(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert state.key_of(tmp_path / "link") == state.key_of(tmp_path / "real")
    assert state.key_of(tmp_path / "real") != state.key_of(tmp_path)
