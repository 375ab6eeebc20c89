"""Each check of a removal by descriptors is what stops its attack: without it, the attack succeeds.

The attacker may write the folder in which something is removed, and gets a turn at the worst moment. The same attacks
by another user, who has to be lucky, are in ``test_shared_folder_attacks.py``.
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

from snakemake_apptainer_freshness.common import removal
from tests.support.mutants import mutant

CLOSED = 0o500


class Os:
    """The module ``os``, in which some functions are others."""

    def __init__(self, **others: Callable[..., Any]) -> None:
        self._others = others

    def __getattr__(self, name: str) -> Any:
        return self._others.get(name) or getattr(os, name)


class Place:
    """A folder that is removed, and one beside it that is not to be touched."""

    def __init__(self, folder: Path) -> None:
        self.tree = folder / "tree"
        (self.tree / "inner").mkdir(parents=True)
        (self.tree / "inner/file").write_text("waste")
        self.private = folder / "private"
        self.private.mkdir()
        (self.private / "chapter.tex").write_text("mine")
        self.private.chmod(CLOSED)

    def swap(self, path: Path) -> None:
        """Put a link to what is private in the place of the folder at `path`, once."""
        if not path.is_symlink():
            path.rename(path.with_name("aside"))
            path.symlink_to(self.private)

    def remove(self, module: ModuleType, **others: Callable[..., Any]) -> None:
        with contextlib.suppress(OSError), mock.patch.object(module, "os", Os(**others)):
            module.remove_tree(self.tree)

    @property
    def is_untouched(self) -> bool:
        """Whether what is private is as it was."""
        return (self.private / "chapter.tex").exists() and self.private.stat().st_mode & 0o777 == CLOSED


def link_in_place_of_the_folder(place: Place, module: ModuleType) -> bool:
    place.swap(place.tree)
    place.remove(module)
    return not place.is_untouched


def folder_swapped_for_a_link_once_it_was_listed(place: Place, module: ModuleType) -> bool:
    def opened(path: Any, *arguments: Any, **options: Any) -> int:
        if path == "inner":
            place.swap(place.tree / "inner")
        return os.open(path, *arguments, **options)

    place.remove(module, open=opened)
    return not place.is_untouched


def closed_folder_swapped_for_a_link_once_it_was_opened(place: Place, module: ModuleType) -> bool:
    (place.tree / "inner").chmod(CLOSED)
    place.remove(module, open=swapped_once_it_was_opened(place))
    return not place.is_untouched


def folder_swapped_for_a_link_once_it_was_opened(place: Place, module: ModuleType) -> bool:
    place.private.chmod(0o700)  # else its owner, who is not root, could remove nothing in it by mistake
    place.remove(module, open=swapped_once_it_was_opened(place))
    return not (place.private / "chapter.tex").exists()


def swapped_once_it_was_opened(place: Place) -> Callable[..., int]:
    """In place of ``os.open``: the attacker's turn comes after the folder was entered."""

    def opened(path: Any, *arguments: Any, **options: Any) -> int:
        descriptor = os.open(path, *arguments, **options)
        if path == "inner":
            place.swap(place.tree / "inner")
        return descriptor

    return opened


def folder_of_another_user(place: Place, module: ModuleType) -> bool:
    place.remove(module, geteuid=lambda: os.geteuid() + 1)
    return not (place.tree / "inner/file").exists()


def file_system_mounted_in_the_folder(place: Place, module: ModuleType) -> bool:
    mounted = (place.tree / "inner").stat()

    def status(descriptor: int) -> Any:
        found = os.fstat(descriptor)
        device = found.st_dev + (found.st_ino == mounted.st_ino)
        return SimpleNamespace(st_dev=device, st_mode=found.st_mode, st_uid=found.st_uid)

    place.remove(module, fstat=status)
    return not (place.tree / "inner/file").exists()


def link_in_the_folder_that_keeps_it_from_being_removed(place: Place, module: ModuleType) -> bool:
    (place.tree / "inner/link").symlink_to(place.private)
    place.remove(module)
    return place.tree.exists()


def link_with_the_name_of_a_leftover_that_stays(place: Place, module: ModuleType) -> bool:
    link = place.tree / "inner/link"
    link.symlink_to(place.private)
    with contextlib.suppress(OSError), module.open_folder(link.parent) as parent:
        module.remove_at(parent, link.name)
    return link.is_symlink()


def folder_within_that_its_owner_may_not_write(place: Place, module: ModuleType) -> bool:
    """Root may write it all the same, so that what counts is its mode while it is emptied."""
    (place.tree / "inner").chmod(CLOSED)
    modes = []

    def unlink(name: str, *, dir_fd: int) -> None:
        modes.append(os.fstat(dir_fd).st_mode & 0o777)
        os.unlink(name, dir_fd=dir_fd)

    place.remove(module, unlink=unlink)
    return modes == [CLOSED]


NO_FOLLOW = (" | os.O_NOFOLLOW", "")
MUTATIONS = [
    (link_in_place_of_the_folder, *NO_FOLLOW),
    (folder_swapped_for_a_link_once_it_was_listed, *NO_FOLLOW),
    (
        closed_folder_swapped_for_a_link_once_it_was_opened,
        'os.chmod(f"/proc/self/fd/{entered}", _OWNER_ALL)',
        "os.chmod(name, _OWNER_ALL, dir_fd=parent)",
    ),
    (
        folder_swapped_for_a_link_once_it_was_opened,
        'os.open(".", _LIST, dir_fd=entered)',
        "os.open(name, _LIST, dir_fd=parent)",
    ),
    (folder_of_another_user, "os.geteuid() not in (owner, 0)", "False"),
    (file_system_mounted_in_the_folder, "status.st_dev != os.fstat(parent).st_dev", "False"),
    (link_in_the_folder_that_keeps_it_from_being_removed, "entry.is_dir(follow_symlinks=False)", "entry.is_dir()"),
    (link_with_the_name_of_a_leftover_that_stays, "dir_fd=parent, follow_symlinks=False", "dir_fd=parent"),
    (folder_within_that_its_owner_may_not_write, "status.st_mode & _OWNER_ALL != _OWNER_ALL", "False"),
]


@pytest.mark.parametrize(("attack", "old", "new"), MUTATIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_without_its_check_it_succeeds(attack, old, new, tmp_path):
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    assert not attack(Place(tmp_path / "with"), removal)
    assert attack(Place(tmp_path / "without"), mutant(removal, old, new))
