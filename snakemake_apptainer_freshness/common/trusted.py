"""Trusted reading: a file counts only where trusted users alone can have put it there.

Each component of a path is entered from the one before it, by its descriptor, and looked at once it is open: so what
was looked at is what is used. A symbolic link is not followed, wherever in the path it stands. A folder and a file must
belong to a trusted user, and no other user may write them. A folder on the way may let others make names in it if they
can take away only their own (the sticky bit, as ``/tmp`` has it): what comes next in the path belongs to a trusted
user, so others cannot exchange it. What an access control list lets others do shows in the bits of the group.

Inside of a user namespace, as most containers are one, the kernel shows one number for all users that have none there
(user_namespaces(7)), root of the machine among them. It says nothing of who a user is, so it is never trusted.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.common.files import read_descriptor

_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_FOLDER: Final = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


_UID_MAP: Final = Path("/proc/self/uid_map")
_OVERFLOW: Final = Path("/proc/sys/kernel/overflowuid")
_ALL: Final = 2**32 - 1
"""Users that the map of the first namespace has."""


class Untrusted(Exception):
    """A user who is not trusted can have written what is at a path; the text says which part is wrong, and why.

    `is_unmapped` says that it only cannot be told who did, in this user namespace.
    """

    def __init__(self, text: str, *, is_unmapped: bool = False) -> None:
        super().__init__(text)
        self.is_unmapped = is_unmapped


def is_unmapped(uid: int) -> bool:
    """Return whether `uid` stands for every user of the machine that this user namespace does not map."""
    try:
        mapped = sum(int(line.split()[2]) for line in _UID_MAP.read_text(encoding="utf-8").splitlines())
        return mapped < _ALL and uid == int(_OVERFLOW.read_text(encoding="utf-8"))
    except (OSError, ValueError, IndexError):
        return False


def named(uid: int) -> str:
    """Return `uid` for an error, with what it means where it is no user's own."""
    if is_unmapped(uid):
        return (
            f"user {uid}, as which this user namespace (a container?) shows all users that it does not map, even root"
        )
    return f"user {uid}"


@contextlib.contextmanager
def trusted_folder(path: Path, owners: frozenset[int]) -> Iterator[int]:
    """Provide the folder at the absolute `path`, open, whose every component belongs to one of the `owners` (uids).

    Raises
    ------
    Untrusted
        where it is no such folder.
    OSError
        where it is not there, or cannot be entered.
    """
    if not path.is_absolute() or ".." in path.parts:
        raise Untrusted(f"{path} is no absolute path without '..'")
    here = Path("/")
    handle = os.open(here, os.O_PATH | _FOLDER)
    try:
        for name in path.parts[1:]:
            _refuse_foreign(handle, str(here), owners, on_the_way=True)
            here /= name
            handle = _entered(handle, name, str(here), flags=os.O_PATH)
        _refuse_foreign(handle, str(here), owners)
        yield handle
    finally:
        os.close(handle)


def list_in(folder: int, names: tuple[str, ...], owners: frozenset[int]) -> list[str]:
    """Return the names in the folder that `names` lead to from the open `folder`, sorted; raises as reading does."""
    with _inside(folder, names, owners, flags=os.O_RDONLY) as handle:
        return sorted(os.listdir(handle))  # noqa: PTH208  a descriptor, not a path


def read_in(folder: int, names: tuple[str, ...], owners: frozenset[int], limit: int) -> bytes:
    """Return what the regular file holds that `names` lead to from the open `folder`.

    Raises
    ------
    Untrusted
        where others can have written it, or a folder on the way.
    ValueError
        where it holds more than `limit` bytes.
    OSError
        where it cannot be read, or a symbolic link stands there.
    """
    with _inside(folder, names[:-1], owners, flags=os.O_PATH) as handle:
        descriptor = os.open(names[-1], _FILE, dir_fd=handle)
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123  a descriptor, not a path
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Untrusted(f"{names[-1]} is no regular file")
            _refuse_foreign(descriptor, names[-1], owners)
            return read_descriptor(file, names[-1], limit)


@contextlib.contextmanager
def _inside(folder: int, names: tuple[str, ...], owners: frozenset[int], *, flags: int) -> Iterator[int]:
    handle = os.open(".", (os.O_PATH if names else flags) | _FOLDER, dir_fd=folder)
    try:
        for number, name in enumerate(names, 1):
            handle = _entered(handle, name, name, flags=flags if number == len(names) else os.O_PATH)
            _refuse_foreign(handle, name, owners)
        yield handle
    finally:
        os.close(handle)


def _entered(handle: int, name: str, shown: str, *, flags: int) -> int:
    """Return the folder `name` in the open folder `handle`, open; `handle` is closed once that was entered."""
    try:
        if stat.S_ISLNK(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode):
            raise Untrusted(f"{shown} is a symbolic link: name the path that it leads to")
        entered = os.open(name, flags | _FOLDER, dir_fd=handle)
    except NotADirectoryError:
        raise Untrusted(f"{shown} is no folder") from None
    os.close(handle)
    return entered


def _refuse_foreign(handle: int, shown: str, owners: frozenset[int], *, on_the_way: bool = False) -> None:
    status = os.fstat(handle)
    if status.st_uid not in owners or is_unmapped(status.st_uid):
        raise Untrusted(f"{shown} belongs to {named(status.st_uid)}", is_unmapped=is_unmapped(status.st_uid))
    if status.st_mode & _WRITABLE_BY_OTHERS and not (on_the_way and status.st_mode & stat.S_ISVTX):
        raise Untrusted(f"others may write to {shown} (mode {stat.S_IMODE(status.st_mode):04o})")
