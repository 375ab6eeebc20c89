"""Files: regular ones opened without following links, hashed, and written whole or not at all.

* Only a regular file is an image or a record. A symbolic link, a folder, a FIFO or a device at its place is refused
  without being followed, opened or waited for: what it leads to could change without the name changing.
* A :class:`StatKey` says that a file is still the one that was hashed, without opening it. Two times in it have to be
  older than the hashing by :data:`~.settings.DiskLimits.settle`: within one tick of a file system's clock a file can
  change and keep its times.
* What we write appears under its name whole or not at all: a temporary file in the same folder, fsync, rename. Our
  side files (``.lock``, ``.partial-…``, ``.quarantine-…``) never end in ``.simg``, so Snakemake's clean-up leaves
  them alone.
"""

import contextlib
import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from snakemake_apptainer_freshness.common.removal import open_folder
from snakemake_apptainer_freshness.common.tables import Table
from snakemake_apptainer_freshness.settings import DISK

_WRITABLE_BY_ALL: Final = stat.S_IWOTH
_WRITABLE_BY_ANYONE: Final = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_NANOSECONDS: Final = 1_000_000_000
_TEMPORARY: Final = r"(?:\.partial-|\.freshness-clock-)(?P<host>.+)-(?P<pid>[0-9]+)-[0-9a-f]{8}"

HOST: Final = os.uname().nodename


@dataclass(frozen=True, slots=True, kw_only=True)
class StatKey:
    """The values of a ``stat`` that change whenever a file's bytes do, unless the clock is set back.

    `device` is a number that each host gives a file system anew, on NFS another one on every host; so it is compared
    only on the `host` that saw it. Times are nanoseconds since the epoch.
    """

    host: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Return the key of what `status` describes, seen on this host."""
        return cls(
            host=HOST,
            device=status.st_dev,
            inode=status.st_ino,
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
        )

    def same_file(self, other: "StatKey") -> bool:
        """Return whether both were seen of one file that did not change in between."""
        return (
            (self.inode, self.size, self.mtime_ns, self.ctime_ns)
            == (other.inode, other.size, other.mtime_ns, other.ctime_ns)
        ) and (self.host != other.host or self.device == other.device)

    def settled(self, now_ns: int) -> bool:
        """Return whether a change after `now_ns` is bound to change this key."""
        return max(self.mtime_ns, self.ctime_ns) <= now_ns - int(DISK.settle * _NANOSECONDS)

    def to_dict(self) -> dict[str, Any]:
        """Return the key as it is written into a record."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def read(cls, table: Table, key: str) -> Self | None:
        """Return what `table` has under `key`; None for null.

        Raises
        ------
        Damaged
            where it has other keys, or a value of another type.
        """
        if table.values[key] is None:
            return None
        row = table.child(key, frozenset(cls.__slots__))
        numbers = {name: row.integer(name) for name in cls.__slots__ if name != "host"}
        return cls(host=row.text("host"), **numbers)


class NotAFile(Exception):
    """There is no regular file at a path; the text says what is there."""


def status_of(path: str | os.PathLike[str]) -> os.stat_result:
    """Return the status of the regular file at `path`, which is not opened and not followed.

    Raises
    ------
    NotAFile
        where something else stands there.
    OSError
        as ``lstat`` does.
    """
    try:
        status = os.lstat(path)
    except ValueError:  # a path that a stranger wrote down
        raise NotAFile("a name that no file can have") from None
    if not stat.S_ISREG(status.st_mode):
        raise NotAFile(_kind(status.st_mode))
    return status


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Provide the regular file at `path`, unbuffered, for reading; nothing else is followed or waited for.

    Raises
    ------
    NotAFile
        where something else stands there.
    OSError
        as ``open`` does.
    """
    status_of(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise NotAFile("a symbolic link or a device") from None
        raise
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123  a descriptor, not a path
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotAFile(_kind(os.fstat(descriptor).st_mode))
        yield file


@contextlib.contextmanager
def opened_target(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Provide the regular file that `path`, which a person may have made a link, leads to.

    Nothing else is opened at all.

    Raises
    ------
    NotAFile
        where something else stands there: a device has no end, and opening a FIFO blocks.
    OSError
        as ``open`` does.
    """
    mode = os.stat(path).st_mode  # noqa: PTH116  a text, too
    if not stat.S_ISREG(mode):
        raise NotAFile(_kind(mode))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123  a descriptor, not a path
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotAFile(_kind(os.fstat(descriptor).st_mode))
        yield file


def sha256_of(file: BinaryIO) -> str:
    """Return the SHA-256 of what `file` has from its start on, in hex.

    In bounded memory, and other threads run meanwhile.
    """
    file.seek(0)
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(DISK.chunk))
    while count := file.readinto(buffer):  # type: ignore[attr-defined]  # an unbuffered file
        digest.update(buffer[:count])
    return digest.hexdigest()


