"""Progress of downloads: how many bytes of an image's layers Apptainer has already, of how many.

Apptainer does not say it unless it talks to a terminal itself. But it puts each layer into its cache, or, where it
pulls past that, into its temporary folder, under the name of its digest, with digits behind it while it is not whole.
How large the layers are stands in the manifest, which Apptainer keeps only once it has all of them: it is asked for
unless we have it, but for Docker Hub, which counts that. What has no layers is measured by the image file that grows.
All of this is only shown; nothing depends on it.
"""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.actions.lock_claims import ManifestSource
from snakemake_apptainer_freshness.apptainer.cache import BLOB, CacheFolder
from snakemake_apptainer_freshness.apptainer.program import SCRATCH
from snakemake_apptainer_freshness.common.environment import temporary_folder
from snakemake_apptainer_freshness.common.progress import Amount
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store.prefix import PARTIAL, image_name

_COUNTS_QUESTIONS: Final = "docker.io"
_BLOBS: Final = "blobs/sha256"
_DIGITS: Final = 64  # of SHA-256 in hex

Sizes = Mapping[Digest, int]


class Transfer:
    """Measures the download of images into the folder `prefix`, by way of Apptainer's `cache`, from any thread.

    `ask` gives the sizes of an image's layers (:func:`sizes_of`), in a thread of its own.
    """

    def __init__(self, prefix: Path, cache: CacheFolder | None, *, ask: Callable[[Pin], Sizes]) -> None:
        self._prefix = prefix
        self._cache = cache
        self._ask = ask
        self._pins: dict[str, Pin] = {}
        self._sizes: dict[str, Sizes] = {}
        self._there: dict[str, int] = {}
        """The most that was seen of each layer: Apptainer removes what it unpacked."""

    def begin(self, pin: Pin) -> None:
        """Measure the image of `pin` as well from now on."""
        self._pins[pin.url] = pin
        threading.Thread(target=self._learn, args=(pin,), name="sizes", daemon=True).start()

    def measure(self) -> Amount:
        """Return what is there of all images that were begun; the total is None as long as one is not known."""
        pins = list(self._pins.values())
        layers: dict[Digest, int] = {}
        for pin in pins:
            layers |= self._sizes.get(pin.url, {})
        done = self._downloaded(layers)
        if not done:
            return Amount(sum(size for pin in pins for size in _growing(self._prefix, pin)))
        is_known = all(self._sizes.get(pin.url) for pin in pins)
        return Amount(done, sum(layers.values()) if is_known else None)

    def _downloaded(self, layers: Sizes) -> int:
        """Return how many bytes of `layers` are there, or were."""
        whole = {digest.hex: size for digest, size in layers.items()}
        for folder in self._folders():
            for name, size in _sizes_in(folder):
                layer = name[:_DIGITS]
                if layer in whole:
                    self._there[layer] = max(self._there.get(layer, 0), min(size, whole[layer]))
        return sum(self._there.get(layer, 0) for layer in whole)

    def _folders(self) -> Iterator[Path]:
        """Give the folders in which Apptainer puts layers."""
        if self._cache is not None:
            yield self._cache.root / BLOB / _BLOBS
        with contextlib.suppress(OSError):
            yield from temporary_folder(os.environ).glob(f"{SCRATCH}*/bundle-temp-*/layout-*/{_BLOBS}")

    def _learn(self, pin: Pin) -> None:
        with contextlib.suppress(FreshnessError, ValueError, TypeError, LookupError, RecursionError):
            self._sizes[pin.url] = self._ask(pin)


def sizes_of(documents: ManifestSource, pin: Pin) -> Sizes:
    """Return the sizes of the layers of `pin`, whose manifest `documents` has; none where asking for it counts."""
    if pin.pinned.scheme is not Scheme.DOCKER or pin.pinned.host == _COUNTS_QUESTIONS:
        return {}
    manifest = json.loads(documents.manifest(pin.pinned, pin.manifest or pin.digest))
    return {Digest.parse(layer["digest"]): int(layer["size"]) for layer in manifest["layers"]}


def _growing(prefix: Path, pin: Pin) -> Iterable[int]:
    """Give the sizes of what is under way for `pin` in the image folder: a file, or a folder with it."""
    beginning = f"{image_name(pin.url)}{PARTIAL}"
    with contextlib.suppress(OSError), os.scandir(prefix) as entries:
        for entry in entries:
            if entry.name.startswith(beginning):
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        yield from (size for folder, _, _ in os.walk(entry.path) for _, size in _sizes_in(Path(folder)))
                    else:
                        yield entry.stat(follow_symlinks=False).st_size


def _sizes_in(folder: Path) -> Iterator[tuple[str, int]]:
    """Give name and size of each file in `folder`; what is gone meanwhile, or cannot be read, is left out."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                yield entry.name, entry.stat(follow_symlinks=False).st_size
