"""Loading a bundle: its lock and its images get their names once its last byte was read and believed.

Until then the images lie under temporary names, in the folder that they are for. Each must be a sound image for this
machine, be named by the lock that came with it, and say nothing else of itself. Then they are renamed, each under our
lock of it, and last the lock file is written: a run in mode ``frozen`` then needs nobody. An image that is there and
`verified` is kept, any other moved aside; another lock is never replaced. However it ends, nothing half-written stays.

What makes a bundle good is that it arrived as it was sent (:mod:`.store.archive`). Its records are believed as those of
whoever sent it.
"""

import contextlib
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from snakemake_apptainer_freshness import lockfile as lock_format
from snakemake_apptainer_freshness.actions.bundle import Advance
from snakemake_apptainer_freshness.actions.check import check_one
from snakemake_apptainer_freshness.actions.fetch import put, stopping_cleanly
from snakemake_apptainer_freshness.actions.lock_io import read_lock
from snakemake_apptainer_freshness.actions.verify import is_fetchable
from snakemake_apptainer_freshness.apptainer import sif
from snakemake_apptainer_freshness.common.files import exclusive, unique, write_atomically
from snakemake_apptainer_freshness.errors import CorruptImage, InvalidBundle, InvalidLock, LocalIOError, UsageError
from snakemake_apptainer_freshness.freshness import DiskState
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.lockfile import Entry, Lock
from snakemake_apptainer_freshness.pin import Pin, pins_of
from snakemake_apptainer_freshness.store import claims, records
from snakemake_apptainer_freshness.store.archive import Contents, Packed, Reader
from snakemake_apptainer_freshness.store.classify import wrong_architecture
from snakemake_apptainer_freshness.store.prefix import PARTIAL, image_name, image_path
from snakemake_apptainer_freshness.store.pull import Obtained
from snakemake_apptainer_freshness.store.records import DamagedRecord, Record

_MODE: Final = 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """One image of a bundle: it was `kept`, or put there; `quarantined` is where the former one went."""

    pin: Pin
    path: Path
    size: int
    kept: bool
    quarantined: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Staged:
    """An image under a temporary name; none where there is a proven one already."""

    pin: Pin
    obtained: Obtained
    temporary: Path | None


class Loader:
    """Loads one bundle, that is read from `file`, for the lock at `lock_path` and into the image folder `prefix`."""

    def __init__(self, file: BinaryIO, *, lock_path: Path, prefix: Path) -> None:
        self._reader = Reader(file)
        self._lock_path = lock_path
        self._prefix = prefix

    def begin(self) -> Contents:
        """Read the table of contents, which says what is coming.

        Raises
        ------
        InvalidBundle
            where it is damaged, or its images are for other machines.
        LocalIOError
            where it cannot be read.
        """
        with _reading():
            contents = self._reader.contents()
        if contents.platform != (here := str(Platform.here())):
            raise InvalidBundle(
                f"the bundle cannot be used: its images are for {contents.platform}, this machine is {here}",
                hint="save one on a machine like this one",
            )
        return contents

    def load(self, contents: Contents, advance: Advance) -> list[Loaded]:
        """Read the rest, and put it in place once all of it is proven.

        Raises
        ------
        InvalidBundle
            where anything in it is not what it announces; nothing was changed.
        UsageError
            where there is another lock; nothing was changed.
        LocalIOError
            where something cannot be read or written.
        """
        with _reading():
            content = self._reader.small(contents.lock)
        lock = _lock_of(content)
        self._refuse_other_lock(lock)
        pins = _pins_for(lock, contents)
        with stopping_cleanly(threading.Event()), contextlib.ExitStack() as temporaries, _reading():
            self._make_room(contents)
            staged = [self._stage(packed, pins[packed.image.name], temporaries, advance) for packed in contents.images]
            self._reader.end()
            return self._settle(lock, content, staged)

    def _refuse_other_lock(self, lock: Lock) -> None:
        there = read_lock(self._lock_path)
        if len(there) and there != lock:
            changes = lock_format.changes(there, lock)
            raise UsageError(
                f"the lock file {self._lock_path} is not the bundle's: they differ in {changes[0].reference}"
                + (f" and {len(changes) - 1} more" if len(changes) > 1 else ""),
                hint="move it away, or load into another folder with --lockfile",
            )
        if not self._lock_path.parent.is_dir():
            raise LocalIOError(
                f"cannot write the lock file {self._lock_path}: its folder does not exist",
                hint=f"make the folder {self._lock_path.parent}",
            )

    def _make_room(self, contents: Contents) -> None:
        self._prefix.mkdir(parents=True, exist_ok=True)
        present = {path.name for path in self._prefix.glob("*.simg")}
        size = sum(one.image.size for one in contents.images if one.image.name not in present)
        free = shutil.disk_usage(self._prefix).free
        if size > free:
            raise LocalIOError(
                f"cannot load the bundle: its images take {size} bytes, and {self._prefix} has room for {free}",
                hint="make room, or choose another folder with --prefix",
            )

    def _stage(self, packed: Packed, pin: Pin, temporaries: contextlib.ExitStack, advance: Advance) -> _Staged:
        """Read one image, and its record before it."""
        record = None if packed.record is None else _record_of(self._reader.small(packed.record), packed, pin)
        if record is None and (pin.content is None or pin.content.hex != packed.image.sha256):
            raise _refused(f"nothing in it says that {packed.image.name} is {pin.url}")
        obtained = Obtained(
            sha256=packed.image.sha256,
            size=packed.image.size,
            apptainer=record.apptainer if record else "",
            obtained_by=record.obtained_by if record else records.BUNDLED,
            obtained_at=record.obtained_at if record else records.now(),
        )
        image = image_path(self._prefix, pin.url)
        if check_one(pin, image).state is DiskState.VERIFIED:
            self._reader.copy(packed.image, lambda piece: advance(len(piece)))
            return _Staged(pin=pin, obtained=obtained, temporary=None)
        temporary = image.with_name(f"{image.name}{PARTIAL}{unique()}")
        temporaries.callback(_remove, temporary)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
        with open(descriptor, "wb") as out:  # noqa: PTH123  a descriptor, not a path

            def write(piece: memoryview) -> None:
                out.write(piece)
                advance(len(piece))

            self._reader.copy(packed.image, write)
        _refuse_other_image(temporary, pin, obtained)
        return _Staged(pin=pin, obtained=obtained, temporary=temporary)

    def _settle(self, lock: Lock, content: bytes, staged: Iterable[_Staged]) -> list[Loaded]:
        """Give everything its name: all of it is proven."""
        claims.register(self._prefix, self._lock_path, lock)
        loaded = [self._put(one) for one in staged]
        with exclusive(self._lock_path):
            self._refuse_other_lock(lock)
            if not len(read_lock(self._lock_path)):
                write_atomically(self._lock_path, content)
        return loaded

    def _put(self, one: _Staged) -> Loaded:
        image = image_path(self._prefix, one.pin.url)
        with exclusive(image):
            kept = check_one(one.pin, image).state is DiskState.VERIFIED
            if not kept and one.temporary is None:
                raise LocalIOError(f"{image} was changed while the bundle was read", hint="load it again")
            aside = None if kept or one.temporary is None else put(one.pin, one.temporary, image, one.obtained)
        return Loaded(pin=one.pin, path=image, size=one.obtained.size, kept=kept, quarantined=aside)


