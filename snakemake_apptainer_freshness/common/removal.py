"""Removing and renaming by descriptors: what is removed is what was checked, never what is swapped in for it.

In a folder that several users write to, a path means another thing a moment later: a folder becomes a symbolic link,
and a ``chmod`` or a removal by its path lands in the home of the user who ran it. So a folder is opened once, and what
is in it is named by that descriptor and one name (``dir_fd``); a folder within is opened without following a link
(``O_NOFOLLOW``); modes are changed through the descriptor. A tree whose top belongs to another user is not ours to
remove, whatever its name says; root may.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_OWNER_ALL: Final = stat.S_IRWXU
_ENTER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextlib.contextmanager
def open_folder(path: Path) -> Iterator[int]:
    """Provide the folder at `path`, held open as a descriptor for ``dir_fd``.

    Raises OSError where it cannot be opened.
    """
    descriptor = os.open(path, _LIST)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove the folder at `path` with all that is in it, also in folders that their owner may not write.

    Whatever else stands there, a symbolic link above all, stays as it is.

    Raises
    ------
    OSError
        where it is no folder, belongs to another user, or something in it could not be removed.
    """
    with open_folder(path.parent) as parent:
        remove_tree_at(parent, path.name)


def remove_at(parent: int, name: str) -> None:
    """Remove the file, the link or the whole folder `name` in the open folder `parent`.

    Raises
    ------
    OSError
        as :func:`remove_tree` does.
    """
    if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        remove_tree_at(parent, name)
    else:
        os.unlink(name, dir_fd=parent)


def remove_tree_at(parent: int, name: str) -> None:
    """As :func:`remove_tree`, for the folder `name` in the open folder `parent`."""
    with _entered(parent, name) as top:
        owner = os.fstat(top).st_uid
        if os.geteuid() not in (owner, 0):
            raise PermissionError(errno.EPERM, "it belongs to another user", name)
        empty(top)
    os.rmdir(name, dir_fd=parent)


def empty(top: int) -> None:
    """Remove all in the open folder `top`. What lies deeper is moved up first, so that no depth is too deep.

    Raises OSError where something could not be removed.
    """
    problems: dict[str, OSError] = {}
    while folders := [name for name in _folders(top) if name not in problems]:
        for name in folders:
            try:
                with _entered(top, name) as inner:
                    for deeper in _folders(inner):
                        with _entered(inner, deeper):  # to be moved it has to be writable
                            os.rename(deeper, f".removed-{os.urandom(8).hex()}", src_dir_fd=inner, dst_dir_fd=top)
                os.rmdir(name, dir_fd=top)
            except OSError as error:
                problems[name] = error
    for problem in problems.values():
        raise problem


def _folders(handle: int) -> list[str]:
    """Return the folders in the open folder `handle`; everything else in it is removed."""
    with os.scandir(handle) as entries:
        listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in listed:
        if not is_folder:
            os.unlink(name, dir_fd=handle)
    return [name for name, is_folder in listed if is_folder]


@contextlib.contextmanager
def _entered(parent: int, name: str) -> Iterator[int]:
    """Provide the folder `name` in `parent`, opened without following a link, made writable for its owner.

    A file system that is mounted there is not entered. Raises OSError.
    """
    entered = os.open(name, _ENTER, dir_fd=parent)
    try:
        status = os.fstat(entered)
        if status.st_dev != os.fstat(parent).st_dev:
            raise OSError(errno.EXDEV, "another file system is mounted there", name)
        if status.st_mode & _OWNER_ALL != _OWNER_ALL:
            # A descriptor of O_PATH, the only kind that a folder without permissions gives, has no fchmod.
            os.chmod(f"/proc/self/fd/{entered}", _OWNER_ALL)  # noqa: PTH101  a descriptor, not a path
        handle = os.open(".", _LIST, dir_fd=entered)
    finally:
        os.close(entered)
    try:
        yield handle
    finally:
        os.close(handle)
