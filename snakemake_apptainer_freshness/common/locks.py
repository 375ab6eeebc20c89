"""Locks: one process at a time writes, on this host and others.

:func:`exclusive` is a lock that works on NFS: a file made with ``O_EXCL``, kept alive by a heartbeat. A holder that
is dead on this host loses it at once, one on another host when its heartbeat has stopped, and one that was killed
before it could write who it is after some seconds. Losing a lock costs work, never correctness: everything under it is
made under a name of its own and renamed. In a folder with the sticky bit a dead user's lock cannot be removed by
others: they go on to the next name.
"""

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness.common.files import HOST, is_alive
from snakemake_apptainer_freshness.errors import LocalIOError, one_line
from snakemake_apptainer_freshness.settings import DISK

_LEASES_PATIENCE: Final = 4
"""So many leases without a heartbeat, by clocks that may differ, and a lock of another host is left for good."""


def lock_path(path: Path, number: int = 1) -> Path:
    """Return the file whose existence is the lock of `path`; the next `number` where one was left for good."""
    return path.with_name(f".{path.name}.lock{f'-{number}' if number > 1 else ''}")


@contextlib.contextmanager
def exclusive(
    path: Path,
    *,
    waiting: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
    timeout: float | None = None,
) -> Iterator[None]:
    """Hold the lock of `path` against every other process, on this host and others.

    `waiting` is told once, who has it, where that takes more than a moment. `stop` ends the wait.

    Raises
    ------
    LocalIOError
        where the lock cannot be made, or `timeout` seconds (default: `DISK.lock_timeout`) have passed.
    InterruptedError
        where `stop` was set.
    """
    from filelock import Timeout

    stop = stop or threading.Event()
    number, nameless = 1, _NamelessLock()
    lease = _lease_of(lock_path(path))
    give_up = time.monotonic() + (DISK.lock_timeout if timeout is None else timeout)
    tell_at = time.monotonic() + DISK.lock_patience
    while True:
        if stop.is_set():
            raise InterruptedError(f"stopped while waiting for the lock of {path}")
        try:
            lease.acquire(blocking=False)
            break
        except Timeout:
            pass
        except OSError as error:
            raise LocalIOError(
                f"cannot lock {path}: {error.strerror or error}",
                hint=f"make {path.parent} writable, or choose another folder",
            ) from error
        now = time.monotonic()
        if _is_left_for_good(lock_path(path, number), lease):
            number += 1
            lease = _lease_of(lock_path(path, number))
            continue
        nameless.remove_once_old(lock_path(path, number), lease, now)
        if now >= give_up:
            raise LocalIOError(
                f"waited too long for the lock of {path}, held by {_holder(lease)}",
                hint=f"if that process is gone, delete {lock_path(path, number)}",
            )
        if waiting is not None and now >= tell_at:
            waiting(_holder(lease))
            waiting = None
        stop.wait(DISK.lock_poll)
    try:
        yield
    finally:
        lease.release()


def _lease_of(path: Path) -> Any:
    from filelock import SoftFileLease

    # the mode is given so that other users of the folder can read who holds it, whatever the umask
    return SoftFileLease(path, mode=0o644, lease_duration=DISK.lease, heartbeat_interval=DISK.heartbeat)


class _NamelessLock:
    """A lock that does not say who holds it, as it was first seen.

    A holder writes that right after it made the file. Where it was killed between the two, nothing tells whether it
    lives, nor where.
    """

    def __init__(self) -> None:
        self._inode: int | None = None
        self._since = 0.0

    def remove_once_old(self, lock: Path, lease: Any, now: float) -> None:
        """Remove the file `lock` where it has been nameless for long; `now` is monotonic, in seconds."""
        with contextlib.suppress(OSError):
            inode = lock.lstat().st_ino if lease.owner is None else None
            if inode is None or inode != self._inode:
                self._inode, self._since = inode, now
            elif now - self._since > DISK.lock_unclaimed:
                lock.unlink()


def _is_left_for_good(lock: Path, lease: Any) -> bool:
    """Return whether the holder of `lock` is dead, and only its owner can remove it (the sticky bit)."""
    try:
        status, folder = lock.lstat(), lock.parent.stat()
    except OSError:
        return False
    if not folder.st_mode & stat.S_ISVTX or os.geteuid() in (status.st_uid, folder.st_uid, 0):
        return False
    owner = lease.owner
    if owner is not None and owner.hostname == HOST:
        return not is_alive(owner.pid) and owner.pid != os.getpid()
    return time.time() - status.st_mtime > _LEASES_PATIENCE * DISK.lease


def _holder(lease: Any) -> str:
    owner = lease.owner
    return f"process {owner.pid} on {one_line(owner.hostname)}" if owner else "another process"
