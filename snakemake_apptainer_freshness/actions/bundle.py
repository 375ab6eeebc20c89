"""Bundles: a lock, its images and their records, to be carried to where no registry can be reached.

Only what is `verified` goes in, and it is hashed once more on the way: what arrives is what was proven here. An image
that cannot be proven stops it. What is a file of this machine, or made of one, cannot be carried at all; it is named.
The archive is :mod:`.store.archive`'s, and is loaded by :mod:`.actions.unpack`.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from snakemake_apptainer_freshness import lockfile as lock_format
from snakemake_apptainer_freshness.actions.check import check
from snakemake_apptainer_freshness.actions.lock_io import read_lock
from snakemake_apptainer_freshness.actions.survey import size_of
from snakemake_apptainer_freshness.actions.verify import is_fetchable
from snakemake_apptainer_freshness.common.files import NotAFile, opened
from snakemake_apptainer_freshness.errors import LocalIOError, UnprovenImage
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.pin import Pin, pins_of
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import archive, records
from snakemake_apptainer_freshness.store.archive import Contents, Member, Packed
from snakemake_apptainer_freshness.store.prefix import image_path
from snakemake_apptainer_freshness.store.records import DamagedRecord, Record

Advance = Callable[[int], None]
"""Is told how many more bytes were written or read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledImage:
    """An image in a bundle: what it has to be, its place in the archive, its file and its record here."""

    pin: Pin
    packed: Packed
    path: Path
    record: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A reference whose image cannot be carried, and why."""

    reference: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleContent:
    """What a bundle is made of; `lock` are the bytes of the lock file."""

    contents: Contents
    lock: bytes
    images: tuple[BundledImage, ...]
    left: tuple[LeftOut, ...]


def gather(lock_path: Path, prefix: Path) -> BundleContent:
    """What belongs into the bundle of the lock at `lock_path`, whose images lie in `prefix`.

    Raises
    ------
    UnprovenImage
        where an image is not `verified`; all are named.
    InvalidLock, LocalIOError
        as :func:`~.actions.pinning.read_lock` does.
    """
    lock, content = _read_lock(lock_path)
    pins = {entry.reference.text: pins_of(entry) for entry in lock}
    left = {reference: why for reference, found in pins.items() if (why := _not_carried(found[0]))}
    wanted = [found for reference, found in pins.items() if reference not in left]
    facts = check((pin for found in wanted for pin in found), prefix)
    proven = {pin.url: pin for found in wanted for pin in found if facts[pin.url].state is DiskState.VERIFIED}
    _refuse_unproven(
        [(found[0], facts[found[0].url]) for found in wanted if not any(pin.url in proven for pin in found)]
    )
    images = tuple(_carried(pin, image_path(prefix, pin.url)) for pin in proven.values())
    contents = Contents(
        platform=str(Platform.here()),
        lock=Member(name=archive.LOCK, size=len(content), sha256=hashlib.sha256(content).hexdigest()),
        images=tuple(one.packed for one in images),
    )
    return BundleContent(
        contents=contents,
        lock=content,
        images=images,
        left=tuple(LeftOut(reference=reference, why=why) for reference, why in left.items()),
    )


def _read_lock(path: Path) -> tuple[Lock, bytes]:
    """The lock at `path`, and its bytes."""
    lock = read_lock(path)
    try:
        content = path.read_bytes()
        same = lock_format.loads(content.decode(), source=str(path)) == lock
    except (OSError, UnicodeDecodeError):
        same = False
    if not same:
        raise LocalIOError(f"the lock file {path} changed while it was read", hint="try again")
    return lock, content


def _not_carried(pin: Pin) -> str:
    """Why the image of `pin` cannot be carried; empty where it can."""
    if is_fetchable(pin):
        return ""
    if pin.pinned.scheme is Scheme.FILE:
        return "it is a file of this machine; copy it to the same path there"
    return "each machine builds it from what lies there, and nothing in it names what it is"


def _refuse_unproven(bad: list[tuple[Pin, DiskFact]]) -> None:
    if not bad:
        return
    lines = [f"  {pin.reference.text}: {fact.path} is {fact.state}: {fact.detail}" for pin, fact in bad]
    what = "an image is" if len(bad) == 1 else f"{len(bad)} images are"
    absent = all(fact.state is DiskState.ABSENT for _, fact in bad)
    verb = "pull" if absent else "verify --repair"
    raise UnprovenImage(
        "\n".join([f"cannot save a bundle: {what} not proven to be what the lock names:", *lines]),
        hint=f"fetch what is missing first, with: apptainer-freshness {verb}",
    )


def _carried(pin: Pin, path: Path) -> BundledImage:
    """The image at `path`, which is verified."""
    record = _record_for(pin, path)
    if record is not None:
        sha256, size = record.sha256, record.size
        content = replace(record, stat=None, writable_by_all=False).dumps()
        member = Member(name=path.name + records.SUFFIX, size=len(content), sha256=hashlib.sha256(content).hexdigest())
    elif pin.content is not None:
        sha256, size, content, member = pin.content.hex, size_of(path), b"", None
    else:
        raise LocalIOError(f"the record of {path} has gone while it was read", hint="try again")
    packed = Packed(image=Member(name=path.name, size=size, sha256=sha256), record=member)
    return BundledImage(pin=pin, packed=packed, path=path, record=content)


def _record_for(pin: Pin, path: Path) -> Record | None:
    try:
        record = records.load(path)
    except DamagedRecord:
        return None
    fits = record is not None and (record.pinned, record.digest) == (pin.url, pin.digest)
    return record if fits else None


def save(freight: BundleContent, out: BinaryIO, advance: Advance) -> None:
    """Write the bundle to `out`; what was written is one only once this returns.

    Raises
    ------
    UnprovenImage
        where an image changes while it is read.
    LocalIOError
        where one cannot be read, or `out` not be written.
    """
    try:
        _add(out, archive.CONTENTS, freight.contents.dumps())
        _add(out, archive.LOCK, freight.lock)
        for one in freight.images:
            if one.packed.record is not None:
                _add(out, one.packed.record.name, one.record)
            _add_image(out, one, advance)
        out.write(archive.END)
        out.flush()
    except NotAFile as error:
        raise LocalIOError(f"an image was replaced by {error} while it was read", hint="try again") from None
    except OSError as error:
        raise LocalIOError(
            f"cannot write the bundle: {error.strerror or error}", hint="check that there is room for it"
        ) from error


def _add(out: BinaryIO, name: str, content: bytes) -> None:
    out.write(archive.header(name, len(content)) + content + archive.padding(len(content)))


def _add_image(out: BinaryIO, one: BundledImage, advance: Advance) -> None:
    member, digest, left = one.packed.image, hashlib.sha256(), one.packed.image.size
    out.write(archive.header(member.name, member.size))
    buffer = memoryview(bytearray(DISK.chunk))
    with opened(one.path) as file:
        while left and (count := file.readinto(buffer[: min(left, len(buffer))])):  # type: ignore[attr-defined]
            digest.update(buffer[:count])
            out.write(buffer[:count])
            advance(count)
            left -= count
    if left or digest.hexdigest() != member.sha256:
        raise UnprovenImage(
            f"cannot save a bundle: {one.path}, the image of {one.pin.reference.text}, is not what its record says",
            hint="fetch it anew with: apptainer-freshness verify --full --repair",
        )
    out.write(archive.padding(member.size))