def writable_by_all(mode: int) -> bool:
    """Return whether every user of this machine may write to a file of this `mode`."""
    return bool(mode & _WRITABLE_BY_ALL)


def read_small(path: Path, limit: int) -> bytes:
    """Return what the regular file at `path` holds.

    Raises
    ------
    ValueError
        where it holds more than `limit` bytes.
    NotAFile, OSError
        as :func:`opened` does.
    """
    with opened(path) as file:
        return read_descriptor(file, path, limit)


def read_target(path: Path, limit: int) -> bytes:
    """As :func:`read_small`, of the file that `path` leads to; raises as :func:`opened_target` does."""
    with opened_target(path) as file:
        return read_descriptor(file, path, limit)


def read_descriptor(file: BinaryIO, path: Path | str, limit: int) -> bytes:
    """Return what the open `file` holds; raises ValueError, naming `path`, where that is more than `limit` bytes."""
    content = bytearray()
    while piece := file.read(limit + 1 - len(content)):
        content += piece
        if len(content) > limit:
            raise ValueError(f"{path} is larger than {limit} bytes")
    return bytes(content)


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` under `path`, whole or not at all; a file that is there keeps its mode.

    Raises
    ------
    OSError
        where it cannot be written; nothing is left behind.
    """
    if not path.exists():
        _replace(path, content, 0o666)
        return
    if not _may_be_written(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    _replace(path, content, 0o600, stat.S_IMODE(path.stat().st_mode))


def replace_own(path: Path, content: bytes, *, readable: bool = False) -> None:
    """Put `content` under `path`, whole or not at all, in a file of ours that no other user may write.

    Other users may read a `readable` one, whatever the umask. A file that was there is replaced, whichever user owns
    it: a folder that we may write is all that this needs, so that the members of a group can share one. Raises OSError
    where it cannot be done; nothing is left behind.
    """
    _replace(path, content, 0o644, 0o644 if readable else None)


def _replace(path: Path, content: bytes, created: int, mode: int | None = None) -> None:
    with appearing(path, created=created, mode=mode) as file:
        file.write(content)


@contextlib.contextmanager
def appearing(path: Path, *, created: int = 0o666, mode: int | None = None, durable: bool = True) -> Iterator[BinaryIO]:
    """Provide a temporary file to write, `created` with this mode, then made `mode` and renamed to `path`.

    One that is not `durable` is whole for every reader, but a crash of the machine may leave an older or an empty one.
    What raises within leaves neither. Raises OSError where it cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f"{path.name}.partial-{unique()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, created)
        with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor, not a path
            yield file
            file.flush()
            if durable:
                os.fsync(descriptor)
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def _may_be_written(path: Path) -> bool:
    """Return whether we may write to `path`; not even root may where its mode lets no user write."""
    return bool(path.stat().st_mode & _WRITABLE_BY_ANYONE) and os.access(path, os.W_OK)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` outlive a crash, where its file system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def unique() -> str:
    """Return a part of a file name that no other process uses: host, process, chance."""
    return f"{HOST}-{os.getpid()}-{os.urandom(4).hex()}"


def is_left_behind(name: str) -> bool:
    """Return whether `name` is that of a temporary file whose maker, a process of this host, is gone.

    The caller has nothing under way himself. Of the files of other hosts nothing can be said.
    """
    match = re.search(_TEMPORARY, name)
    return match is not None and match["host"] == HOST and not is_alive(int(match["pid"]))


def is_alive(process: int) -> bool:
    """Return whether the `process` of this host, which is another one than ours, is there."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def quarantine(path: Path) -> Path | None:
    """Move the file at `path` aside, under a name that says so; return None where nothing is there any more.

    It is never deleted: it may be the only copy of what some result was made with.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.quarantine-{stamp}-{os.urandom(4).hex()}")
    try:
        with open_folder(path.parent) as parent:
            os.rename(path.name, aside.name, src_dir_fd=parent, dst_dir_fd=parent)
    except FileNotFoundError:
        return None
    return aside


def open_to_folder(path: Path, folder: Path) -> None:
    """Let those who may write to `folder` read the file `path`, whatever the umask: they share its images.

    Raises OSError where the mode cannot be changed.
    """
    shared = folder.stat().st_mode
    more = (0o055 if shared & stat.S_IWOTH else 0) | (0o050 if shared & stat.S_IWGRP else 0)
    with opened(path) as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode | more != mode:
            os.fchmod(file.fileno(), mode | more)


def _kind(mode: int) -> str:
    names = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return names.get(stat.S_IFMT(mode), "not a regular file")
