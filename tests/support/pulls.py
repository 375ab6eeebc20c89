"""A trusted pull of one image with a stand-in for Apptainer, and an Apptainer cache that is made by hand."""

from __future__ import annotations

import threading
from pathlib import Path
from types import ModuleType

from snakemake_apptainer_freshness.apptainer.cache import CacheFolder, keys
from snakemake_apptainer_freshness.apptainer.program import Apptainer
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store import pull
from snakemake_apptainer_freshness.store.pull import Obtained
from tests.support import sifs
from tests.support.digests import sha256
from tests.support.fake_apptainer import FakeApptainer
from tests.support.images import Image
from tests.support.pins import REPOSITORY, pin
from tests.support.proofs import file, layer

CONTENT = Image(layers=(layer(file("one", "1" * 300)), layer(file("two", "2" * 300))))
PIN = pin(Digest.parse(CONTENT.digest))
SOUND = sifs.pulled(f"{REPOSITORY}@{PIN.digest}")


class Pull:
    """A pull into a folder, with a stand-in for Apptainer and an empty cache; collects what is told."""

    def __init__(self, folder: Path) -> None:
        self.fake = FakeApptainer(folder / "fake")
        self.cache = CacheFolder(root=folder / "cache")
        self.temporary = folder / "image"
        self.notes: list[str] = []
        self.downloads = 0
        self.stop = threading.Event()
        self.program = lambda: Apptainer.find(self.fake.environment)

    def __call__(
        self,
        wanted: Pin = PIN,
        *,
        cached: bool = True,
        manifest: Digest | None = PIN.digest,
        module: ModuleType = pull,
    ) -> Obtained:
        """Obtain the image of `wanted`, as `module` does."""

        def downloaded() -> None:
            self.downloads += 1

        source = pull.PullSource(
            program=self.program,
            cache=self.cache if cached else None,
            stop=self.stop,
            manifest=lambda _: manifest,
        )
        watch = pull.Watch(note=self.notes.append, downloaded=downloaded)
        obtained: Obtained = module.obtain(wanted, self.temporary, source, watch)
        return obtained

    def entry(self, content: bytes, wanted: Pin = PIN) -> Path:
        """Put `content` where Apptainer's cache would have the image."""
        path = self.cache.root / keys(wanted)[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def blobs(self, content: Image = CONTENT) -> list[Path]:
        """Let the cache have all that Apptainer downloads for `content`."""
        paths = []
        for blob in (content.manifest, *content.blobs):
            path = self.cache.blob(Digest.parse(sha256(blob)))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(blob)
            paths.append(path)
        return paths
