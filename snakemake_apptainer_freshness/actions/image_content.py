"""What a digest names: the manifest of this platform, its configuration, and the tree that its layers amount to.

All of it comes from Apptainer's blob cache where it is there and is what its name says, else from the registry.
Neither is believed: manifests are hashed against what names them, blobs while they are read, and no blob may be longer
than its descriptor says. A blob of the cache that turns out to be damaged is not used: what was read is thrown away
and begun anew without it.
"""

import contextlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
from snakemake_apptainer_freshness.common.files import NotAFile, opened, read_small
from snakemake_apptainer_freshness.errors import DamagedAnswer
from snakemake_apptainer_freshness.image import manifest
from snakemake_apptainer_freshness.image.blobs import DamagedBlob, behind, checked, hashed, unpacked
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.layers import MEDIA_TYPES, Layers
from snakemake_apptainer_freshness.image.manifest import Descriptor, Index, Manifest, ManifestKind
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.image.tree import Node, NotComparable
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import DISK, LIMITS, TREE
from snakemake_apptainer_freshness.store import facts

T = TypeVar("T")


class BlobSource(Protocol):
    """Where manifests and blobs come from that are not in Apptainer's cache; a :class:`Resolver` is one.

    Both raise a RegistryError where that cannot be had. Neither is believed.
    """

    def manifest(self, reference: Reference, digest: Digest) -> bytes:
        """Return the manifest or index `digest`."""

    def blob(self, reference: Reference, digest: Digest, start: int = 0) -> Generator[bytes, None, None]:
        """Return the blob `digest` from byte `start` on, in pieces."""


