"""SIF files: what an image says of itself, read from its first kilobytes.

The format is that of ``apptainer/sif`` (``pkg/sif/sif.go``, ``descriptor.go``): a header of 128 bytes, a table of
descriptors of 585 bytes each, the objects that they describe; little-endian, packed. Apptainer writes an image that
it built from ``docker://`` as four objects: definition file, ``inspect-metadata.json`` (labels), ``oci-config.json``,
and the squashfs file system.

* **Nothing in a file is believed before it is checked**: counts, offsets and sizes against the file's real size and
  against :data:`~.settings.DISK`. However large a file is or claims to be, at most half a megabyte of it is read.
* **A file that two readers could understand in two ways is corrupt**: two objects called ``inspect-metadata.json``,
  two primary partitions, objects that lie over the table of descriptors.
* **A SIF is sound** if all its objects lie within the file and its squashfs is as long as its superblock says. That
  finds truncation; flipped bytes are found by a hash alone.
* **Labels are claims.** :attr:`Sif.pulled_digest` is a good one: Apptainer overwrites these labels at each build, so
  an image cannot bring its own. A user who can write the file can write any label, so they never make an image
  `verified`.
"""

import json
import os
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, NamedTuple, NoReturn

from snakemake_apptainer_freshness.common.files import NotAFile, opened
from snakemake_apptainer_freshness.common.strict_json import refusing_equal_keys
from snakemake_apptainer_freshness.errors import CorruptImage, InvalidDigest
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.settings import DISK

_HEADER: Final = struct.Struct("<32s10s3s3s16s8q")
_DESCRIPTOR: Final = struct.Struct("<i?III7q128s384s")
_PARTITION: Final = struct.Struct("<ii3s")
_SUPERBLOCK: Final = struct.Struct("<I36xQ")  # squashfs: magic, and bytes_used at 40
_SQUASHFS_MAGIC: Final = 0x73717368
_MAGIC: Final = b"SIF_MAGIC\0"
_NEWEST_VERSION: Final = b"01"

DEFINITION: Final = 0x4001
PARTITION: Final = 0x4004
SIGNATURE: Final = 0x4005
JSON: Final = 0x4006
ROOT_INDEX: Final = 0x400A

SQUASHFS: Final = 1
LAUNCH: Final = b"#!/usr/bin/env run-singularity\n"
"""What Apptainer and SingularityCE put before every SIF, which makes it a script."""
_PULLED: Final = frozenset({DEFINITION, JSON, PARTITION, SIGNATURE})
"""What a pull makes, and a signature, which changes nothing."""
_PRIMARY: Final = 2
_METADATA: Final = "inspect-metadata.json"

_ARCHITECTURES: Final = {
    b"01": "386", b"02": "amd64", b"03": "arm", b"04": "arm64", b"05": "ppc64", b"06": "ppc64le",
    b"07": "mips", b"08": "mipsle", b"09": "mips64", b"10": "mips64le", b"11": "s390x", b"12": "riscv64",
}  # fmt: skip

