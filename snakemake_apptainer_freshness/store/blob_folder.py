"""A folder as the source of an image: an OCI image layout, or SIFs that are called by their SHA-256.

Nothing in it is believed: what is read is unchecked, and the reader hashes it. So a symbolic link is followed, as
folders that are shared over networks are full of them. Nothing is written, and nothing is waited for.
"""

from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from snakemake_apptainer_freshness.common.files import NotAFile, opened_target
from snakemake_apptainer_freshness.errors import LocalIOError, NotFound
from snakemake_apptainer_freshness.image import layout
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store.named_blobs import NamedBlobs


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobFolder(NamedBlobs):
    """The folder `root`."""

    root: Path

    @property
    def place(self) -> str:
        """The folder's path."""
        return str(self.root)

    def size_of(self, digest: Digest) -> int | None:
        """Return how long the blob `digest` is; None where it is not there, or cannot be read."""
        path = self._find(digest)
        with suppress(OSError):
            return None if path is None else path.stat().st_size
        return None

    def blob(self, reference: Reference, digest: Digest, start: int = 0) -> Generator[bytes, None, None]:
        """Give what lies under the name of the blob `digest` from byte `start` on, a piece at a time, unchecked.

        Raises
        ------
        NotFound
            where nothing does.
        LocalIOError
            where it cannot be read.
        """
        reading = self._pieces(self._path(reference, digest), start)
        while True:
            try:
                piece = next(reading, b"")
            except (OSError, NotAFile) as error:
                problem = f"cannot read {digest.short} in {self.root}: {error}"
                raise LocalIOError(problem, hint="check its permissions") from None
            if not piece:
                return
            yield piece

    def _pieces(self, path: Path, start: int) -> Iterator[bytes]:
        with opened_target(path) as file:
            file.seek(start)
            while piece := file.read(DISK.chunk):
                yield piece

    def _path(self, reference: Reference, digest: Digest) -> Path:
        path = self._find(digest)
        if path is None:
            raise NotFound(f"{self.root} does not have {digest}, which {reference.text} needs")
        return path

    def _find(self, digest: Digest) -> Path | None:
        names = [layout.blob_name(digest)]
        if digest.algorithm == "sha256":
            names += [f"sha256.{digest.hex}", digest.hex]  # the first is what Apptainer's own cache calls it
            names += [f"{name}.sif" for name in names[1:]]
        return next((path for name in names if (path := self.root / name).is_file()), None)
