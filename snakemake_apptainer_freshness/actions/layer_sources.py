"""Where layers come from: folders that have some already, the mirrors of this machine, the registry.

Places that need no network come first: folders, then local mirrors (:mod:`.elsewhere`). What they have counts once it
was hashed, before a byte of it is given out, for what was given out cannot be taken back. Then the registry is asked,
and where it fails the mirrors on a network. None of them is believed: who reads hashes (:mod:`.image_content`).
"""

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from snakemake_apptainer_freshness.actions.elsewhere import Elsewhere, PlaceSource
from snakemake_apptainer_freshness.actions.image_content import BlobSource
from snakemake_apptainer_freshness.errors import FreshnessError, RegistryError
from snakemake_apptainer_freshness.image.blobs import hashed
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.store.blob_folder import BlobFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSources:
    """The `registry`, and where else layers can be had; it can stand where a registry would (:class:`BlobSource`)."""

    registry: BlobSource
    mirrors: Elsewhere
    folders: tuple[Path, ...] = ()

    def manifest(self, reference: Reference, digest: Digest) -> bytes:
        """Return the manifest or index `digest`; raises as the registry does where no place has it."""
        for source in self._local(reference):
            if (document := _document(source, reference, digest)) is not None:
                return document
        try:
            return self.registry.manifest(reference, digest)
        except RegistryError:
            for source in self.mirrors.sources(reference, local=False):
                if (document := _document(source, reference, digest)) is not None:
                    return document
            raise

    def blob(self, reference: Reference, digest: Digest, start: int = 0) -> Generator[bytes, None, None]:
        """Give the blob `digest` from byte `start` on, in pieces; raises as the registry does where no place has it."""
        for source in self._local(reference):
            if _has(source, reference, digest):
                yield from source.blob(reference, digest, start)
                return
        yield from self._over_network(reference, digest, start)

    def _over_network(self, reference: Reference, digest: Digest, start: int) -> Generator[bytes, None, None]:
        begun = False
        try:
            with contextlib.closing(self.registry.blob(reference, digest, start)) as pieces:
                for piece in pieces:
                    begun = True
                    yield piece
                return
        except RegistryError:
            if begun:
                raise
            for source in self.mirrors.sources(reference, local=False):
                with contextlib.closing(source.blob(reference, digest, start)) as pieces:
                    try:
                        first = next(pieces, b"")
                    except FreshnessError:
                        continue
                    yield first
                    yield from pieces
                    return
            raise

    def _local(self, reference: Reference) -> Iterator[PlaceSource]:
        yield from (BlobFolder(root=folder) for folder in self.folders)
        yield from self.mirrors.sources(reference, local=True)


def _document(source: PlaceSource, reference: Reference, digest: Digest) -> bytes | None:
    """Return the document `digest` of `source`, if it is that; None where there is none, or something else."""
    with contextlib.suppress(FreshnessError):
        body = source.manifest(reference, digest)
        return body if digest.matches(body) else None
    return None


def _has(source: PlaceSource, reference: Reference, digest: Digest) -> bool:
    """Return whether `source` has the blob `digest`: all of it is read and hashed."""
    if source.size_of(digest) is None:
        return False
    with contextlib.suppress(FreshnessError, NotComparable):
        return hashed(source.blob(reference, digest), digest.algorithm) == digest.hex
    return False