FROM: Final = "org.label-schema.usage.singularity.deffile.from"
BOOTSTRAP: Final = "org.label-schema.usage.singularity.deffile.bootstrap"
APPTAINER_VERSION: Final = "org.label-schema.usage.apptainer.version"
SINGULARITY_VERSION: Final = "org.label-schema.usage.singularity.version"
BASE_DIGEST: Final = "org.opencontainers.image.base.digest"
_WRITES_BASE_DIGEST: Final = (1, 5)
_RELEASE: Final = re.compile(r"v?(\d{1,6})\.(\d{1,6})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SifDescriptor:
    """One object of a SIF: what it is and where it lies; `offset` and `size` in bytes, within the file."""

    type: int
    id: int
    offset: int
    size: int
    name: str
    extra: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """The primary file system: `filesystem` 1 is squashfs; `offset` and `size` in bytes."""

    filesystem: int
    architecture: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sif:
    """What a sound SIF says of itself.

    `architecture` is Go's word, or empty where the file does not say; `labels` come from ``inspect-metadata.json``;
    `definition` is the text that it was built from; `root_index` the digest of an OCI-SIF's own index.
    `squashfs_size` is what the file system's superblock says, `launch` the line that starts the file as a script.
    `is_reproducible` says that it has no identifier of its own, as what Apptainer writes reproducibly
    (``OptCreateDeterministic`` of github.com/apptainer/sif): a claim.
    """

    architecture: str
    version: str
    descriptors: tuple[SifDescriptor, ...]
    labels: Mapping[str, str]
    definition: str
    partition: Partition | None
    squashfs_size: int | None
    root_index: Digest | None
    launch: bytes = LAUNCH
    is_reproducible: bool = False

    @property
    def unlike_a_pull(self) -> str:
        """What in the file no pull of a container image makes, and could change what runs; empty where it is nothing.

        Beside its file system a SIF can hold an overlay that is laid over it, or be started by another script.
        """
        if self.partition is None:
            return ""  # an OCI-SIF of SingularityCE, which Apptainer does not run
        if sum(descriptor.type == PARTITION for descriptor in self.descriptors) > 1:
            return "it has a second partition, which could be laid over its file system"
        if strange := [descriptor for descriptor in self.descriptors if descriptor.type not in _PULLED]:
            return f"it has an object of type {strange[0].type:#x}, which no pull makes"
        return "" if self.launch == LAUNCH else "its launch script is not Apptainer's"

    @property
    def pulled_reference(self) -> str:
        """The reference that Apptainer pulled this image by, without its scheme; empty where it does not say so.

        A definition file may name a pinned image, too, and then change it; so what was built with any section
        (``%post``) was not just pulled.
        """
        if self.labels.get(BOOTSTRAP) != "docker" or "%" in self.definition:
            return ""
        return self.labels.get(FROM, "")

    @property
    def pulled_digest(self) -> Digest | None:
        """The digest that this image was pulled by; None where it was pulled by a tag, or built in another way."""
        return _digest(self.pulled_reference.rpartition("@")[2])

    @property
    def base_digest(self) -> Digest | None:
        """What the tag pointed at that this image was pulled by, as Apptainer records it from 1.5 on.

        Older versions pass on what the image itself says there, which is something else, and a claim of the image's
        author.
        """
        release = _RELEASE.match(self.labels.get(APPTAINER_VERSION, ""))
        if release is None or (int(release[1]), int(release[2])) < _WRITES_BASE_DIGEST:
            return None
        return _digest(self.labels.get(BASE_DIGEST, "")) if self.pulled_reference else None

    @property
    def builder(self) -> str:
        """The program and version that built this image, as it says; empty where it does not."""
        return builder_of(self.labels)


def builder_of(labels: Mapping[str, str]) -> str:
    """Return the program and version that an image with these `labels` says built it; empty where it does not."""
    if version := labels.get(APPTAINER_VERSION):
        return f"apptainer {version}"
    if version := labels.get(SINGULARITY_VERSION):
        return f"singularity {version}"
    return ""


def read(source: str | os.PathLike[str] | BinaryIO) -> Sif:
    """Return what the SIF at a path, or in a file that is open for reading bytes, says of itself.

    Raises
    ------
    CorruptImage
        where it is not a sound SIF; the message is the reason.
    OSError
        where it cannot be read.
    """
    try:
        with opened(source) if isinstance(source, (str, os.PathLike)) else nullcontext(source) as file:
            return _read(_Window(file))
    except NotAFile as error:
        raise CorruptImage(f"not a file but {error}") from None


class _Window:
    """The start of a file, with a bound on all that is ever read of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = DISK.sif_read
        self.size = file.seek(0, os.SEEK_END)
        self._head = self._pull(0, DISK.sif_head)

    def take(self, offset: int, size: int, what: str) -> bytes:
        """`size` bytes from `offset` on; raises CorruptImage where they are not there, or too many."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise CorruptImage(f"truncated: {what} should end at byte {offset + size}, the file at {self.size}")
        if offset + size <= len(self._head):
            return self._head[offset : offset + size]
        if size > self._left:
            raise CorruptImage(f"{what} is unreasonably large ({size} bytes)")
        content = self._pull(offset, size)
        if len(content) < size:
            raise CorruptImage(f"truncated while it was read, in {what}")
        return content

    def _pull(self, offset: int, size: int) -> bytes:
        self._left -= size
        self._file.seek(offset)
        content = bytearray()
        while len(content) < size and (piece := self._file.read(size - len(content))):
            content += piece
        return bytes(content)


class _Header(NamedTuple):
    launch: bytes
    magic: bytes
    version: bytes
    architecture: bytes
    uuid: bytes
    created: int
    modified: int
    free: int
    total: int
    offset: int
    size: int
    data_offset: int
    data_size: int


def _read(window: _Window) -> Sif:
    if window.size == 0:
        raise CorruptImage("empty")
    if window.size < _HEADER.size:
        raise CorruptImage(f"only {window.size} bytes long")
    header = _Header(*_HEADER.unpack(window.take(0, _HEADER.size, "the header")))
    if header.magic != _MAGIC:
        raise CorruptImage("it does not have the magic bytes of a SIF")
    version = header.version.rstrip(b"\0")
    if not version.isdigit() or version > _NEWEST_VERSION:
        raise CorruptImage(f"SIF version {version.decode('ascii', 'replace')!r} is not known")
    descriptors = tuple(_descriptors(window, header))
    partition = _primary(descriptors)
    root_index = _root_index(descriptors)
    if partition is None and root_index is None:
        raise CorruptImage("it has neither a primary file system nor an OCI index")
    return Sif(
        architecture=_architecture(header, partition),
        version=version.decode(),
        descriptors=descriptors,
        labels=_labels(window, descriptors),
        definition=_definition(window, descriptors),
        partition=partition,
        squashfs_size=_squashfs_size(window, partition),
        root_index=root_index,
        launch=header.launch.rstrip(b"\0"),
        is_reproducible=not any(header.uuid),
    )


def _descriptors(window: _Window, header: _Header) -> Iterator[SifDescriptor]:
    if not 0 < header.total <= DISK.sif_descriptors:
        raise CorruptImage(f"it claims to have room for {header.total} objects")
    table_size = header.total * _DESCRIPTOR.size
    if header.offset < _HEADER.size:
        raise CorruptImage("its table of objects lies in its header")
    table = window.take(header.offset, table_size, "the table of objects")
    for number, fields in enumerate(_DESCRIPTOR.iter_unpack(table), 1):
        kind, used, identifier, _group, _link, offset, size, *_times, name, extra = fields
        if not used:
            continue
        if offset < 0 or size < 0 or offset + size > window.size:
            raise CorruptImage(
                f"truncated: object {number} should end at byte {offset + size}, the file at {window.size}"
            )
        # two readers could see two things in bytes that are an object and a part of the table
        if size and offset < header.offset + table_size and offset + size > header.offset:
            raise CorruptImage(f"object {number} lies over the table of objects")
        if size and offset < _HEADER.size:
            raise CorruptImage(f"object {number} lies over the header")
        text = name.split(b"\0", 1)[0].decode("utf-8", "replace")
        yield SifDescriptor(type=kind, id=identifier, offset=offset, size=size, name=text, extra=extra)


def _primary(descriptors: tuple[SifDescriptor, ...]) -> Partition | None:
    partitions = []
    for descriptor in descriptors:
        if descriptor.type == PARTITION:
            filesystem, kind, architecture = _PARTITION.unpack_from(descriptor.extra)
            if kind == _PRIMARY:
                name = _ARCHITECTURES.get(architecture[:2], "")
                where = {"offset": descriptor.offset, "size": descriptor.size}
                partitions.append(Partition(filesystem=filesystem, architecture=name, **where))
    if len(partitions) > 1:
        raise CorruptImage("it has two primary file systems")
    return partitions[0] if partitions else None


def _architecture(header: _Header, partition: Partition | None) -> str:
    name = _ARCHITECTURES.get(header.architecture[:2], "")
    if partition and partition.architecture and name and partition.architecture != name:
        raise CorruptImage(f"its header says {name}, its file system {partition.architecture}")
    return name or (partition.architecture if partition else "")


def _squashfs_size(window: _Window, partition: Partition | None) -> int | None:
    if partition is None or partition.filesystem != SQUASHFS:
        return None
    if partition.size < _SUPERBLOCK.size:
        raise CorruptImage("its file system is shorter than a superblock")
    magic, used = _SUPERBLOCK.unpack(window.take(partition.offset, _SUPERBLOCK.size, "the superblock"))
    if magic != _SQUASHFS_MAGIC:
        raise CorruptImage("its file system does not have the magic bytes of squashfs")
    if used > partition.size:
        raise CorruptImage(f"its squashfs says that it has {used} bytes, there are {partition.size}")
    return int(used)


def _root_index(descriptors: tuple[SifDescriptor, ...]) -> Digest | None:
    indexes = [descriptor for descriptor in descriptors if descriptor.type == ROOT_INDEX]
    if len(indexes) > 1:
        raise CorruptImage("it has two OCI indexes")
    if not indexes:
        return None
    digest = _digest(indexes[0].extra.split(b"\0", 1)[0].decode("ascii", "replace"))
    if digest is None:
        raise CorruptImage("its OCI index has no digest")
    return digest


def _labels(window: _Window, descriptors: tuple[SifDescriptor, ...]) -> Mapping[str, str]:
    content = _content(window, [d for d in descriptors if d.type == JSON and d.name == _METADATA], _METADATA)
    value = _json(content) if content else None
    for key in ("data", "attributes", "labels"):
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, dict):
        return {}
    return {key: text for key, text in value.items() if isinstance(text, str)}


def _definition(window: _Window, descriptors: tuple[SifDescriptor, ...]) -> str:
    content = _content(window, [d for d in descriptors if d.type == DEFINITION], "definition file")
    return content.decode("utf-8", "replace")


def _content(window: _Window, objects: list[SifDescriptor], what: str) -> bytes:
    """Return the one object that was found; empty where there is none."""
    if len(objects) > 1:
        raise CorruptImage(f"it has two objects that are its {what}")
    if not objects:
        return b""
    if objects[0].size > DISK.sif_metadata:
        raise CorruptImage(f"its {what} is unreasonably large ({objects[0].size} bytes)")
    return window.take(objects[0].offset, objects[0].size, f"the {what}")


def _json(content: bytes) -> Any:
    def refuse_twice() -> NoReturn:
        raise CorruptImage(f"its {_METADATA} has a key twice")

    try:
        return json.loads(content, object_pairs_hook=refusing_equal_keys(refuse_twice))
    except (ValueError, RecursionError):
        raise CorruptImage(f"its {_METADATA} is not sound JSON") from None


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InvalidDigest:
        return None
