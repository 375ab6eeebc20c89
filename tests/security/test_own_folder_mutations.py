"""Each check of a folder of one's own is what stops its attack: without it, the attack succeeds.

The attacker may write the folder in which it is made, and gets a turn right after that. The same attacks by another
user, who has to be lucky, are in ``test_shared_folder_attacks.py``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from snakemake_apptainer_freshness.common import own_folder
from tests.support.mutants import mutant


class Os:
    """The module ``os``, in which some functions are others."""

    def __init__(self, **others: Callable[..., Any]) -> None:
        self._others = others

    def __getattr__(self, name: str) -> Any:
        return self._others.get(name) or getattr(os, name)


def is_used(folder: Path, module: ModuleType, swap: Callable[[Path], None], **others: Callable[..., Any]) -> bool:
    """Whether what `swap` has put in the place of the folder that was just made is used."""
    path = folder / "own"

    def made(name: str, mode: int, *, dir_fd: int) -> None:
        os.mkdir(name, mode, dir_fd=dir_fd)
        path.rename(folder / "taken")
        swap(path)

    patched = mock.patch.object(module, "os", Os(mkdir=made, **others))
    with contextlib.suppress(OSError), patched, module.own_folder(path):
        return True
    return False


def link_in_its_place(folder: Path, module: ModuleType) -> bool:
    (folder / "elsewhere").mkdir(mode=0o700)
    return is_used(folder, module, lambda path: path.symlink_to(folder / "elsewhere"))


def folder_in_its_place_that_others_may_write(folder: Path, module: ModuleType) -> bool:
    def swap(path: Path) -> None:
        path.mkdir()
        path.chmod(0o770)

    return is_used(folder, module, swap)


def folder_in_its_place_that_has_something_in_it(folder: Path, module: ModuleType) -> bool:
    def swap(path: Path) -> None:
        path.mkdir(mode=0o700)
        (path / "chapter.tex").write_text("mine")

    is_used(folder, module, swap)
    return not (folder / "own/chapter.tex").exists()


def folder_of_another_user_in_its_place(folder: Path, module: ModuleType) -> bool:
    def status(descriptor: int) -> Any:
        found = os.fstat(descriptor)
        is_folder = found.st_ino == (folder / "own").stat().st_ino
        return SimpleNamespace(st_uid=found.st_uid + is_folder, st_mode=found.st_mode)

    return is_used(folder, module, lambda path: path.mkdir(mode=0o700), fstat=status)


MUTATIONS = [
    (link_in_its_place, " | os.O_NOFOLLOW", ""),
    (folder_in_its_place_that_others_may_write, " and not (keeps_modes and folder.st_mode & _OTHERS)", ""),
    (folder_in_its_place_that_has_something_in_it, "not os.listdir(handle)", "True"),
    (folder_of_another_user_in_its_place, "folder.st_uid == file.st_uid and ", ""),
]


@pytest.mark.parametrize(("attack", "old", "new"), MUTATIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_without_its_check_it_succeeds(attack, old, new, tmp_path):
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    assert not attack(tmp_path / "with", own_folder)
    assert attack(tmp_path / "without", mutant(own_folder, old, new))
