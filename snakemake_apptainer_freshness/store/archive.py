"""The archive of a bundle: a plain tar file that can be read from a pipe and believed only byte by byte.

It starts with its table of contents, ``bundle.json``: name, size and SHA-256 of every file that follows, in order. Then
come the lock and, for each image, its record and the image. SIFs are compressed, so the archive is not.

What is written any ``tar`` can list and unpack. Reading is strict, since an archive may come from anywhere: nothing is
taken but what the table of contents announces, in that order, as regular files, each with its size and its SHA-256, and
then the end. So a link, a device, a folder, a path, a duplicate, a file too many or too few, a size that is not the
announced one, and bytes after the end are all refused by one rule. The names in the table of contents are those
of images in Snakemake's folder; no name out of an archive is ever used as a path.

Whoever makes an archive makes its table of contents, too: this says that a bundle arrived as it was sent, not who sent
it.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import BinaryIO, Final, Self

from snakemake_apptainer_freshness.errors import InvalidBundle
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import records

VERSION: Final = 1
CONTENTS: Final = "bundle.json"
LOCK: Final = "containers.lock"

_BLOCK: Final = tarfile.BLOCKSIZE
_IMAGE: Final = re.compile(r"[0-9a-f]{32}\.simg", re.ASCII)
_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PLATFORM: Final = re.compile(r"[a-z0-9]+(?:/[a-z0-9]+){1,2}", re.ASCII)
_AGAIN: Final = "copy the bundle again, or save it anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of the archive: `size` in bytes, `sha256` in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """An image in the archive, and its record where it has one."""

    image: Member
    record: Member | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The table of contents: the `lock`, and the images for machines of `platform` (``os/architecture``)."""

    platform: str
    lock: Member
    images: tuple[Packed, ...]

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(member.size for member in self.members())

    def members(self) -> Iterator[Member]:
        """Every file that follows, in order."""
        yield self.lock
        for packed in self.images:
            if packed.record is not None:
                yield packed.record
            yield packed.image

    def dumps(self) -> bytes:
        """The table as it is written."""
        table = {"version": VERSION, "platform": self.platform, "file": [asdict(member) for member in self.members()]}
        return (json.dumps(table, indent=1) + "\n").encode()

    @classmethod
    def loads(cls, content: bytes) -> Self:
        """The table that `content` spells.

        Raises
        ------
        InvalidBundle
            where it is none, or of a newer version.
        """
        try:
            table = json.loads(content)
        except (ValueError, RecursionError):
            raise _refused("its table of contents is not JSON") from None
        if not isinstance(table, dict):
            raise _refused("its table of contents is not an object")
        if type(version := table.get("version")) is not int:
            raise _refused("its table of contents has no version")
        if version > VERSION:
            raise InvalidBundle(
                f"the bundle has version {version}; this program knows version {VERSION}",
                hint="upgrade snakemake-apptainer-freshness",
            )
        if version != VERSION or set(table) != {"version", "platform", "file"}:
            raise _refused("its table of contents is damaged")
        if not isinstance(table["platform"], str) or not _PLATFORM.fullmatch(table["platform"]):
            raise _refused("its table of contents names no platform")
        if not isinstance(table["file"], list) or not table["file"]:
            raise _refused("its table of contents is empty")
        lock, *rest = [_member(one) for one in table["file"]]
        if lock.name != LOCK or lock.size > DISK.claim_size:
            raise _refused(f"its first file is not {LOCK}")
        return cls(platform=table["platform"], lock=lock, images=tuple(_packed(rest)))


def _member(table: object) -> Member:
    if not isinstance(table, Mapping) or set(table) != {"name", "size", "sha256"}:
        raise _refused("its table of contents is damaged")
    name, size, sha256 = table["name"], table["size"], table["sha256"]
    if not isinstance(name, str) or type(size) is not int or not 0 <= size < DISK.bundle_file:
        raise _refused("its table of contents is damaged")
    if not isinstance(sha256, str) or not _HEX.fullmatch(sha256):
        raise _refused(f"its table of contents has no SHA-256 of {name[:80]!r}")
    return Member(name=name, size=size, sha256=sha256)


