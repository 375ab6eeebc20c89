"""Layers of container images, made of what a path is in them: files, folders, links, or a small system.

The same description always gives the same bytes, as for the images that are made of them (`images`).
"""

from __future__ import annotations

import functools
import gzip
import io
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tests.support import programs
from tests.support.digests import sha256

OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True, slots=True)
class File:
    """A regular file."""

    content: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class Folder:
    """A directory."""

    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link."""

    target: str


@dataclass(frozen=True, slots=True)
class Hardlink:
    """A second name of a file in the same layer."""

    target: str


Entry = bytes | str | File | Folder | Symlink | Hardlink
"""What a path in a layer can be; bytes and text are a regular file with mode 0644."""


def whiteout(path: str) -> str:
    """The path of the empty file that removes ``path`` of the layers below."""
    pure = PurePosixPath(path)
    return str(pure.with_name(f".wh.{pure.name}"))


def opaque(folder: str) -> str:
    """The path of the empty file that hides what the layers below have in ``folder``."""
    return f"{folder.rstrip('/')}/.wh..wh..opq"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer as a registry holds it; ``diff_id`` is the digest of the tar archive before compression."""

    content: bytes = field(repr=False)
    media_type: str
    diff_id: str
    digest: str

    @classmethod
    def of(cls, entries: Mapping[str, Entry], *, compress: bool = True) -> Layer:
        """A layer with these paths, and with the folders that they are in."""
        archive = _tar(entries)
        content = gzip.compress(archive, compresslevel=6, mtime=0) if compress else archive
        media_type = OCI_LAYER_GZIP if compress else OCI_LAYER
        return cls(content=content, media_type=media_type, diff_id=sha256(archive), digest=sha256(content))

    @classmethod
    def raw(cls, content: bytes, media_type: str) -> Layer:
        """Any blob at a layer's place."""
        return cls(content=content, media_type=media_type, diff_id=sha256(content), digest=sha256(content))


def _tar(entries: Mapping[str, Entry]) -> bytes:
    complete = _with_parents({path.strip("/"): entry for path, entry in entries.items()})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        # A hard link has to come after the file that it names.
        for path, entry in sorted(complete.items(), key=lambda item: (isinstance(item[1], Hardlink), item[0])):
            header, content = _tar_member(path, entry)
            archive.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def _with_parents(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    parents = {str(parent) for path in entries for parent in PurePosixPath(path).parents} - {"."}
    return {parent: Folder() for parent in parents} | dict(entries)


def _tar_member(path: str, entry: Entry) -> tuple[tarfile.TarInfo, bytes]:
    header = tarfile.TarInfo(path)
    header.mode = 0o777
    match entry:
        case str() | bytes():
            return _tar_member(path, File(entry.encode() if isinstance(entry, str) else entry))
        case File():
            header.mode, header.uid, header.gid = entry.mode, entry.uid, entry.gid
            header.size = len(entry.content)
            return header, entry.content
        case Folder():
            header.type, header.mode = tarfile.DIRTYPE, entry.mode
        case Symlink():
            header.type, header.linkname = tarfile.SYMTYPE, entry.target
        case Hardlink():
            header.type, header.linkname = tarfile.LNKTYPE, entry.target.strip("/")
    return header, b""


@functools.cache
def busybox_layer() -> Layer:
    """A system that is just enough for a workflow's job: busybox with all its applets, its shell named bash, too.

    One static program of this machine's own architecture, about 1 MB compressed; built once a process.
    """
    busybox = programs.private("busybox")
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    entries: dict[str, Entry] = {f"bin/{applet}": Symlink("busybox") for applet in applets}
    entries |= {
        "bin/bash": File(b'#!/bin/ash\nexec /bin/ash "$@"\n', 0o755),
        "bin/busybox": File(busybox.read_bytes(), 0o755),
        "dev": Folder(),
        "etc/group": "root:x:0:\nnogroup:x:65534:\n",
        "etc/hosts": "127.0.0.1 localhost\n",
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
        "etc/resolv.conf": "",
        "home": Folder(),
        "proc": Folder(),
        "root": Folder(0o700),
        "sys": Folder(),
        "tmp": Folder(0o1777),
        "usr/bin/env": Symlink("../../bin/busybox"),
        "var/tmp": Folder(0o1777),
    }
    return Layer.of(entries)
