"""Sharing: storing the bytes of two equal files once, where the file system can do that.

A *reflink* (btrfs, XFS, bcachefs, NFS 4.2) gives a file the bytes of another until one of them is written to: two files
in all else. Where there is none a *hard link* does: one file under two names, so that its times and its mode are the
same for both. It is made only of a file of this user, which the file system and the kernel want as well.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.common.files import opened, status_of, unique

_FICLONE: Final = 0x40049409
"""The request of ``ioctl_ficlone(2)``; the same number on all machines but alpha, mips, powerpc and sparc."""


def share(source: int, target: int) -> bool:
    """Give the open, empty file `target` the bytes of the open file `source`; False where that cannot be done."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def link(path: Path, name: Path) -> bool:
    """Make `name`, where nothing is, one with the file at `path`, by a reflink or a hard link; False if that cannot be.

    A hard link is made of a regular file of this user alone. Raises OSError where there is none at `path`.
    """
    status = status_of(path)
    if _cloned(path, name, status.st_mode & 0o777):
        return True
    name.unlink(missing_ok=True)
    if status.st_uid != os.geteuid():
        return False
    try:
        os.link(path, name, follow_symlinks=False)
    except OSError:
        return False
    return True


def replace_by_same(path: Path, image: Path) -> None:
    """Put a reflink of `image`, or else a hard link, in the place of the file at `path`, which stays if neither can be.

    Raises OSError where it cannot be replaced.
    """
    temporary = path.with_name(f"{path.name}.partial-{unique()}")
    try:
        if link(image, temporary):
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _cloned(image: Path, temporary: Path, mode: int) -> bool:
    with opened(image) as file:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, mode)
            return share(file.fileno(), descriptor)
        finally:
            os.close(descriptor)
