"""A bundle: a lock with all that its images are made of, which is an OCI image layout with a table of contents.

The table, ``bundle.json``, has name, size and digest of every other file, in order: ``oci-layout``, the lock,
``index.json`` and the blobs. It says where things are, and nothing else: what a digest of the lock leads to is hashed
while it is read, and is proven that way; a bundle's maker is not trusted. The names are those of an image layout; no
name out of a bundle is ever used as a path.

It lies in a tar file (:mod:`.bundle_tar`), or in the folder that ``tar`` makes of one (:mod:`.bundle_folder`).
"""

import json
from abc import abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Final, Self

from snakemake_apptainer_freshness.common.tables import Damaged, Table, read_json, version_of
from snakemake_apptainer_freshness.errors import InvalidBundle, NotFound
from snakemake_apptainer_freshness.image import layout
from snakemake_apptainer_freshness.image.blobs import DamagedBlob, behind, checked
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store.named_blobs import NamedBlobs

VERSION: Final = 2
CONTENTS: Final = "bundle.json"
LOCK: Final = "containers.lock"
ALL: Final = "all"
"""The platform of a bundle that has every platform's layers."""

_FIRST: Final = (layout.LAYOUT, LOCK, layout.INDEX)
FOLDERS: Final = ("blobs", "blobs/sha256")
"""Of a layout."""
_LONGEST_PLATFORM: Final = 100
_AGAIN: Final = "copy the bundle again, or save it anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of the archive: `size` in bytes, `digest` of its content."""

    name: str
    size: int
    digest: Digest

    @classmethod
    def of(cls, name: str, content: bytes) -> Self:
        """Return the member that has this `content`."""
        return cls(name=name, size=len(content), digest=Digest.of(content))

    @classmethod
    def blob(cls, digest: Digest, size: int) -> Self:
        """Return the member that is the blob `digest`."""
        return cls(name=layout.blob_name(digest), size=size, digest=digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The table of contents: the files, and the `platform` (``os/architecture``) whose layers they are, or `ALL`."""

    platform: str
    files: tuple[Member, ...]

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(member.size for member in self.files)

    def dumps(self) -> bytes:
        """Return the table as it is written."""
        files = [{"name": member.name, "size": member.size, "digest": str(member.digest)} for member in self.files]
        return (json.dumps({"version": VERSION, "platform": self.platform, "file": files}, indent=1) + "\n").encode()

    @classmethod
    def loads(cls, content: bytes) -> Self:
        """Return the table that `content` spells.

        Raises
        ------
        InvalidBundle
            where it is none, or of another version.
        """
        try:
            document = read_json(content)
            _refuse_other_version(version_of(document))
            table = Table.versioned(document, VERSION, _KEYS)
            platform = table.words("platform", longest=_LONGEST_PLATFORM)
            files = tuple(_member(row) for row in table.children("file", _FILE_KEYS))
        except Damaged as error:
            raise refused(f"its table of contents cannot be used: {error}") from None
        _refuse_other_files(files)
        return cls(platform=platform, files=files)


_KEYS: Final = frozenset({"platform", "file"})
_FILE_KEYS: Final = frozenset({"name", "size", "digest"})


def _refuse_other_version(version: int) -> None:
    if version > VERSION:
        raise InvalidBundle(
            f"the bundle has version {version}; this program knows version {VERSION}",
            hint="upgrade snakemake-apptainer-freshness",
        )
    if version < VERSION:
        raise InvalidBundle(
            f"the bundle has version {version}, in which nothing but its sender's word says what the images are",
            hint="save it anew with this version of the program, where the registry can be reached",
        )


def _member(row: Table) -> Member:
    if row.number("size") >= DISK.bundle_file:
        row.refuse("size", f"must be less than {DISK.bundle_file}")
    return Member(name=row.text("name"), size=row.number("size"), digest=row.parsed("digest", Digest.parse))


def _refuse_other_files(files: tuple[Member, ...]) -> None:
    """Hold the files to those of an image layout and a lock, each once."""
    if tuple(member.name for member in files[: len(_FIRST)]) != _FIRST:
        raise refused(f"its first files are not {', '.join(_FIRST)}")
    if max(member.size for member in files[: len(_FIRST)]) > DISK.contents_size:
        raise refused(f"its lock or its index is larger than {DISK.contents_size} bytes")
    seen: set[Digest] = set()
    for member in files[len(_FIRST) :]:
        digest = layout.digest_of(member.name)
        if digest is None or digest != member.digest:
            raise refused(f"it holds {member.name[:80]!r}, which is no blob of an image")
        if digest in seen:
            raise refused(f"it holds {member.name} twice")
        seen.add(digest)


class Bundle(NamedBlobs):
    """A bundle whose table of contents was held against what is there.

    `lock` and `index` are what came with it, by which things are found in it; both are claims.
    """

    place = "the bundle"

    def __init__(self, contents: Contents) -> None:
        """Read the small files.

        Raises
        ------
        InvalidBundle
            where one of them is not what the table of contents says.
        OSError
            where one cannot be read.
        """
        self.contents = contents
        self._members = {member.name: member for member in contents.files}
        self.lock, self.index, _ = (self._small(self._members[name]) for name in (LOCK, layout.INDEX, layout.LAYOUT))

    @abstractmethod
    def _pieces(self, member: Member) -> Iterator[bytes]:
        """Give what lies under the name of `member`, which was there, a piece at a time, unchecked."""

    def size_of(self, digest: Digest) -> int | None:
        """Return how long the blob `digest` is said to be; None where it is not in here."""
        member = self._members.get(layout.blob_name(digest))
        return None if member is None else member.size

    def blob(self, reference: Reference, digest: Digest, start: int = 0) -> Generator[bytes, None, None]:
        """Give what lies under the name of the blob `digest` from byte `start` on, a piece at a time, unchecked.

        Raises
        ------
        NotFound
            where it is not in here.
        InvalidBundle
            where it is no longer there as it was.
        """
        member = self._members.get(layout.blob_name(digest))
        if member is None:
            raise NotFound(f"the bundle lacks {digest}, which {reference.text} needs")
        yield from behind(self._pieces(member), start)

    def _small(self, member: Member) -> bytes:
        try:
            return b"".join(checked(self._pieces(member), member.digest, member.size))
        except DamagedBlob:
            raise refused(f"{member.name} is not what its table of contents says") from None


def refused(problem: str) -> InvalidBundle:
    """Return the error that says what is wrong with a bundle."""
    return InvalidBundle(f"the bundle cannot be used: {problem}", hint=_AGAIN)