def _lock_of(content: bytes) -> Lock:
    try:
        return lock_format.loads(content.decode(), source="containers.lock of the bundle")
    except UnicodeDecodeError:
        raise _refused("its lock is not UTF-8 text") from None
    except InvalidLock as error:
        raise _refused(error.message) from None


def _pins_for(lock: Lock, contents: Contents) -> Mapping[str, Pin]:
    """What each image has to be, by its name: the lock names them all, and all that it names are there."""
    pins: dict[str, Pin] = {}
    carried = {packed.image.name for packed in contents.images}
    for entry in lock:
        names = {image_name(pin.url): pin for pin in _pins(entry)}
        if names and not carried & set(names):
            raise _refused(f"it lacks the image of {entry.reference.text}")
        pins |= names
    for name in carried:
        if name not in pins:
            raise _refused(f"it holds {name}, which its lock does not name")
    return pins


def _pins(entry: Entry) -> Iterator[Pin]:
    yield from (pin for pin in pins_of(entry) if is_fetchable(pin))


def _record_of(content: bytes, packed: Packed, pin: Pin) -> Record:
    name = packed.image.name
    try:
        record = Record.loads(content)
    except DamagedRecord as error:
        raise _refused(f"of {name}, {error}") from None
    said = (record.image, record.pinned, record.digest, record.sha256, record.size, record.platform)
    if record.refuted or said != (name, pin.url, pin.digest, packed.image.sha256, packed.image.size, str(pin.platform)):
        raise _refused(f"the record of {name} is about another image")
    return record


def _refuse_other_image(temporary: Path, pin: Pin, obtained: Obtained) -> None:
    """That the file does not say of itself that it is another image."""
    try:
        image = sif.read(temporary)
    except CorruptImage as error:
        raise _refused(f"the image of {pin.reference.text} is {error.message}") from None
    if problem := wrong_architecture(image, pin):
        raise _refused(f"the image of {pin.reference.text}: {problem}")
    pulled = obtained.obtained_by in (records.PULLED, records.COPIED)
    if pulled and pin.pinned.scheme is Scheme.DOCKER and not (image.pulled_digest and pin.names(image.pulled_digest)):
        said = image.pulled_reference or "something else"
        raise _refused(f"the image of {pin.reference.text} says that it was pulled as {said}")


def _remove(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LocalIOError(
            f"cannot load the bundle: {error.filename or 'reading it'}: {error.strerror or error}",
            hint="check the file, and that there is room for its images",
        ) from error


def _refused(problem: str) -> InvalidBundle:
    return InvalidBundle(f"the bundle cannot be used: {problem}", hint="save it anew; do not use this one")
