"""The file of a lock: read, and written by one at a time.

What is written appears whole or not at all. What another run added in between is kept; what it moved elsewhere is an
error, since two runs that disagree about a pin cannot both be right.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness import lockfile
from snakemake_apptainer_freshness.common.files import NotAFile, read_target, write_atomically
from snakemake_apptainer_freshness.common.locks import exclusive
from snakemake_apptainer_freshness.errors import InvalidLock, LocalIOError, NotLocked
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.settings import Mode

_LARGEST_LOCK: Final = 16 * 1024 * 1024


def read_lock(path: Path) -> Lock:
    """Return the lock in the file `path`; an empty one where there is no such file.

    Raises
    ------
    InvalidLock
        where the file is not a sound lock.
    LocalIOError
        where it cannot be read.
    """
    try:
        text = read_target(path, _LARGEST_LOCK).decode("utf-8")
    except FileNotFoundError:
        return Lock()
    except NotAFile as reason:
        raise InvalidLock(
            f"cannot use the lock file {path}: it is {reason}",
            hint="remove it, or restore the lock from version control",
        ) from None
    except UnicodeDecodeError as error:
        raise InvalidLock(f"cannot use the lock file {path}: not UTF-8 text ({error.reason})") from None
    except ValueError:
        raise InvalidLock(f"cannot use the lock file {path}: larger than {_LARGEST_LOCK} bytes") from None
    except OSError as error:
        raise LocalIOError(
            f"cannot read the lock file {path}: {error.strerror}", hint="check its permissions"
        ) from error
    return lockfile.loads(text, source=str(path))


def write_lock(path: Path, *, before: Lock, after: Lock) -> Lock:
    """Bring the changes from `before` to `after` into the lock file `path`, and give what it then holds.

    One writer at a time; what another run added since `before` was read is kept.

    Raises
    ------
    LocalIOError
        where the file cannot be written; it is then as it was.
    NotLocked
        where another run pinned one of the same references elsewhere in the meantime.
    """
    differences = lockfile.changes(before, after)
    if not differences:
        return after
    with writer(path) as write:
        merged = _merge(path, read_lock(path), differences)
        write(merged)
    return merged


@contextlib.contextmanager
def writer(path: Path, *, waiting: Callable[[str], None] | None = None) -> Iterator[Callable[[Lock], None]]:
    """Be the one writer of the lock file `path`; what is given puts a lock there, whole or not at all.

    `waiting` is told who writes it now, where that takes more than a moment.

    Raises
    ------
    LocalIOError
        where the file cannot be written; it is then as it was.
    """
    if not path.parent.is_dir():
        raise LocalIOError(
            f"cannot write the lock file {path}: its folder does not exist",
            hint=f"make the folder {path.parent}",
        )

    def write(lock: Lock) -> None:
        try:
            write_atomically(path, lockfile.dumps(lock).encode())
        except OSError as error:
            raise LocalIOError(
                f"cannot write the lock file {path}: {error.strerror}",
                hint=f"make it writable, or run in mode {Mode.LOCKED}, which never writes it",
            ) from error

    with exclusive(path, waiting=waiting):
        yield write


def _merge(path: Path, now: Lock, differences: Iterable[lockfile.Change]) -> Lock:
    entries = dict(now.entries)
    for change in differences:
        there = now.get(change.reference)
        if there not in (change.old, change.new):
            raise NotLocked(
                f"another run changed the pin of {change.reference} in {path} while this one was starting",
                hint="run again: it will take what the lock file says now",
            )
        if change.new is None:
            entries.pop(change.reference, None)
        else:
            entries[change.reference] = change.new
    return Lock.of(entries.values())
