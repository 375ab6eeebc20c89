"""Pins, entries, records and images that fit each other, for tests of what lies on the disk.

What is parsed at the edge of the program is made of text here: :func:`lock_entry`, :func:`remote_fact`, :func:`run_as`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from snakemake_apptainer_freshness.common.files import StatKey
from snakemake_apptainer_freshness.freshness import RemoteFact, RemoteState
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.pinned import Pinned
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference, parse
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store import facts, places, records, state
from snakemake_apptainer_freshness.store.facts import ContentFact, ProvenBy
from snakemake_apptainer_freshness.store.places import PlaceFact
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import sifs

DIGEST = Digest(algorithm="sha256", hex="d1" * 32)
MANIFEST = Digest(algorithm="sha256", hex="a5" * 32)
OTHER = Digest(algorithm="sha256", hex="0e" * 32)
REPOSITORY = "quay.io/team/tool"


INDEX = "application/vnd.oci.image.index.v1+json"


def digest_of(value: Digest | str) -> Digest:
    """The digest that a test means."""
    return Digest.parse(value) if isinstance(value, str) else value


def platforms_of(table: Mapping[str, Digest | str] | None) -> dict[Platform, Digest]:
    """The digests of platforms that are named by text."""
    return {Platform.parse(str(text)): digest_of(digest) for text, digest in (table or {}).items()}


def lock_entry(
    reference: Reference | str,
    digest: Digest | str = DIGEST,
    platforms: Mapping[str, Digest | str] | None = None,
    *,
    media_type: str = INDEX,
    hints: Mapping[str, str] | None = None,
) -> Entry:
    """The entry of a lock whose texts these are."""
    return Entry(
        reference=parse(reference) if isinstance(reference, str) else reference,
        digest=digest_of(digest),
        media_type=media_type,
        platforms=platforms_of(platforms),
        hints=hints or {},
    )


def remote_fact(
    state: RemoteState,
    digest: Digest | str | None = None,
    platforms: Mapping[str, Digest | str] | None = None,
    *,
    detail: str = "",
) -> RemoteFact:
    """The answer of a registry whose texts these are."""
    named = None if digest is None else digest_of(digest)
    return RemoteFact(state=state, digest=named, platforms=platforms_of(platforms), detail=detail)


def run_as(reference: str, url: str = "", digest: Digest | str | None = None) -> Pinned:
    """What rules run for `reference`: `url`, held to `digest`; by default itself, held to nothing."""
    held_to = None if digest is None else digest_of(digest)
    return Pinned(reference=parse(reference), pinned=parse(url or reference), digest=held_to)


def pin(digest: Digest = DIGEST, manifest: Digest | None = MANIFEST, platform: str = "linux/amd64") -> Pin:
    """A pin of ``docker://quay.io/team/tool:1.0``."""
    return Pin(
        reference=parse(f"docker://{REPOSITORY}:1.0"),
        pinned=parse(f"docker://{REPOSITORY}@{digest}"),
        digest=digest,
        manifest=manifest,
        platform=Platform.parse(platform),
    )


def put(prefix: Path, wanted: Pin, content: bytes | None = None, *, age: float = 60.0) -> Path:
    """An image for `wanted` at its place, `age` seconds old; sound and labelled, unless `content` is given."""
    image = image_path(prefix, wanted.url)
    prefix.mkdir(parents=True, exist_ok=True)
    image.write_bytes(sifs.pulled(f"{REPOSITORY}@{wanted.digest}") if content is None else content)
    image.chmod(0o755)
    os.utime(image, (time.time() - age, time.time() - age))
    return image


def fact_of(content: bytes, wanted: Pin, **changes: Any) -> ContentFact:
    """What is known of a SIF with this `content` that was pulled for `wanted`."""
    made = ContentFact(
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        digest=wanted.digest,
        platform=wanted.platform,
        pinned=wanted.url,
        reference=wanted.reference.text,
        proven_by=ProvenBy.PULLED,
        proven_at="2026-01-02T03:04:05Z",
        apptainer="apptainer 1.4.5",
    )
    return replace(made, **changes)


def record(image: Path, wanted: Pin, **changes: Any) -> ContentFact:
    """Keep of `image` what a trusted pull of `wanted` would have left in the state folder of this test's user."""
    made = fact_of(image.read_bytes(), wanted, **changes)
    facts.keep(made)
    places.keep(image, PlaceFact.of(made))
    return made


def settle(image: Path) -> None:
    """Keep the stat key of `image`, as a check does once the image is two seconds old."""
    known = places.load(image)
    assert known is not None
    places.keep(image, replace(known, stat=StatKey.of(image.lstat())))


def forget_all() -> None:
    """Be a user who has proven nothing yet."""
    shutil.rmtree(state.folder(), ignore_errors=True)


def plant_record(image: Path, wanted: Pin, **changes: Any) -> Path:
    """Write beside `image` the record of an earlier version, by which the maker of the folder calls it proven."""
    content = image.read_bytes()
    table = {
        "version": 1,
        "image": image.name,
        "reference": wanted.reference.text,
        "pinned": wanted.url,
        "digest": str(wanted.digest),
        "platform": str(wanted.platform),
        "manifest": str(wanted.manifest) if wanted.manifest else None,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "writable_by_all": False,
        "stat": StatKey.of(image.lstat()).to_dict(),
        "refuted": "",
        "apptainer": "apptainer 1.4.5",
        "obtained_at": "2026-01-02T03:04:05Z",
        "obtained_by": "pulled by digest",
    }
    path = records.path_of(image)
    path.write_text(json.dumps(table | changes))
    return path


def old(path: Path, content: bytes = b"half") -> Path:
    """Write a file that was left a week ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - 7 * 86400,) * 2)
    return path


def part(path: Path) -> Path:
    """Let an image be a file of its own, which may be one with its entry in Apptainer's cache: as other programs do.

    What is done to it then is done to it alone.
    """
    copy = path.with_name(f"{path.name}.copy")
    shutil.copy2(path, copy)
    copy.replace(path)
    return path


def flip_seven_bytes(path: Path) -> None:
    """Change seven bytes in the file system of an image, and nothing else: neither its size nor its times."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(b"flipped")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def entry_of(pin: Pin) -> Entry:
    """The entry of a lock that `pin` is made of."""
    return lock_entry(
        reference=pin.reference,
        digest=pin.digest,
        media_type="application/vnd.oci.image.manifest.v1+json",
        platforms={str(pin.platform): pin.manifest} if pin.manifest else {},
    )
