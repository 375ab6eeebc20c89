"""The events of a run's record: one head, then one event after the other. Pure: values to tables and back.

===============  ================================================================================================
the head         what is known when the first job starts; never changed later
``image``        what the three witnesses said of one image
``repository``   which commit the workflow was, and whether the lock was in it; asked while the first jobs run
``job-started``  one attempt of one job was handed to its executor
``job-ended``    it ended, and these were its outputs then
``run-ended``    the run ended; a record without it is that of a run which was killed, or still goes on
===============  ================================================================================================

What is read was perhaps written by another user: a key that is not known, a value of another type, or one that is too
large makes an event :class:`Damaged`. Values that are empty are left out.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final

from snakemake_apptainer_freshness.common.tables import Damaged, Table
from snakemake_apptainer_freshness.freshness import DiskState, RemoteState
from snakemake_apptainer_freshness.record.run import (
    VERSION,
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
from snakemake_apptainer_freshness.settings import LIMITS, RECORDS

_COMMIT: Final = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?", re.ASCII)

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class MainProcess:
    """The main process of a run on its host; `ticks` is when it was started, in the kernel's own count since boot."""

    pid: int
    ticks: int


def head(run: Run, process: MainProcess) -> Event:
    """Return the head of the record of `run`, which `process` makes."""
    table = {
        "id": run.id,
        "started": run.started,
        "user": run.user,
        "host": run.host,
        "process": asdict(process),
        "workdir": run.workdir,
        "command": list(run.command),
        "config_sha256": run.config_sha256,
        "versions": asdict(run.versions),
        "snakefile": run.source.snakefile,
        "mode": run.mode,
        "options": dict(run.options),
        "lock": {"path": run.lock.path, "sha256": run.lock.sha256} if run.lock else None,
        "previous": run.previous,
    }
    table |= {"snakefile_sha256": run.source.sha256} if run.source.sha256 else {}
    table |= {"machine": asdict(run.machine)} if run.machine else {}
    return table | ({"runtime": _runtime_table(run.runtime)} if run.runtime else {})


def _runtime_table(runtime: RuntimeSettings) -> Event:
    return {
        "arguments": list(runtime.arguments),
        "environment": dict(runtime.environment),
        "overrides": [asdict(override) | {"kind": str(override.kind)} for override in runtime.overrides],
    }


def image(record: ImageRecord) -> Event:
    """Return the event that `record` is one of the run's images."""
    table = {key: value for key, value in asdict(record).items() if value and key != "signatures"}
    if record.signatures:
        signatures = [
            {key: value for key, value in asdict(signature).items() if value} for signature in record.signatures
        ]
        table["signatures"] = signatures
    return {"event": "image"} | table


def repository(source: WorkflowSource, *, lock_committed: bool | None) -> Event:
    """Return the event that the workflow is `source`, and whether the lock's bytes are in that commit."""
    return {"event": "repository", "commit": source.commit, "dirty": source.dirty, "lock_committed": lock_committed}


def job_started(job: JobRecord) -> Event:
    """Return the event that `job` was handed to its executor."""
    table: dict[str, Any] = {
        "event": "job-started",
        "at": job.started,
        "id": job.id,
        "attempt": job.attempt,
        "rule": job.rule,
        "outputs": [output.path for output in job.outputs],
    }
    if job.wildcards:
        table["wildcards"] = dict(job.wildcards)
    if job.reference:
        table["reference"] = job.reference
    if job.image:
        table["image"] = job.image
    return table


def job_ended(job: JobRecord, *, ran: str = "") -> Event:
    """Return the event that `job` ended; `ran` is when it began on its own host, where that is known."""
    table: dict[str, Any] = {
        "event": "job-ended",
        "at": job.ended,
        "id": job.id,
        "attempt": job.attempt,
        "result": job.result,
    }
    table |= {key: value for key, value in (("host", job.host), ("disk", job.disk), ("ran", ran)) if value}
    if job.result is JobResult.FINISHED:
        table["outputs"] = [_output(output) for output in job.outputs]
    return table


def _output(output: OutputRecord) -> Event:
    table = {"size": output.size, "mtime_ns": output.mtime_ns, "sha256": output.sha256}
    return table | {"temporary": True} if output.temporary else table


def run_ended(ending: Ending, at: str) -> Event:
    """Return the event that the run ended."""
    return {"event": "run-ended", "at": at, "ending": ending}