@dataclass(slots=True, kw_only=True)
class Blobs:
    """Manifests and blobs, from Apptainer's cache or the registry. Whatever is given out is hashed."""

    pin: Pin
    registry: BlobSource | None
    cache: CacheFolder | None
    stop: threading.Event | None = None
    """Ends what is under way."""
    _damaged: set[Digest] = field(default_factory=set)
    """Blobs of the cache that are not to be used again."""

    def manifest(self, digest: Digest) -> Manifest | Index:
        """Return what `digest` names."""
        try:
            return manifest.parse(self.document(digest), None)
        except DamagedAnswer as error:
            raise NotComparable(f"{digest.short}: {error.message}") from None

    def document(self, digest: Digest) -> bytes:
        """Return the bytes of the manifest or index `digest`."""
        body = self._cached(digest, LIMITS.manifest_size)
        if body is None:
            if self.registry is None:
                raise NotComparable(f"{digest.short} is not in Apptainer's cache")
            body = self.registry.manifest(self.pin.pinned, digest)
            if not digest.matches(body):
                raise DamagedBlob(f"what is served as {digest.short} is something else")
        return body

    def _cached(self, digest: Digest, limit: int) -> bytes | None:
        if self.cache is None:
            return None
        with contextlib.suppress(OSError, NotAFile, ValueError):
            content = read_small(self.cache.blob(digest), limit)
            return content if digest.matches(content) else None
        return None

    def blob(self, descriptor: Descriptor, start: int = 0) -> Iterator[bytes]:
        """Yield the bytes of what `descriptor` describes, good if they come to their end.

        From a byte `start` on they are unchecked: the reader has those before it, with which they are hashed.
        """
        digest = descriptor.digest
        if self.cache is not None and digest not in self._damaged:
            with (
                contextlib.suppress(FileNotFoundError, NotAFile, PermissionError),
                opened(self.cache.blob(digest)) as file,
            ):
                pieces = iter(lambda: file.read(DISK.chunk), b"")
                yield from behind(self._until_stopped(checked(pieces, digest, descriptor.size)), start)
                return
        if self.registry is None:
            raise NotComparable(f"{digest.short} is not in Apptainer's cache")
        with contextlib.closing(self.registry.blob(self.pin.pinned, digest, start)) as served:
            yield from self._until_stopped(served if start else checked(served, digest, descriptor.size))

    def _until_stopped(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if self.stop is not None and self.stop.is_set():
                raise InterruptedError("stopped while an image was compared")
            yield piece

    def without_damaged(self, descriptors: Iterable[Descriptor], use: Callable[[], T]) -> T:
        """Return what `use` makes of these blobs.

        Where it fails, once more without those of the cache that are damaged.

        A damaged blob need not be read to its end before something fails over it, so the cause is looked for then.
        """
        try:
            return use()
        except NotComparable:
            damaged = {descriptor.digest for descriptor in descriptors if self._is_damaged(descriptor.digest)}
            if not damaged:
                raise
            self._damaged |= damaged
        return use()

    def leave_damaged(self, digest: Digest) -> None:
        """Look whether the cache's blob `digest` is sound, and leave it out from now on where it is not."""
        if self._is_damaged(digest):
            self._damaged.add(digest)

    def _is_damaged(self, digest: Digest) -> bool:
        """Return whether the cache has something under this name that is something else."""
        if self.cache is None:
            return False
        with contextlib.suppress(OSError, NotAFile), opened(self.cache.blob(digest)) as file:
            return hashed(iter(lambda: file.read(DISK.chunk), b""), digest.algorithm) != digest.hex
        return False


def image_manifest(pin: Pin, blobs: Blobs) -> tuple[Digest, Manifest]:
    """Return this platform's manifest, by way of what the pin names.

    Apptainer does not keep indexes. Where none can be asked for one, what it has for this platform must be known from
    an earlier time at which it was hashed (:mod:`.store.facts`): what a lock says of its platforms is a claim.
    """
    known = facts.manifest_of(pin.digest, pin.platform)
    if known is not None:
        digest, document = known, blobs.manifest(known)
    else:
        digest, document = pin.digest, blobs.manifest(pin.digest)
        if isinstance(document, Index):
            entry = manifest.choose(document, pin.platform)
            if entry is None:
                raise NotComparable(f"the index {digest.short} has nothing for {pin.platform}")
            with contextlib.suppress(OSError):
                facts.keep_index(pin.digest, {pin.platform: entry.digest})
            digest, document = entry.digest, blobs.manifest(entry.digest)
    if not isinstance(document, Manifest) or document.kind is not ManifestKind.IMAGE:
        raise NotComparable(f"{digest.short} is not the manifest of an image")
    return digest, document


def sif_layer(pin: Pin, blobs: Blobs) -> tuple[Digest, Descriptor]:
    """Return the manifest of this platform's SIF, by way of what the ``oras://`` pin names, and its file."""
    digest, document = pin.digest, blobs.manifest(pin.digest)
    if isinstance(document, Index):  # Apptainer 1.5 takes the child of this machine's platform
        entry = manifest.choose(document, pin.platform)
        if entry is None:
            raise NotComparable(f"the index {digest.short} has nothing for {pin.platform}")
        digest, document = entry.digest, blobs.manifest(entry.digest)
    if not isinstance(document, Manifest) or document.sif_layer is None:
        raise NotComparable(f"{digest.short} is not the manifest of a SIF")
    return digest, document.sif_layer


def merged(content: Manifest, blobs: Blobs) -> Node:
    """Return what the layers amount to."""
    for layer in content.layers:
        if layer.media_type not in MEDIA_TYPES:
            raise NotComparable(f"a layer has the type {layer.media_type}, which cannot be unpacked here")

    def merge() -> Node:
        layers = Layers()
        for layer in content.layers:
            layers.add(unpacked(blobs.blob(layer)))
        return layers.root

    return blobs.without_damaged(content.layers, merge)


def configuration(content: Manifest, blobs: Blobs) -> bytes:
    """Return the configuration of the image that `content` is the manifest of."""
    descriptor = content.config
    if descriptor is None or descriptor.size > TREE.config:
        raise NotComparable("its configuration is unreasonably large")
    return blobs.without_damaged([descriptor], lambda: b"".join(blobs.blob(descriptor)))
