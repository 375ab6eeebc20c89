"""For which platforms an image is there, as what its digest names says: its index, or a single image's configuration.

The table of platforms in a lock is a claim (:mod:`.lock_claims`). Where a policy has to know it, what the digest names
is fetched and hashed, once by each user, and kept as a fact (:mod:`.store.descriptions`).
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping

from snakemake_apptainer_freshness.actions.image_content import Blobs, BlobSource, configuration
from snakemake_apptainer_freshness.actions.labels import parse_configuration
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
from snakemake_apptainer_freshness.common.parallel import in_parallel
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.image import manifest
from snakemake_apptainer_freshness.image.manifest import Index, ManifestKind
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import PARALLEL
from snakemake_apptainer_freshness.store import descriptions


def offered(entries: Iterable[Entry], registry: Callable[[], BlobSource] | None) -> Mapping[str, frozenset[Platform]]:
    """Return the platforms that each of `entries` has images for, by its reference.

    Not all can be had: without a `registry` it has to be known already, or be in Apptainer's cache.
    """
    wanted = {entry.reference.text: entry for entry in entries}
    known = {text: descriptions.platforms_of(entry.digest) for text, entry in wanted.items()}
    unknown = {entry.digest: entry for text, entry in wanted.items() if known[text] is None}
    if unknown:
        source = registry() if registry is not None else None
        cache = CacheFolder.of(os.environ)
        answers = in_parallel(
            lambda entry: _asked(entry, source, cache), unknown.values(), name="platforms", threads=PARALLEL.askers
        )
        hashed = dict(zip(unknown, answers, strict=True))
        known |= {text: hashed[entry.digest] for text, entry in wanted.items() if entry.digest in hashed}
    return {text: platforms for text, platforms in known.items() if platforms is not None}


def _asked(entry: Entry, registry: BlobSource | None, cache: CacheFolder | None) -> frozenset[Platform] | None:
    """Return what is hashed now, and keep it; None where it cannot be had, or says nothing."""
    try:
        platforms = _hashed(entry, Blobs(pin=Pin.of(entry), registry=registry, cache=cache))
    except (FreshnessError, NotComparable):
        return None
    if platforms is not None:
        with contextlib.suppress(OSError):
            descriptions.keep_platforms(entry.digest, platforms)
    return platforms


def _hashed(entry: Entry, blobs: Blobs) -> frozenset[Platform] | None:
    document = blobs.manifest(entry.digest)
    if isinstance(document, Index):
        return manifest.offered(document)
    if document.kind is not ManifestKind.IMAGE:
        return None  # a SIF file, whose manifest says nothing of it
    platform = parse_configuration(configuration(document, blobs)).platform
    return None if platform is None else frozenset({platform})