@dataclass(slots=True)
class RecordReader:
    """A record that is being read: its head, then its events in their order."""

    run: Run
    process: MainProcess
    _images: list[ImageRecord] = field(default_factory=list)
    _jobs: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    """The fields of each :class:`JobRecord`, by number and attempt."""

    @classmethod
    def of(cls, table: object) -> "RecordReader":
        """Begin with a record's first line, which `table` is.

        Raises
        ------
        NewerVersion
            where it is of a version that this program does not know.
        Damaged
            where it is not the head of a record.
        """
        document = Table.versioned(table, VERSION, frozenset({"run", "events"}), optional=("events",))
        checked = document.child("run", _HEAD, optional=_HEAD_OPTIONAL)
        versions = checked.child("versions", _VERSIONS)
        process = checked.child("process", _PROCESS)
        run = Run(
            id=checked.name("id"),
            started=checked.time("started"),
            user=checked.text("user"),
            host=checked.text("host"),
            workdir=checked.text("workdir"),
            command=tuple(checked.texts("command")),
            config_sha256=checked.hex("config_sha256"),
            versions=Versions(**{key: versions.text(key) for key in _VERSIONS}),
            source=WorkflowSource(snakefile=checked.text("snakefile"), sha256=checked.hex("snakefile_sha256")),
            mode=checked.text("mode"),
            options=checked.mapping("options"),
            lock=_lock(checked),
            machine=_machine(checked) if "machine" in checked.values else None,
            runtime=_runtime(checked) if "runtime" in checked.values else None,
            previous=checked.hex("previous"),
        )
        return cls(run, MainProcess(pid=process.number("pid"), ticks=process.number("ticks")))

    def add(self, table: object) -> None:
        """Take the next event.

        Raises
        ------
        Damaged
            where `table` is none, or does not go with what was read before.
        """
        if self.run.ended:
            raise Damaged("it comes after the run's end")
        name = table.get("event") if isinstance(table, dict) else None
        take = _EVENTS.get(name) if isinstance(name, str) else None
        if take is None:
            raise Damaged(f"no event is called {str(name)[:40]!r}")
        take(self, table)

    def done(self) -> Run:
        """Return all that was read."""
        return replace(
            self.run, images=tuple(self._images), jobs=tuple(JobRecord(**job) for job in self._jobs.values())
        )

    def _image(self, table: object) -> None:
        event = Table(table, _IMAGE, optional=_IMAGE - {"reference", "pinned"})
        texts = {key: event.text(key) for key in event.values if key not in ("event", "size", "signatures")}
        event.hex("sha256")
        event.state("remote", RemoteState)
        event.state("disk", DiskState)
        if "asked_at" in event.values:
            event.time("asked_at")
        for key in ("digest", "manifest", "points_at"):
            event.digest(key)
        signatures = tuple(_signatures(event))
        self._images.append(ImageRecord(**texts, size=event.number("size"), signatures=signatures))

    def _repository(self, table: object) -> None:
        event = Table(table, _REPOSITORY)
        commit = event.text("commit")
        if commit and _COMMIT.fullmatch(commit) is None:
            raise Damaged("commit must be the name of a commit")
        source = replace(self.run.source, commit=commit, dirty=event.truth("dirty"))
        committed = event.truth("lock_committed")
        lock = replace(self.run.lock, committed=committed) if self.run.lock else None
        self.run = replace(self.run, source=source, lock=lock)

    def _job_started(self, table: object) -> None:
        event = Table(table, _STARTED, optional=_STARTED_OPTIONAL)
        key = event.number("id"), event.number("attempt")
        job = {
            "id": key[0],
            "rule": event.text("rule"),
            "outputs": tuple([OutputRecord(path=path) for path in event.texts("outputs")]),
            "wildcards": event.mapping("wildcards"),
            "reference": event.text("reference"),
            "image": event.text("image"),
            "started": event.time("at"),
            "attempt": key[1],
        }
        if key in self._jobs:
            raise Damaged(f"attempt {key[1]} of job {key[0]} started twice")
        self._jobs[key] = job

    def _job_ended(self, table: object) -> None:
        event = Table(table, _ENDED, optional=_ENDED_OPTIONAL)
        key = event.number("id"), event.number("attempt")
        job = self._jobs.get(key)
        if job is None or "result" in job:
            raise Damaged(f"attempt {key[1]} of job {key[0]} ended without having started")
        result = event.word("result", _RESULTS)
        ended = {
            "outputs": tuple(_outputs(job["outputs"], event)) if result is JobResult.FINISHED else job["outputs"],
            "host": event.text("host"),
            "disk": event.state("disk", DiskState),
            "started": event.time("ran") if "ran" in event.values else job["started"],
            "ended": event.time("at"),
            "result": result,
        }
        job |= ended

    def _run_ended(self, table: object) -> None:
        event = Table(table, frozenset({"event", "at", "ending"}))
        self.run = replace(self.run, ended=event.time("at"), ending=event.word("ending", _ENDINGS))


