"""Work directories with real run records, Snakemake metadata and outputs in them, made without running anything."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from snakemake_apptainer_freshness.errors import InvalidDigest
from snakemake_apptainer_freshness.freshness import DiskState
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.record import events, journal
from snakemake_apptainer_freshness.record.events import MainProcess
from snakemake_apptainer_freshness.record.run import Ending, ImageRecord, JobResult, OutputRecord, Run
from snakemake_apptainer_freshness.record.writer import Journal
from snakemake_apptainer_freshness.store import facts
from snakemake_apptainer_freshness.store.facts import ContentFact, ProvenBy
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import audits, pins

AGE = 3600
"""Seconds that an output is old."""
NAME_MAX = 255


def write(
    workdir: Path, *runs: Run, chained: bool = True, process: MainProcess | None = None, own: bool = True
) -> list[Run]:
    """Write the records of `runs`, one chained to the other, as runs in `workdir` do it; they are read back.

    Where they are this user's `own`, what they verified is proven in his state folder.
    """
    previous = ""
    for image in {
        image for run in runs for image in run.images if own and image.sha256 and image.disk == DiskState.VERIFIED
    }:
        prove(image)
    for run in runs:
        made = replace(run, previous=previous if chained else run.previous)
        path = journal.folder_of(workdir) / f"{run.id}{journal.SUFFIX}"
        written = Journal(path, events.head(made, process or MainProcess(pid=0, ticks=0)))
        written.append(_events(made))
        written.close()
        previous = hashlib.sha256(path.read_bytes()).hexdigest()
    return journal.read_all(workdir)


def _events(run: Run) -> Iterable[Mapping[str, Any]]:
    yield from map(events.image, run.images)
    yield events.repository(run.source, lock_committed=run.lock.committed if run.lock else None)
    for job in run.jobs:
        yield events.job_started(job)
        if job.result is not JobResult.RUNNING:
            yield events.job_ended(job)
    if run.ending not in (Ending.UNKNOWN, Ending.RUNNING):
        yield events.run_ended(run.ending, run.ended)


def prove(image: ImageRecord) -> None:
    """Keep that the file of `image` is what its digest names, as a run of this user did."""
    try:
        digest = Digest.parse(image.digest)
    except InvalidDigest:  # a test of what a hostile record says
        return
    facts.keep(
        ContentFact(
            sha256=image.sha256,
            size=image.size,
            digest=digest,
            platform=Platform.parse(image.platform),
            pinned=image.pinned,
            reference=image.reference,
            proven_by=ProvenBy.PULLED,
            proven_at="2026-01-02T03:04:05Z",
        )
    )


def output(workdir: Path, path: str, content: bytes | None = None, *, hashed: bool = True) -> OutputRecord:
    """Make the file `path` in `workdir`, an hour old, and what a record says of it."""
    content = path.encode(errors="surrogateescape") if content is None else content
    file = workdir / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    then = file.stat().st_mtime_ns - AGE * 1_000_000_000
    os.utime(file, ns=(then, then))
    return OutputRecord(
        path=path, size=len(content), mtime_ns=then, sha256=hashlib.sha256(content).hexdigest() if hashed else ""
    )


def metadata(workdir: Path, path: str | bytes, *, folder: str = "metadata", **fields: Any) -> Path:
    """Write Snakemake's metadata of the output `path`, as its file backend does."""
    name = base64.urlsafe_b64encode(path if isinstance(path, bytes) else path.encode()).decode()
    parts = [name[start : start + NAME_MAX - 1] for start in range(0, len(name), NAME_MAX - 1)]
    file = Path(workdir, ".snakemake", folder, *(f"@{part}" for part in parts[:-1]), parts[-1])
    file.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "rule": "count",
        "input": [],
        "code": "gASV",
        "shellcmd": f"make {path!r}",
        "record_format_version": 6,
        "container_img_url": None,
        "software_stack_hash": "d41d8cd9",
        "starttime": 1_772_438_405.0,
        "endtime": 1_772_438_681.0,
        "incomplete": False,
    }
    file.write_text(json.dumps(record | fields))
    return file


def name_of(file: Path) -> str:
    """The output whose metadata the `file` is, if its name is not a long one."""
    return base64.urlsafe_b64decode(file.name).decode()


def image(workdir: Path, *, recorded: bool = True, **changes: Any) -> ImageRecord:
    """A sound image in `workdir`, with our record beside it unless not `recorded`, and what a run said of it."""
    pin = pins.pin()
    prefix = workdir / ".snakemake" / "singularity"
    path = pins.put(prefix, pin)
    if recorded:
        pins.record(path, pin)
        pins.settle(path)
    made = audits.image(
        pin.reference.text,
        pinned=pin.url,
        digest=str(pin.digest),
        manifest=str(pin.manifest),
        points_at=str(pin.digest),
        path=str(image_path(prefix, pin.url)),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        size=path.stat().st_size,
    )
    return replace(made, **changes)


def run(workdir: Path, number: int = 1, *jobs: Any, images: tuple[ImageRecord, ...] = (), **changes: Any) -> Run:
    """The run `number` in `workdir`."""
    return audits.run(number, *jobs, images=images, workdir=str(workdir), **changes)


def job(number: int, rule: str, *left: OutputRecord, ran: ImageRecord | None = None, **changes: Any) -> Any:
    """A finished job that left what `left` says."""
    return audits.job(number, rule, ran=ran, outputs=left, **changes)