def _packed(members: list[Member]) -> Iterator[Packed]:
    seen = set()
    record: Member | None = None
    for member in members:
        image = member.name.removesuffix(records.SUFFIX)
        if _IMAGE.fullmatch(image) is None:
            raise _refused(f"it holds {member.name[:80]!r}, which is no image")
        if member.name in seen:
            raise _refused(f"it holds {member.name} twice")
        seen.add(member.name)
        if member.name != image:
            if record is not None or member.size > DISK.record_size:
                raise _refused(f"it holds {member.name} without an image")
            record = member
            continue
        if record is not None and record.name != image + records.SUFFIX:
            raise _refused(f"it holds {record.name} without its image")
        yield Packed(image=member, record=record)
        record = None
    if record is not None:
        raise _refused(f"it holds {record.name} without its image")


def header(name: str, size: int) -> bytes:
    """What stands before a file of `size` bytes: the same each time; beyond 8 GiB as GNU tar has it."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """What stands after a file of `size` bytes."""
    return bytes(-size % _BLOCK)


END: Final = bytes(2 * _BLOCK)
"""What stands at the end."""


class Reader:
    """Reads an archive from `file`, forward only, in bounded memory; every method raises InvalidBundle, or OSError."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def contents(self) -> Contents:
        """The table of contents, which comes first."""
        size = self._announced(CONTENTS)
        if size > DISK.contents_size:
            raise _refused(f"its table of contents is larger than {DISK.contents_size} bytes")
        content = self._exactly(size)
        self._pad(size)
        return Contents.loads(content)

    def small(self, member: Member) -> bytes:
        """The bytes of the next file, which must be `member`; it is small, as :class:`Contents` saw to."""
        found = bytearray()
        self.copy(member, found.extend)
        return bytes(found)

    def copy(self, member: Member, write: Callable[[memoryview], object]) -> None:
        """Give the next file, which must be `member`, to `write` piece by piece.

        Nothing of it may be believed before this returns.
        """
        if self._announced(member.name) != member.size:
            raise _refused(f"{member.name} has not the announced size")
        digest = hashlib.sha256()
        for piece in self._pieces(member.size):
            digest.update(piece)
            write(piece)
        self._pad(member.size)
        if digest.hexdigest() != member.sha256:
            raise _refused(f"{member.name} is not what its SHA-256 says")

    def end(self) -> None:
        """That nothing follows but the end."""
        if any(self._exactly(len(END))):
            raise _refused("it holds more than it announces")
        rest = 0
        while piece := self._file.read(DISK.chunk):
            rest += len(piece)
            if rest > DISK.bundle_end or any(piece):
                raise _refused("something follows its end")

    def _announced(self, name: str) -> int:
        """The size of the next file, which must be called `name`."""
        block = self._exactly(_BLOCK)
        if not any(block):
            raise _refused(f"it ends before {name}")
        try:
            entry = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        except (tarfile.HeaderError, ValueError, OverflowError):
            raise _refused("it is no tar archive, or damaged") from None
        if entry.type != tarfile.REGTYPE or entry.name != name or entry.linkname or entry.size < 0:
            raise _refused(f"{name} should come, and there is {entry.name[:80]!r}, of type {entry.type!r}")
        return entry.size

    def _pad(self, size: int) -> None:
        if self._exactly(len(padding(size))) != padding(size):
            raise _refused("it is damaged between two files")

    def _pieces(self, size: int) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(min(size, DISK.chunk)))
        while size:
            count = self._file.readinto(buffer[: min(size, len(buffer))])  # type: ignore[attr-defined]  # it is binary
            if not count:
                raise _refused("it is cut short")
            yield buffer[:count]
            size -= count

    def _exactly(self, size: int) -> bytes:
        return b"".join(bytes(piece) for piece in self._pieces(size))


def _refused(problem: str) -> InvalidBundle:
    return InvalidBundle(f"the bundle cannot be used: {problem}", hint=_AGAIN)
