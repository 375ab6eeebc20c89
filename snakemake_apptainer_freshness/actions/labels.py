"""What images say of themselves, for people who read a diff: when they were made, and of which version.

It stands in an image's configuration, a small file that its manifest names; what Apptainer has of both in its cache is
not asked for again. Nothing of it is needed, and a registry that does not give it does not stop an upgrade:
what cannot be had is left out. It is what the builder of the image wrote, and proves nothing.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from snakemake_apptainer_freshness.actions.image_content import Blobs, BlobSource, configuration, image_manifest
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
from snakemake_apptainer_freshness.common.parallel import in_parallel
from snakemake_apptainer_freshness.errors import FreshnessError, InvalidReference, redact
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import PARALLEL

_LABEL: Final = "org.opencontainers.image."
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9]{2}:?[0-9]{2})", re.ASCII)
_LONGEST: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What an image says of itself; each is empty where it does not.

    `created` is as in RFC 3339.
    """

    created: str = ""
    version: str = ""
    revision: str = ""
    platform: Platform | None = None
    size: int = 0
    """Bytes of its layers as they are fetched; 0 where that is not known."""


def details(entries: Iterable[Entry], registry: BlobSource | None, *, platform: Platform) -> dict[str, Details]:
    """Return what the images of `entries` for `platform` say of themselves, by the ``pinned`` of each.

    Not all can be had; without a `registry` Apptainer's cache must have it.
    """
    wanted = {entry.pinned.text: entry for entry in entries if entry.reference.scheme is Scheme.DOCKER}
    if not wanted:
        return {}
    cache = CacheFolder.of(os.environ)
    answers = in_parallel(
        lambda entry: _of(entry, registry, cache, platform), wanted.values(), name="labels", threads=PARALLEL.askers
    )
    return {pinned: answer for pinned, answer in zip(wanted, answers, strict=True) if answer is not None}


def _of(entry: Entry, registry: BlobSource | None, cache: CacheFolder | None, platform: Platform) -> Details | None:
    try:
        pin = Pin.of(entry, platform=platform)
        blobs = Blobs(pin=pin, registry=registry, cache=cache)
        manifest = image_manifest(pin, blobs)[1]
        labels = parse_configuration(configuration(manifest, blobs))
        return replace(labels, size=sum(layer.size for layer in manifest.layers))
    except (FreshnessError, NotComparable):
        return None


def parse_configuration(content: bytes) -> Details:
    """Return what the configuration `content` of an image says; nothing where it is none."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return Details()
    if not isinstance(document, dict):
        return Details()
    section = document.get("config")
    labels = section.get("Labels") if isinstance(section, dict) else None
    labels = labels if isinstance(labels, dict) else {}
    created = _text(labels.get(f"{_LABEL}created"))
    return Details(
        created=created if _TIME.fullmatch(created) else _time(document.get("created")),
        version=_text(labels.get(f"{_LABEL}version")),
        revision=_text(labels.get(f"{_LABEL}revision")),
        platform=_platform(document),
    )


def _platform(document: Mapping[str, Any]) -> Platform | None:
    parts = [_text(document.get(key)) for key in ("os", "architecture", "variant")]
    try:
        return Platform.parse("/".join(part for part in parts if part))
    except InvalidReference:
        return None


def _time(value: Any) -> str:
    text = _text(value)
    return text if _TIME.fullmatch(text) else ""


def _text(value: Any) -> str:
    """`value` on one line, if it is a text, cut where it is long."""
    return redact(" ".join(value.split()))[:_LONGEST] if isinstance(value, str) else ""
