"""Looking at outputs on this disk: are they there, and are they what their jobs left?

A recorded output whose size and modification time are the recorded ones is taken for what its job left; only one that
was touched is hashed, and only where its SHA-256 was recorded, which bounds the work. Nothing here judges: what is said
is what was seen.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.common.files import NotAFile, opened, sha256_of
from snakemake_apptainer_freshness.common.parallel import in_batches
from snakemake_apptainer_freshness.record.run import OutputRecord
from snakemake_apptainer_freshness.settings import DISK

_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputStatus:
    """One output as it is now.

    `elsewhere` says that it lies in a storage of its own (``s3://…``), where we did not look. `sha256` is what it
    hashes to now, where that was asked for; `problem` why it could not be looked at.
    """

    exists: bool
    elsewhere: bool = False
    folder: bool = False
    size: int = 0
    mtime_ns: int = 0
    sha256: str = ""
    problem: str = ""


_GONE: Final = OutputStatus(exists=False)
_ELSEWHERE: Final = OutputStatus(exists=True, elsewhere=True)


def look(workdir: Path, wanted: Mapping[str, OutputRecord | None]) -> dict[str, OutputStatus]:
    """Return what each output in `workdir` is now, by its path.

    Each comes with what was recorded of it, if anything was.
    """
    root = str(workdir)
    statuses: dict[str, OutputStatus] = {}
    for seen in in_batches(wanted, lambda names: [(name, _look(root, name, wanted[name])) for name in names]):
        statuses.update(seen)
    return statuses


def touched(seen: OutputStatus, left: OutputRecord) -> bool:
    """Return whether the file's times say that it was touched since its job ended.

    An archive may have cut its time to whole seconds; that is no touch.
    """
    cut = left.mtime_ns - left.mtime_ns % _SECOND
    return seen.mtime_ns not in (left.mtime_ns, cut)


def place(path: str, *, recorded_in: str, workdir: Path) -> Path:
    """Return where the absolute `path` is that was recorded while the work directory was `recorded_in`."""
    with contextlib.suppress(ValueError):
        return workdir / Path(path).relative_to(recorded_in)
    return Path(path)


def is_there(path: Path) -> bool:
    """Return whether anything is at `path`, which a record has and may be no path that a file can have."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


class NotCopied(Exception):
    """A file was not copied; the text says why."""


def copy_recorded(source: Path, destination: Path, *, workdir: Path, sha256: str, limit: int) -> None:
    """Copy `source` to the new file `destination`, if it lies in `workdir` and its bytes have the recorded `sha256`.

    A symbolic link on the way leads nowhere else, and what changes while it is copied does not have the SHA-256.

    Raises
    ------
    NotCopied
        where there is no `sha256`, `source` lies outside by its real path or is something else now, and as
        :func:`copy` does.
    OSError
        where `destination` cannot be written.
    """
    if not sha256:
        raise NotCopied("its record has no SHA-256 of it")
    try:
        real, folder = source.resolve(), workdir.resolve()
    except (OSError, RuntimeError, ValueError):
        raise NotCopied("its name is not one of a file") from None
    if not real.is_relative_to(folder):
        raise NotCopied(f"it lies outside of the work directory {workdir}")
    if copy(real, destination, limit=limit) != sha256:
        raise NotCopied("its SHA-256 is not the recorded one")


def copy(source: Path, destination: Path, *, limit: int) -> str:
    """Copy the regular file `source` to the new file `destination`; the SHA-256 of what was copied.

    Raises
    ------
    NotCopied
        where it is no regular file, cannot be read, or is larger than `limit` bytes.
    OSError
        where `destination` cannot be written.
    """
    digest, size = hashlib.sha256(), 0
    with destination.open("xb") as written:
        for piece in _pieces(source):
            size += len(piece)
            if size > limit:
                raise NotCopied(f"it is larger than {limit} bytes")
            digest.update(piece)
            written.write(piece)
    return digest.hexdigest()


def _pieces(source: Path) -> Iterator[bytes]:
    try:
        with opened(source) as file:
            while piece := file.read(DISK.chunk):
                yield piece
    except NotAFile as error:
        raise NotCopied(f"it is {error}") from None
    except (FileNotFoundError, NotADirectoryError):
        raise NotCopied("it is no longer there") from None
    except (OSError, ValueError) as error:
        raise NotCopied(getattr(error, "strerror", None) or "its name is not one of a file") from None


def _look(root: str, name: str, left: OutputRecord | None) -> OutputStatus:
    if "://" in name:
        return _ELSEWHERE
    path = os.path.join(root, name)  # noqa: PTH118  a hundred thousand of them
    try:
        status = os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return _GONE
    except (OSError, ValueError) as error:
        return OutputStatus(exists=True, problem=getattr(error, "strerror", None) or "its name is not one of a file")
    seen = OutputStatus(
        exists=True, folder=stat.S_ISDIR(status.st_mode), size=status.st_size, mtime_ns=status.st_mtime_ns
    )
    if not (seen.folder or stat.S_ISREG(status.st_mode)):
        return OutputStatus(exists=True, problem="it is neither a file nor a folder")
    if left is None or not left.sha256 or seen.folder or seen.size != left.size or seen.mtime_ns == left.mtime_ns:
        return seen
    return _hashed(path, seen)


def _hashed(path: str, seen: OutputStatus) -> OutputStatus:
    """Return `seen` with its SHA-256; what became no regular file meanwhile is not read, a device has no end."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        with open(handle, "rb", buffering=0) as file:  # noqa: PTH123  a descriptor, not a path
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return OutputStatus(exists=True, problem="it is neither a file nor a folder")
            digest = sha256_of(file)
    except OSError as error:
        return OutputStatus(
            exists=True, size=seen.size, mtime_ns=seen.mtime_ns, problem=error.strerror or "it cannot be read"
        )
    return OutputStatus(exists=True, size=seen.size, mtime_ns=seen.mtime_ns, sha256=digest)
