"""Jobs that are watched while they run: as much of Snakemake's DAG and jobs as the watch of images looks at."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from snakemake_apptainer_freshness.actions.library_images import look_again
from snakemake_apptainer_freshness.engine.guard import Guard
from snakemake_apptainer_freshness.engine.watch import ImageWatch
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import Options
from snakemake_apptainer_freshness.store.held import ImageKey


class Job:
    """As much of one of Snakemake's jobs; `container_img_url` is what it runs, None for no container."""

    rule = None

    def __init__(self, container_img_url: str | None) -> None:
        self.container_img_url = container_img_url

    def is_group(self) -> bool:
        """Say that it is a job."""
        return False


class Dag:
    """As much of Snakemake's DAG; `taken` are the jobs whose outputs it took."""

    def __init__(self) -> None:
        self.taken: list[Any] = []

    def register_running(self, jobs: Any) -> None:
        """Take `jobs` for running."""

    async def check_and_touch_output(self, job: Any) -> None:
        """Take the outputs of `job`."""
        self.taken.append(job)

    def end(self, job: Any) -> list[Any]:
        """Take the outputs of `job` as Snakemake does once it ended; all jobs of which they were taken."""
        asyncio.run(self.check_and_touch_output(job))
        return self.taken


class SandboxRun:
    """A job that runs the image of `pin` in the sandbox folder `box` of a library, from the look before it on."""

    def __init__(self, pin: Pin, box: Path) -> None:
        self.dag, self.job = Dag(), Job(pin.url)
        watch = ImageWatch(self.dag, lambda job: job.container_img_url)

        def look(url: str, fact: DiskFact, key: ImageKey | None) -> None:
            assert fact.state is DiskState.VERIFIED
            assert key is not None
            watch.looked(url, Path(fact.path), key)

        options = Options(images=(box.parent,))
        before = look_again(pin, options.images)
        assert before is not None
        assert before.known is not None
        hashes = {pin.url: before.known}
        guard = Guard(pin, box.parent.parent / "absent.simg", options=options, hashes=hashes, on_image=look)
        self.dag.register_running([self.job])
        assert guard.path() == str(box)

    def end(self) -> list[Any]:
        """Have Snakemake take its outputs; the jobs of which it did."""
        return self.dag.end(self.job)
