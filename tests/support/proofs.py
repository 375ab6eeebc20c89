"""What the deep proof is tested with: layers made of any tar entries, images that Apptainer built of them, forgeries.

``built`` gives a SIF as the real Apptainer makes it, without a registry; ``forged`` changes what is in one and packs it
again, as an attacker would who wants it to be taken for the original. ``Served`` is a registry in memory.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_apptainer_freshness.apptainer import sif
from snakemake_apptainer_freshness.errors import NotFound
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference, parse
from snakemake_apptainer_freshness.pin import Pin
from tests.support import layers, programs, sifs
from tests.support.digests import sha256
from tests.support.images import Image, Index
from tests.support.layers import Layer

REPOSITORY = "registry.example.org/team/tool"
PIECE = 65536


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of a tar archive, whatever it claims."""

    name: str
    type: bytes = tarfile.REGTYPE
    mode: int = 0o644
    content: bytes = b""
    link: str = ""
    owner: tuple[int, int] = (0, 0)
    device: tuple[int, int] = (0, 0)
    pax: dict[str, str] = field(default_factory=dict)


def file(name: str, content: bytes | str = b"x", mode: int = 0o644, owner: tuple[int, int] = (0, 0)) -> Entry:
    """A regular file."""
    return Entry(name=name, content=content.encode() if isinstance(content, str) else content, mode=mode, owner=owner)


def folder(name: str, mode: int = 0o755) -> Entry:
    """A folder."""
    return Entry(name=name, type=tarfile.DIRTYPE, mode=mode)


