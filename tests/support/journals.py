"""Run records made by the real writer, without a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from snakemake_apptainer_freshness.common.files import HOST
from snakemake_apptainer_freshness.record import events, writer
from snakemake_apptainer_freshness.record.journal import folder_of, this_process
from snakemake_apptainer_freshness.record.run import (
    Ending,
    ImageRecord,
    JobRecord,
    JobResult,
    LockUsed,
    Machine,
    OutputRecord,
    Override,
    OverrideKind,
    Run,
    RuntimeSettings,
    SignatureRecord,
    Versions,
    WorkflowSource,
)

DIGEST = "sha256:" + "d" * 64
HEX = "a" * 64

IMAGE = ImageRecord(
    reference="docker://q.io/tool:1",
    pinned=f"docker://q.io/tool@{DIGEST}",
    digest=DIGEST,
    platform="linux/amd64",
    remote="current",
    points_at=DIGEST,
    asked_at="2026-01-01T00:00:00.000Z",
    disk="verified",
    proof="untouched since its SHA-256 was checked",
    sha256=HEX,
    size=1,
    path="/images/x.simg",
    signatures=(
        SignatureRecord(by=f"key sha256:{'5' * 64}", digest=f"sha256:{'6' * 64}", signature="7" * 64),
        SignatureRecord(by=f"PGP key {'A' * 40}", digest=f"sha256:{'8' * 64}"),
    ),
)
JOB = JobRecord(
    id=1,
    rule="a",
    outputs=(OutputRecord(path="a.txt", size=3, mtime_ns=4, sha256=HEX), OutputRecord(path="b.txt", temporary=True)),
    wildcards={"name": "x"},
    reference=IMAGE.reference,
    image=IMAGE.pinned,
    disk="verified",
    host="node1",
    started="2026-01-01T00:00:01.000Z",
    ended="2026-01-01T00:00:02.000Z",
    result=JobResult.FINISHED,
)
RUN = Run(
    id="20260101T000000.000000Z",
    started="2026-01-01T00:00:00.000Z",
    ended="2026-01-01T00:00:03.000Z",
    ending=Ending.FINISHED,
    user="me",
    host=HOST,
    workdir="/work",
    command=("snakemake", "--cores", "1"),
    config_sha256=HEX,
    versions=Versions(snakemake="9.27.1", freshness="0.1.0", apptainer="1.4.5", python="3.11.7"),
    source=WorkflowSource(snakefile="/data/Snakefile", commit="c" * 40, dirty=False),
    mode="lock",
    options={"on_moved": "warn"},
    lock=LockUsed(path="/data/containers.lock", sha256=HEX, committed=True),
    machine=Machine(system="Debian GNU/Linux 12", kernel="Linux 6.1.0", architecture="x86_64", cpu="EPYC"),
    runtime=RuntimeSettings(
        arguments=("--bind", "/a:/b"),
        environment={"APPTAINER_NV": "1"},
        overrides=(Override(kind=OverrideKind.BIND, path="/b", source="/a", by="--bind"),),
    ),
    images=(IMAGE,),
    jobs=(JOB,),
)
DEAD = events.MainProcess(pid=2**22 + 1, ticks=1)
"""A process that no Linux has."""


def tables(run: Run) -> list[events.Event]:
    """The events of `run`, in the order of a real one."""
    found: list[events.Event] = [events.image(image) for image in run.images]
    for job in run.jobs:
        found.append(events.job_started(job))
        if job.result is not JobResult.RUNNING:
            found.append(events.job_ended(job))
    committed = run.lock.committed if run.lock else None
    found.append(events.repository(run.source, lock_committed=committed))
    if run.ended:
        found.append(events.run_ended(run.ending, run.ended))
    return found


def write(workdir: Path, run: Run = RUN, *, alive: bool = False) -> Path:
    """The record of `run` in `workdir`, of a process that is `alive` or not."""
    folder = folder_of(workdir)
    journal = writer.Journal(folder / f"{run.id}.json", events.head(run, this_process() if alive else DEAD))
    for table in tables(run):
        journal.append([table])
    journal.close()
    return journal.path


def write_chain(workdir: Path, count: int) -> list[Path]:
    """`count` records, each a second after the one before and linked to it."""
    paths: list[Path] = []
    for number in range(count):
        previous = writer.newest_hash(folder_of(workdir))
        paths.append(write(workdir, numbered(number, previous=previous)))
    return paths


def numbered(number: int, *, previous: str = "", ended: bool = True, jobs: Iterable[JobRecord] = (JOB,)) -> Run:
    """The run of second `number`."""
    return replace(
        RUN,
        id=f"20260101T0000{number:02}.000000Z",
        started=f"2026-01-01T00:00:{number:02}.000Z",
        ended=f"2026-01-01T00:00:{number:02}.500Z" if ended else "",
        ending=Ending.FINISHED if ended else Ending.UNKNOWN,
        previous=previous,
        jobs=tuple(jobs),
    )
