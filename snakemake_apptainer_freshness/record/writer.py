"""Writing the record of a run as the run goes.

An event is added by one write over the file's last line, at a cost that does not grow with the file; a process that
reads meanwhile sees a whole record. A write that fails leaves the record as it was before.
"""

import contextlib
import errno
import json
import os
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.common.files import NotAFile, opened, sha256_of
from snakemake_apptainer_freshness.errors import LocalIOError
from snakemake_apptainer_freshness.record.events import Event
from snakemake_apptainer_freshness.record.journal import SUFFIX, goes_on, identifiers
from snakemake_apptainer_freshness.record.run import VERSION

_STAMP: Final = "%Y%m%dT%H%M%S.%fZ"
_END: Final = b"\n]}\n"
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


class Journal:
    """Writes one record, from any thread."""

    def __init__(self, path: Path, head: Event) -> None:
        """Make the file `path`, which must not be there.

        Raises
        ------
        LocalIOError
            where that cannot be done.
        """
        self.path = path
        self._lock = threading.Lock()
        self._separator = b"\n"
        self._size = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            with _removed_on_failure(path):
                self._write(b'{"version":%d,"run":%s,"events":[' % (VERSION, _dumped(head)))
                os.fsync(self._file)
        except OSError as error:
            raise LocalIOError(
                f"cannot write the record of this run, {path}: {error.strerror}",
                hint="every run with the flag on leaves one: make that folder writable",
            ) from error

    def append(self, events: Iterable[Event]) -> None:
        """Add `events`, all or none.

        Raises
        ------
        OSError
            where they cannot be written; the record is then as it was.
        """
        lines = [_dumped(event) for event in events]
        if not lines:
            return
        with self._lock:
            self._write(self._separator + b",\n".join(lines))
            self._separator = b",\n"

    def close(self) -> None:
        """Flush the record to the disk and close it."""
        with self._lock, contextlib.suppress(OSError):
            os.fsync(self._file)
            os.close(self._file)

    def _write(self, content: bytes) -> None:
        """Put `content` where the end begins, and the end behind it."""
        whole = len(content) + len(_END)
        written = 0
        try:
            written = os.pwrite(self._file, content + _END, self._size)
            if written < whole:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            if written < whole and self._size:
                self._restore()
        self._size += len(content)

    def _restore(self) -> None:
        """Close what is open after a write that came to nothing."""
        with contextlib.suppress(OSError):
            os.pwrite(self._file, _END, self._size)
            os.ftruncate(self._file, self._size + len(_END))


@contextlib.contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _dumped(table: Event) -> bytes:
    return _ENCODER.encode(table).encode("ascii")


def new_id(folder: Path) -> str:
    """Return a name for a new run with its record in `folder`, later than all that lie there."""
    stamp = datetime.now(UTC)
    newest = next(reversed(identifiers(folder)), "")
    if newest >= stamp.strftime(_STAMP):
        with contextlib.suppress(ValueError, OverflowError):
            stamp = datetime.strptime(newest, _STAMP).replace(tzinfo=UTC) + timedelta(microseconds=1)
    return stamp.strftime(_STAMP)


def newest_hash(folder: Path) -> str:
    """Return the SHA-256 of the newest record in `folder`; empty where there is none. A run under way has none yet."""
    for name in reversed(identifiers(folder)):
        path = folder / (name + SUFFIX)
        with contextlib.suppress(NotAFile, OSError):
            if not goes_on(path):
                with opened(path) as file:
                    return sha256_of(file)
    return ""
