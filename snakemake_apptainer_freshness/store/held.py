"""Holds an image file to the hash that the main process of a run proved, by the file alone: no store is looked into.

A container of one job can write what the user can: the images of other jobs, all that lies beside them, the work
directory. So what the main process proved of each image stays in its memory, and travels to the processes of jobs in
their command (:mod:`.engine.handover`). A stat key that came along stands for the hash while the file has it; any other
file is hashed.
"""

import contextlib
import os
from dataclasses import replace
from pathlib import Path

from snakemake_apptainer_freshness.common.files import (
    NotAFile,
    StatKey,
    opened,
    sha256_of,
    status_of,
    writable_by_all,
)
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState, FileHash
from snakemake_apptainer_freshness.store import clock


def held(image: Path, known: FileHash, *, read_only: bool = False) -> DiskFact:
    """Return what the file `image` is, of which it is `known` what it hashed to when it was proven.

    Nothing is written beside an image that is `read_only` to us.

    The fact of a verified file has the stat key by which the next look knows it, where that is to be trusted.
    """
    try:
        status = status_of(image)
        # a file system that lets every user write every file did so when this one was proven, too
        if writable_by_all(status.st_mode) and not known.writable_by_all:
            return _fact(image, DiskState.UNBOUND, f"every user may write it (mode {status.st_mode & 0o7777:04o})")
        if known.stat is not None and known.stat.same_file(StatKey.of(status)):
            return _fact(image, DiskState.VERIFIED, "untouched since this run proved it", known)
        return _hashed(image, known, read_only=read_only)
    except FileNotFoundError:
        return _fact(image, DiskState.ABSENT, "no such file")
    except NotAFile as error:
        return _fact(image, DiskState.CORRUPT, f"not a file but {error}")
    except OSError as error:
        return _fact(image, DiskState.CORRUPT, f"it cannot be read: {error.strerror}")


ImageKey = StatKey | str
"""The stat key of a SIF, or the one key of all files of a sandbox (:func:`.apptainer.sandbox.survey`)."""


def is_untouched(image: Path, key: ImageKey) -> bool:
    """Return whether no file of the `image`, a SIF or a sandbox, was touched since it had this `key`."""
    if isinstance(key, StatKey):
        now = key_of(image)
        return now is not None and key.same_file(now)
    # few jobs run a sandbox
    from snakemake_apptainer_freshness.apptainer import sandbox
    from snakemake_apptainer_freshness.image.tree import NotComparable

    with contextlib.suppress(OSError, NotComparable):
        return sandbox.survey(image).key == key
    return False


def key_of(image: Path) -> StatKey | None:
    """Return the stat key of the file `image`; None where there is none, or no regular file."""
    with contextlib.suppress(OSError, NotAFile):
        return StatKey.of(status_of(image))
    return None


def _hashed(image: Path, known: FileHash, *, read_only: bool) -> DiskFact:
    with opened(image) as file:
        before = StatKey.of(os.fstat(file.fileno()))
        hashed_at = clock.time_or_past(image.parent, read_only=read_only)
        sha256 = sha256_of(file)
    if not before.same_file(StatKey.of(status_of(image))):
        return _fact(image, DiskState.ALTERED, "it changes while it is read")
    if sha256 != known.sha256:
        return _fact(image, DiskState.ALTERED, "its SHA-256 is not the one that this run proved")
    stat = before if before.settled(hashed_at) else None
    return _fact(image, DiskState.VERIFIED, "its SHA-256 is the one that this run proved", replace(known, stat=stat))


def _fact(image: Path, state: DiskState, detail: str, known: FileHash | None = None) -> DiskFact:
    return DiskFact(state=state, path=str(image), detail=detail, known=known)
