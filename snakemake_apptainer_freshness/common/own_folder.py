"""Folders of one's own in a folder that others may write, under a path that no other user can lead elsewhere.

In a folder of a group each member may rename what another one has made, and put something else in its place. Whatever
is written there by a path and read again by that path may be another user's by then. So what has to be what a program
has just made is made in a folder that none but its owner may enter, and that is named by an open descriptor: renamed or
not, ``/proc/self/fd/N`` is that folder. It is for the processes that this one starts, too, where they get the
descriptor (:func:`handles`).
"""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.common.removal import empty, open_folder

_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_PROBE: Final = "owner"
_PATH: Final = re.compile(r"/proc/self/fd/([0-9]+)", re.ASCII)


@contextlib.contextmanager
def own_folder(path: Path) -> Iterator[Path]:
    """Make the folder `path` and provide another path of it; at the end it is removed with all that is left in it.

    Raises
    ------
    OSError
        where it cannot be made, or another user puts a folder in its place.
    """
    with open_folder(path.parent) as parent:
        os.mkdir(path.name, 0o700, dir_fd=parent)
        handle = os.open(path.name, _OPEN, dir_fd=parent)
        try:
            _refuse_foreign(handle, path)
            try:
                yield Path(f"/proc/self/fd/{handle}")
            finally:
                with contextlib.suppress(OSError):  # what cannot be removed is no reason to lose an image
                    empty(handle)
        finally:
            os.close(handle)
            with contextlib.suppress(OSError):
                os.rmdir(path.name, dir_fd=parent)  # of another user's folder in its place nothing is lost: it is empty


def folder_of(path: Path) -> Path:
    """Return the folder in which `path` lies, for people to read: of an own folder, the one in which that was made."""
    folder = path.parent
    return folder.resolve().parent if _PATH.fullmatch(str(folder)) else folder


def handles(texts: Iterable[str]) -> list[int]:
    """Return the descriptors that a process needs to find the own folders in `texts`, its arguments and variables."""
    return [int(number) for text in texts for number in _PATH.findall(text)]


def readable(text: str) -> str:
    """Return the `text` of a program with each own folder called as it was when it was made, or was renamed since."""
    return _PATH.sub(lambda found: os.path.realpath(found[0]), text)


def _refuse_foreign(handle: int, path: Path) -> None:
    """Refuse an open folder that is not the one which was just made: one of another user, or with something in it.

    Whom a new folder belongs to, and which mode it has, is what its file system makes of it, for a file as well: of one
    that maps users or keeps no modes nothing else can be asked.
    """
    folder = os.fstat(handle)
    is_empty = not os.listdir(handle)
    if is_empty:
        descriptor = os.open(_PROBE, _CREATE, 0o600, dir_fd=handle)
        try:
            file = os.fstat(descriptor)
        finally:
            os.close(descriptor)
            os.unlink(_PROBE, dir_fd=handle)
        keeps_modes = not file.st_mode & _OTHERS
        if folder.st_uid == file.st_uid and not (keeps_modes and folder.st_mode & _OTHERS):
            return
    raise PermissionError(errno.EPERM, "another user has put a folder in the place of one that was made", str(path))