def symlink(name: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(name=name, type=tarfile.SYMTYPE, mode=0o777, link=target)


def hardlink(name: str, target: str) -> Entry:
    """A hard link."""
    return Entry(name=name, type=tarfile.LNKTYPE, link=target)


def tar(*entries: Entry) -> bytes:
    """An archive of these entries, in this order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            header = tarfile.TarInfo(entry.name)
            header.type, header.mode, header.linkname = entry.type, entry.mode, entry.link
            header.uid, header.gid = entry.owner
            header.devmajor, header.devminor = entry.device
            header.size, header.pax_headers = len(entry.content), dict(entry.pax)
            archive.addfile(header, io.BytesIO(entry.content))
    return buffer.getvalue()


def layer(*entries: Entry, compress: bool = True) -> Layer:
    """A layer of these entries."""
    archive = tar(*entries)
    content = gzip.compress(archive, compresslevel=1, mtime=0) if compress else archive
    media_type = layers.OCI_LAYER_GZIP if compress else layers.OCI_LAYER
    return Layer(content=content, media_type=media_type, diff_id=sha256(archive), digest=sha256(content))


@dataclass(kw_only=True)
class Served:
    """A registry in memory that has `content`, but serves what is in `lies` in its place; remembers what was asked."""

    content: Image | Index
    lies: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def _body(self, digest: Digest) -> bytes:
        self.asked.append(str(digest))
        found = {sha256(body): body for body in _all(self.content)} | self.lies
        if str(digest) not in found:
            raise NotFound(f"{digest} is not there")
        return found[str(digest)]

    def manifest(self, _reference: Reference, digest: Digest) -> bytes:
        """The manifest `digest`."""
        return self._body(digest)

    def blob(self, _reference: Reference, digest: Digest, start: int = 0) -> Generator[bytes, None, None]:
        """The blob `digest` from byte `start` on, in pieces."""
        body = self._body(digest)[start:]
        return (body[at : at + PIECE] for at in range(0, len(body), PIECE))


def _all(content: Image | Index) -> list[bytes]:
    if isinstance(content, Image):
        return [content.manifest, *content.blobs]
    return [content.manifest, *(body for child in content.children for body in _all(child))]


def pin_of(content: Image | Index, *, manifest: str | None = None) -> Pin:
    """A pin of `content` on this machine."""
    digest = Digest.parse(content.digest)
    return Pin(
        reference=parse(f"docker://{REPOSITORY}:1.0"),
        pinned=parse(f"docker://{REPOSITORY}@{digest}"),
        digest=digest,
        manifest=Digest.parse(manifest) if manifest else None,
        platform=Platform.here(),
    )


def built(image: Image, place: Path) -> Path:
    """The SIF that the real Apptainer makes of `image`, in the folder `place`."""
    return _build(image, place, {})


def built_as(user: int, image: Image, place: Path) -> Path:
    """The SIF that the real Apptainer makes of `image` for another user than root."""
    with tempfile.TemporaryDirectory() as reachable:  # pytest's folders are root's alone
        Path(reachable).chmod(0o777)
        identity = {"user": user, "group": user, "extra_groups": []}
        return Path(shutil.copy(_build(image, Path(reachable), identity), place))


def sandbox(image: Image, place: Path) -> Path:
    """The sandbox folder that the real Apptainer makes of `image`, in the folder `place`."""
    result = place / "box"
    layout = _layout(image, place)
    _run(
        programs.find("apptainer"), "build", "--disable-cache", "--sandbox", result, f"oci:{layout}",
        env=environment(place / "home"), cwd=place,
    )  # fmt: skip
    return result


def _layout(image: Image, place: Path) -> Path:
    layout = place / "layout"
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    for content in (image.manifest, *image.blobs):
        (blobs / sha256(content).removeprefix("sha256:")).write_bytes(content)
    entry = {"mediaType": image.media_type, "digest": image.digest, "size": len(image.manifest)}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return layout


def _build(image: Image, place: Path, identity: dict[str, Any]) -> Path:
    layout, result = _layout(image, place), place / "built.sif"
    _run(
        programs.find("apptainer"), "pull", "--disable-cache", result, f"oci:{layout}",
        env=environment(place / "home"), cwd=place, **identity,
    )  # fmt: skip
    result.chmod(0o755)
    return result


def environment(home: Path) -> dict[str, str]:
    """What the real Apptainer needs, in a home of its own."""
    return programs.environment(home) | {"APPTAINER_TMPDIR": str(home.parent)}


def forged(original: Path, place: Path, change: Callable[[Path], object], *options: str) -> Path:
    """`original` after `change` was made in its unpacked file system; `options` are those of mksquashfs."""
    found = sif.read(original)
    assert found.partition is not None
    root, packed, result = place / "root", place / "packed", place / "forged.sif"
    _run(programs.private("unsquashfs"), "-quiet", "-no-progress", "-o", found.partition.offset, "-d", root, original)
    change(root)
    owners = () if os.geteuid() == 0 else ("-all-root",)  # which no other user could unpack
    _run(programs.private("mksquashfs"), root, packed, "-quiet", "-no-progress", "-noappend", *owners, *options)
    return sif_around(packed.read_bytes(), result)


def sif_around(squashfs: bytes, result: Path, extra: Sequence[sifs.Object] = ()) -> Path:
    """A SIF with this file system, labelled as pulled by a tag; with `extra` objects."""
    objects = [
        sifs.Object(type=sifs.DEFINITION, content=f"bootstrap: docker\nfrom: {REPOSITORY}:1.0\n\n".encode()),
        sifs.Object(
            type=sifs.JSON,
            content=sifs.metadata(sifs.labels_of(f"{REPOSITORY}:1.0", version=apptainer_version())),
            name="inspect-metadata.json",
        ),
        sifs.Object(type=sifs.PARTITION, content=squashfs, extra=sifs.partition_extra()),
        *extra,
    ]
    result.write_bytes(sifs.build(objects))
    result.chmod(0o755)
    return result


@functools.cache
def apptainer_version() -> str:
    """The version of the Apptainer that is there."""
    said = subprocess.run(
        [programs.find("apptainer"), "--version"],
        capture_output=True,
        text=True,
        check=True,
        env=programs.environment(),
    )
    return said.stdout.rsplit(maxsplit=1)[-1]


def _run(program: Path, *arguments: object, **options: Any) -> None:
    result = subprocess.run(
        [str(program), *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )
    assert result.returncode == 0, result.stderr