def _lock(head: Table) -> LockUsed | None:
    if head.values["lock"] is None:
        return None
    lock = head.child("lock", frozenset({"path", "sha256"}))
    return LockUsed(path=lock.text("path"), sha256=lock.hex("sha256"))


def _machine(head: Table) -> Machine:
    machine = head.child("machine", _MACHINE)
    return Machine(**{key: machine.text(key) for key in _MACHINE})


def _runtime(head: Table) -> RuntimeSettings:
    runtime = head.child("runtime", frozenset({"arguments", "environment", "overrides"}))
    return RuntimeSettings(
        arguments=tuple(runtime.texts("arguments")),
        environment=runtime.mapping("environment"),
        overrides=tuple([_override(row) for row in runtime.children("overrides", _OVERRIDE, most=RECORDS.arguments)]),
    )


def _override(table: Table) -> Override:
    kind = table.word("kind", _OVERRIDE_KINDS)
    return Override(kind=kind, path=table.text("path"), source=table.text("source"), by=table.text("by"))


def _signatures(event: Table) -> Iterable[SignatureRecord]:
    for row in event.children("signatures", _SIGNATURE, optional=("signature",), most=LIMITS.signatures):
        yield SignatureRecord(by=row.text("by"), digest=row.digest("digest"), signature=row.hex("signature"))


def _outputs(started: tuple[OutputRecord, ...], ended: Table) -> Iterable[OutputRecord]:
    rows = ended.children("outputs", _OUTPUT, optional=_OUTPUT_OPTIONAL)
    if len(rows) != len(started):
        raise Damaged("it has not as many outputs as its job")
    for output, event in zip(started, rows, strict=True):
        yield OutputRecord(
            path=output.path,
            size=event.number("size"),
            mtime_ns=event.number("mtime_ns"),
            sha256=event.hex("sha256"),
            temporary=event.flag("temporary"),
        )


_HEAD_OPTIONAL: Final = frozenset({"snakefile_sha256", "machine", "runtime"})
"""What older versions of this program did not write."""
_HEAD: Final = _HEAD_OPTIONAL | frozenset(
    {"id", "started", "user", "host", "process", "workdir", "command", "config_sha256", "versions", "snakefile"}
    | {"mode", "options", "lock", "previous"}
)
_VERSIONS: Final = frozenset(entry.name for entry in fields(Versions))
_MACHINE: Final = frozenset(entry.name for entry in fields(Machine))
_OVERRIDE: Final = frozenset(entry.name for entry in fields(Override))
_OVERRIDE_KINDS: Final = {str(kind): kind for kind in OverrideKind}
_PROCESS: Final = frozenset({"pid", "ticks"})
_IMAGE: Final = frozenset({"event", *(entry.name for entry in fields(ImageRecord))})
_SIGNATURE: Final = frozenset(entry.name for entry in fields(SignatureRecord))
_REPOSITORY: Final = frozenset({"event", "commit", "dirty", "lock_committed"})
_STARTED_OPTIONAL: Final = frozenset({"wildcards", "reference", "image"})
_STARTED: Final = frozenset({"event", "at", "id", "attempt", "rule", "outputs"}) | _STARTED_OPTIONAL
_ENDED_OPTIONAL: Final = frozenset({"host", "disk", "ran", "outputs"})
_ENDED: Final = frozenset({"event", "at", "id", "attempt", "result"}) | _ENDED_OPTIONAL
_OUTPUT_OPTIONAL: Final = frozenset({"temporary"})
_OUTPUT: Final = frozenset({"size", "mtime_ns", "sha256"}) | _OUTPUT_OPTIONAL
_RESULTS: Final = {str(word): word for word in (JobResult.FINISHED, JobResult.FAILED)}
_ENDINGS: Final = {str(word): word for word in (Ending.FINISHED, Ending.FAILED, Ending.INTERRUPTED)}
_EVENTS: Final[Mapping[str, Any]] = {
    "image": RecordReader._image,  # noqa: SLF001  the class's own table
    "repository": RecordReader._repository,  # noqa: SLF001
    "job-started": RecordReader._job_started,  # noqa: SLF001
    "job-ended": RecordReader._job_ended,  # noqa: SLF001
    "run-ended": RecordReader._run_ended,  # noqa: SLF001
}
