"""Pins, records and images that fit each other, for tests of what lies on the disk."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store import records
from snakemake_apptainer_freshness.store.prefix import image_path
from snakemake_apptainer_freshness.store.records import Record
from tests.support import sifs

DIGEST = Digest(algorithm="sha256", hex="d1" * 32)
MANIFEST = Digest(algorithm="sha256", hex="a5" * 32)
OTHER = Digest(algorithm="sha256", hex="0e" * 32)
REPOSITORY = "quay.io/team/tool"


def pin(digest: Digest = DIGEST, manifest: Digest | None = MANIFEST, platform: str = "linux/amd64") -> Pin:
    """A pin of ``docker://quay.io/team/tool:1.0``."""
    return Pin(
        url=f"docker://{REPOSITORY}@{digest}",
        reference=f"docker://{REPOSITORY}:1.0",
        digest=digest,
        manifest=manifest,
        platform=platform,
    )


def put(prefix: Path, wanted: Pin, content: bytes | None = None, *, age: float = 60.0) -> Path:
    """An image for `wanted` at its place, `age` seconds old; sound and labelled, unless `content` is given."""
    image = image_path(prefix, wanted.url)
    prefix.mkdir(parents=True, exist_ok=True)
    image.write_bytes(sifs.pulled(f"{REPOSITORY}@{wanted.digest}") if content is None else content)
    image.chmod(0o755)
    os.utime(image, (time.time() - age, time.time() - age))
    return image


def record(image: Path, wanted: Pin) -> Record:
    """Write the record that a trusted pull of `wanted` to `image` would have left."""
    content = image.read_bytes()
    made = Record(
        image=image.name,
        reference=wanted.reference,
        pinned=wanted.url,
        digest=wanted.digest,
        platform=wanted.platform,
        manifest=wanted.manifest,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        apptainer="apptainer 1.4.5",
        obtained_at="2026-01-02T03:04:05Z",
        obtained_by=records.PULLED,
    )
    records.store(image, made)
    return made


def settle(image: Path) -> None:
    """Give the record a stat key, as a check does once the image is two seconds old."""
    from dataclasses import replace

    from snakemake_apptainer_freshness.common.files import StatKey

    known = records.load(image)
    assert known is not None
    records.store(image, replace(known, stat=StatKey.of(image.lstat())))


def flip_seven_bytes(path: Path) -> None:
    """Change seven bytes in the file system of an image, and nothing else: neither its size nor its times."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(b"flipped")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
