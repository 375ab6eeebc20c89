"""A machine with mirrors, and an image that they can have. With the real Apptainer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from snakemake_apptainer_freshness.actions.elsewhere import VARIABLE, Elsewhere
from snakemake_apptainer_freshness.actions.fetch import Progress, Result, fetch
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.pin import Pin
from tests.support import programs
from tests.support.digests import sha256
from tests.support.images import Image, multi_arch
from tests.support.proofs import file, folder, layer

CONTENT = Image(layers=(layer(folder("bin"), file("bin/tool", "good", 0o755)),))
INDEX = multi_arch(CONTENT, "s390x")


def dead(wanted: Pin) -> Pin:
    """The same pin in a registry that does not answer."""
    return replace(
        wanted,
        reference=parse("docker://127.0.0.1:1/team/tool:1.0"),
        pinned=parse(f"docker://127.0.0.1:1/team/tool@{wanted.digest}"),
    )


class Machine:
    """A machine with mirrors; collects what fetching notes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "home").mkdir()
        self.environment = programs.environment(folder / "home") | {
            "APPTAINER_TMPDIR": str(folder),
            "APPTAINER_NOHTTPS": "1",
            "XDG_CONFIG_DIRS": str(folder / "none"),
            VARIABLE: str(folder / "mirrors.toml"),
        }
        self.notes: list[str] = []

    def mirrors(self, *places: str | Path, prefix: str = "") -> None:
        """Name the mirrors that are asked, in this order."""
        listed = ", ".join(f'"{place}"' for place in places)
        (self.folder / "mirrors.toml").write_text(f'[[mirror]]\nprefix = "{prefix}"\nplaces = [{listed}]\n')

    def layout(
        self, name: str = "layout", *, lies: Mapping[str, bytes] | None = None, lacks: Collection[str] = ()
    ) -> Path:
        """A folder with an image layout of the index, in which some blobs are others or missing."""
        for blob in (INDEX.manifest, CONTENT.manifest, *CONTENT.blobs):
            digest = sha256(blob).removeprefix("sha256:")
            path = self.folder / name / "blobs" / "sha256" / digest
            path.parent.mkdir(parents=True, exist_ok=True)
            if f"sha256:{digest}" not in lacks:
                path.write_bytes((lies or {}).get(f"sha256:{digest}", blob))
        return self.folder / name

    def fetch(self, wanted: Pin) -> Result:
        """Fetch one image, as a run does."""

        def report(progress: Progress) -> None:
            self.notes.append(progress.detail)

        [result] = fetch([wanted], self.folder / "images", report=report, environment=self.environment)
        return result

    def having(self, wanted: Pin) -> list[str]:
        """The mirrors that have the image."""
        with Elsewhere(self.environment) as elsewhere:
            return elsewhere.having(wanted)
