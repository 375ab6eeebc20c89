"""Blobs by name: places that have a blob under a name made of its digest, and can stand where a registry would.

Nothing is believed of what lies under a name: the reader hashes it. The reader of a blob knows how long it has to be,
and stops there (:mod:`.image.blobs`); a manifest is read to its end, so what is too long for one is given up.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import closing

from snakemake_apptainer_freshness.errors import NotFound
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.settings import LIMITS


class NamedBlobs(ABC):
    """A place that has blobs by name; `place` is what a person calls it."""

    __slots__ = ()

    @property
    @abstractmethod
    def place(self) -> str:
        """What a person calls it."""

    def size_of(self, digest: Digest) -> int | None:  # noqa: ARG002  for those who can tell
        """Return how long the blob `digest` is; None where it is not there, or cannot be told."""
        return None

    @abstractmethod
    def blob(self, reference: Reference, digest: Digest, start: int = 0) -> Generator[bytes, None, None]:
        """Give what lies under the name of the blob `digest` from byte `start` on, a piece at a time, unchecked.

        Raises
        ------
        NotFound
            where nothing does.
        """

    def manifest(self, reference: Reference, digest: Digest) -> bytes:
        """Return what lies under the name of the manifest or index `digest`, unchecked.

        Raises
        ------
        NotFound
            where nothing does, or something that is too large to be one.
        """
        content = bytearray()
        with closing(self.blob(reference, digest)) as pieces:
            for piece in pieces:
                content += piece
                if len(content) > LIMITS.manifest_size:
                    raise NotFound(f"{self.place} has something as {digest.short} that is too large for a manifest")
        return bytes(content)
