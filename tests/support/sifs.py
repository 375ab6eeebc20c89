"""SIF files made from nothing, in memory: sound ones, and ones that are wrong in one chosen way.

A sound one is laid out as Apptainer 1.4 does it for an image from ``docker://``: definition file, labels,
configuration, file system. The file system is a superblock and padding: nothing here is ever mounted.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

HEADER = struct.Struct("<32s10s3s3s16s8q")
DESCRIPTOR = struct.Struct("<i?III7q128s384s")
TABLE_OFFSET = 4096
DATA_OFFSET = 32768
CAPACITY = 48

IDENTIFIER = bytes(range(16))
"""Every image has one of its own, unless it was written reproducibly."""
AMD64, ARM64, I386 = b"02\0", b"04\0", b"01\0"
DEFINITION, PARTITION, JSON, ROOT_INDEX = 0x4001, 0x4004, 0x4006, 0x400A


def squashfs(size: int = 4096, *, used: int | None = None, filler: bytes = b"\xa5") -> bytes:
    """What looks like a squashfs from outside."""
    superblock = struct.pack("<I36xQ", 0x73717368, size if used is None else used)
    return superblock + filler * (size - len(superblock))


def partition_extra(architecture: bytes = AMD64, *, filesystem: int = 1, kind: int = 2) -> bytes:
    """The extra field of a partition's descriptor."""
    return struct.pack("<ii3s", filesystem, kind, architecture)


def labels_of(reference: str, *, version: str = "1.4.5", extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The labels of an image that was pulled as ``docker://<reference>``."""
    return {
        "org.label-schema.usage.apptainer.version": version,
        "org.label-schema.usage.singularity.deffile.bootstrap": "docker",
        "org.label-schema.usage.singularity.deffile.from": reference,
        **(extra or {}),
    }


@dataclass(frozen=True, kw_only=True)
class Object:
    """One object; where ``offset`` or ``size`` is given, its descriptor claims that instead of the truth."""

    type: int
    content: bytes
    name: str = ""
    extra: bytes = b""
    offset: int | None = None
    size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Header:
    """The header's claims."""

    launch: bytes = b"#!/usr/bin/env run-singularity\n"
    magic: bytes = b"SIF_MAGIC"
    version: bytes = b"01"
    architecture: bytes = AMD64
    total: int = CAPACITY
    offset: int = TABLE_OFFSET
    id: bytes = field(default=bytes(16))


def metadata(labels: Mapping[str, str]) -> bytes:
    """The content of ``inspect-metadata.json``."""
    return json.dumps({"data": {"attributes": {"labels": dict(labels)}}, "type": "container"}).encode()


def pulled(
    reference: str = "quay.io/team/tool:1.0",
    *,
    labels: Mapping[str, str] | None = None,
    definition: str | None = None,
    architecture: bytes = AMD64,
    content: bytes | None = None,
    version: str = "1.4.5",
    image_id: bytes = IDENTIFIER,
) -> bytes:
    """A sound SIF as a pull of ``docker://<reference>`` makes it."""
    text = f"bootstrap: docker\nfrom: {reference}\n\n" if definition is None else definition
    said = labels_of(reference, version=version) if labels is None else labels
    objects = [
        Object(type=DEFINITION, content=text.encode()),
        Object(type=JSON, content=metadata(said), name="inspect-metadata.json"),
        Object(type=JSON, content=b"{}", name="oci-config.json"),
        Object(
            type=PARTITION,
            content=squashfs() if content is None else content,
            extra=partition_extra(architecture),
            name="docker",
        ),
    ]
    return build(objects, Header(architecture=architecture, id=image_id))


def build(objects: Sequence[Object], header: Header | None = None) -> bytes:
    """A file with these objects, one after the other, whatever they claim."""
    header = header or Header()
    data = bytearray()
    table = bytearray()
    for number, item in enumerate(objects, 1):
        if item.type == PARTITION:
            data += bytes(-(DATA_OFFSET + len(data)) % 4096)
        offset = DATA_OFFSET + len(data) if item.offset is None else item.offset
        size = len(item.content) if item.size is None else item.size
        table += DESCRIPTOR.pack(
            item.type, True, number, 0xF0000001, 0, offset, size, size, 0, 0, 0, 0,
            item.name.encode(), item.extra,
        )  # fmt: skip
        data += item.content
    start = HEADER.pack(
        header.launch, header.magic, header.version, header.architecture, header.id, 0, 0,
        max(header.total - len(objects), 0) if abs(header.total) < 2**62 else 0,
        header.total, header.offset, len(table), DATA_OFFSET, len(data),
    )  # fmt: skip
    image = bytearray(start)
    image += bytes(TABLE_OFFSET - len(image))
    image += table
    image += bytes(DATA_OFFSET - len(image))
    return bytes(image + data)
