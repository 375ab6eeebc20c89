"""A folder with a lock and an image folder, in which the command line runs in this process."""

import time

import pytest

from snakemake_apptainer_freshness.actions.workflow import ExistingOutput, Workflow
from snakemake_apptainer_freshness.engine import query
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.settings import Options
from snakemake_apptainer_freshness.store import facts
from tests.support import pins
from tests.support.command_line import good, place, terminal

__all__ = ["good", "place", "terminal"]  # fixtures


@pytest.fixture
def project(place, monkeypatch):
    """A project whose workflow is read as it is told to be."""

    def make(*recorded, unseen=()):
        tag = pins.pin().reference.text
        outputs = [
            ExistingOutput(
                path=f"{number}.txt",
                rule="read",
                reference=tag,
                recorded_url=url,
                started=time.time(),
            )
            for number, url in enumerate(recorded)
        ]
        read = Workflow(
            snakefile=place.folder / "Snakefile",
            workdir=place.folder,
            lockfile=place.folder / "containers.lock",
            options=Options(),
            prefix=place.prefix,
            uses={},
            unseen=unseen,
            outputs=tuple(outputs),
        )
        place.lock(pins.pin())
        facts.keep_index(pins.DIGEST, {Platform.parse("linux/amd64"): pins.MANIFEST})  # as it was fetched and hashed
        monkeypatch.setattr(query, "read", lambda *_, **__: read)
        return place

    return make
