"""A user's home: the real Apptainer's settings and cache, an image folder, and what lies in them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from snakemake_apptainer_freshness.actions.check import check
from snakemake_apptainer_freshness.actions.fetch import fetch
from snakemake_apptainer_freshness.apptainer import sif
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import programs
from tests.support.images import Image
from tests.support.layers import Layer


@dataclass(frozen=True, kw_only=True)
class Home:
    """A user's home: an environment, an image folder, Apptainer's cache."""

    folder: Path
    environment: dict[str, str]
    cache: CacheFolder

    @classmethod
    def of(cls, folder: Path) -> Self:
        """A new user's home in `folder`."""
        environment = programs.environment(folder / "home") | {"APPTAINER_NOHTTPS": "1"}
        cache = CacheFolder.of(environment)
        assert cache is not None
        return cls(folder=folder, environment=environment, cache=cache)

    @property
    def prefix(self) -> Path:
        """The image folder."""
        return self.folder / "images"

    def apptainer(self, *arguments: str) -> str:
        """What the real program says."""
        return self._said("apptainer", *arguments)

    def run(self, image: Path | str) -> str:
        """What running the image prints."""
        return self.apptainer("-q", "run", *programs.apptainer_args(), str(image)).strip()

    def message(self, image: Path) -> str:
        """What the image's file system has in ``/message``, without running it."""
        partition = sif.read(image).partition
        assert partition is not None
        return self._said("unsquashfs", "-cat", "-o", str(partition.offset), str(image), "message").strip()

    def fetched(self, pin: Pin, folder: str = "images") -> Path:
        """The image of `pin` after a fetch that must succeed."""
        (result,) = fetch([pin], self.folder / folder, environment=self.environment)
        assert result.error is None, result.error
        assert result.fact.state == "verified"
        assert check([pin], self.folder / folder, full=True)[pin.url].state == "verified"
        return image_path(self.folder / folder, pin.url)

    def _said(self, program: str, *arguments: str) -> str:
        command = [str(programs.find(program)), *arguments]
        result = subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        return str(result.stdout)


def bare_image(message: str, **changes: Any) -> Image:
    """An image that has ``/message`` and nothing that runs: Apptainer builds it in no time."""
    return Image(layers=(Layer.of({"message": f"{message}\n"}),), **changes)
