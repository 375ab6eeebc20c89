"""Recording: the main process of a run writes down what it does, as it does it.

What is wrapped, each of one object: ``DAG.register_running``, which Snakemake calls with the jobs that it is about to
hand to an executor, and ``DAG.finish``, which it calls with a job whose outputs are there; its scheduler's
``_handle_error`` where there is one, else a failed job is told by its next attempt, or by the end; and the lock of the
work directory, which is held from before the first job until after the last, however the run ends.

A record begins with the first job: a run that has nothing to do, or is refused before it, leaves none. Where it cannot
be begun no job starts. Where it cannot be gone on with, on a full disk, the user is told once and the run goes on: days
of work are worth more than their record, which then says that it has no end.
"""

import contextlib
import hashlib
import os
import shutil
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness.common.files import HOST
from snakemake_apptainer_freshness.common.times import now
from snakemake_apptainer_freshness.engine import containers, notes
from snakemake_apptainer_freshness.engine.far_notes import far_notes
from snakemake_apptainer_freshness.engine.messages import Line, as_workflow_errors, log_line
from snakemake_apptainer_freshness.engine.origin import lock_used, run_of
from snakemake_apptainer_freshness.engine.seams import (
    EXECUTOR,
    HANDLE_ERROR,
    HOLD_LOCK,
    JOB_ENDS,
    JOBS_START,
    require,
)
from snakemake_apptainer_freshness.engine.witnesses import Witnesses
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState
from snakemake_apptainer_freshness.image.pinned import Pinned
from snakemake_apptainer_freshness.record import events
from snakemake_apptainer_freshness.record.events import Event
from snakemake_apptainer_freshness.record.git import commit_of
from snakemake_apptainer_freshness.record.journal import SUFFIX, this_process
from snakemake_apptainer_freshness.record.run import Ending, JobRecord, JobResult, OutputRecord, WorkflowSource
from snakemake_apptainer_freshness.record.writer import Journal, new_id, newest_hash
from snakemake_apptainer_freshness.settings import RECORDS, Options

_PASSING: Final = frozenset({"temp", "pipe", "service"})
"""What Snakemake flags outputs with that are gone when the run is over."""

_NO_NOTE: Final = notes.Note()

Attempt = tuple[int, int]
"""A job's number and its attempt."""


class Recorder:
    """Records one run of `workflow`, under the name `run`.

    `witnesses` know what is known of each image; `original` gives what a rule says for wildcards.
    """

    def __init__(
        self,
        workflow: Any,
        *,
        options: Options,
        lock: Path,
        witnesses: Witnesses,
        original: Callable[[Any, Any], Any],
    ) -> None:
        self.witnesses = witnesses
        self._workflow = workflow
        self._containers = containers.of(workflow)
        self._options = options
        self._lock = lock
        self._original = original
        self._folder = notes.records_of(workflow)
        with as_workflow_errors():
            self.run = new_id(self._folder)
        self._notes = notes.folder_for(workflow, self.run)
        self._far = far_notes(workflow, self.run)
        self._started_at = now()
        self._journal: Journal | None = None
        self._pins: Mapping[str, Pinned] = {}
        self._references: dict[str, list[str]] = {}
        self._images: set[str] = set()
        self._open: dict[Attempt, JobRecord] = {}
        self._waiting: dict[str, dict[Attempt, None]] = {}
        self._repository: threading.Thread | None = None
        self._is_over = False
        self._is_stopped = False

    def attach(self) -> None:
        """Wrap methods of Snakemake's objects, to record what they do."""
        dag, persistence = self._workflow.dag, self._workflow.persistence
        require(dag, JOBS_START, JOB_ENDS)
        require(persistence, HOLD_LOCK)
        finish = dag.finish
        notes.on_running(dag, self._begin_jobs)

        def finish_recorded(job: Any, *args: Any, **kwargs: Any) -> Any:
            self._finish(job)
            return finish(job, *args, **kwargs)

        dag.finish = finish_recorded
        persistence.lock = self._until_released(persistence.lock)

    def note_pins(self, pins: Mapping[str, Pinned]) -> None:
        """Take `pins`, by reference, for what rules run from now on."""
        self._pins = pins
        self._references = {}
        for reference, pinned in pins.items():
            self._references.setdefault(pinned.url, []).append(reference)

    def note_image(self, url: str, fact: DiskFact) -> None:
        """Note that this process is about to run the image of `url`, whose file is what `fact` says."""
        for key in self._waiting.pop(url, ()):
            if key in self._open:
                self._open[key] = replace(self._open[key], disk=str(fact.state))

    def _begin(self) -> None:
        """Make the record, before the first job."""
        with as_workflow_errors():
            lock, content = lock_used(self._lock)
            run = run_of(
                self._workflow,
                name=self.run,
                started=self._started_at,
                previous=newest_hash(self._folder),
                options=self._options,
                lock=lock,
            )
            self._journal = Journal(self._folder / (self.run + SUFFIX), events.head(run, this_process()))
        with contextlib.suppress(OSError):
            self._notes.mkdir()
        self._watch(self._workflow.scheduler)
        self._repository = threading.Thread(
            target=self._ask_repository, args=(content,), name="apptainer-freshness-git", daemon=True
        )
        self._repository.start()

    def _watch(self, scheduler: Any) -> None:
        """Watch for jobs that fail, and for a user who stops the run, as far as this Snakemake allows."""
        if HANDLE_ERROR.is_in(scheduler):
            handle = scheduler._handle_error  # noqa: SLF001  of this one object

            def handle_recorded(job: Any, *args: Any, **kwargs: Any) -> Any:
                self._write([event for member in notes.single([job]) for event in self._failed(_key(member), member)])
                return handle(job, *args, **kwargs)

            scheduler._handle_error = handle_recorded  # noqa: SLF001  of this one object

        if EXECUTOR.is_in(scheduler):
            executor = scheduler._executor  # noqa: SLF001  of this one object
            cancel = executor.cancel

            def cancel_recorded() -> Any:
                self._is_stopped = isinstance(sys.exception(), KeyboardInterrupt | SystemExit)
                return cancel()

            executor.cancel = cancel_recorded

    def _ask_repository(self, lock: bytes | None) -> None:
        commit = commit_of(Path(self._workflow.main_snakefile), self._lock, lock)
        source = WorkflowSource(snakefile="", commit=commit.name, dirty=commit.dirty)
        self._write([events.repository(source, lock_committed=commit.lock_committed)])

    def _begin_jobs(self, jobs: Iterable[Any]) -> None:
        if self._is_over:
            return
        images: list[str] = []
        if self._journal is None:
            self._begin()
            images = self._containers.urls()
        at = now()
        tables: list[Event] = []
        for job in notes.single(jobs):
            key, record = _key(job), self._job(job, at)
            tables += self._failed((record.id, record.attempt - 1), job)
            self._open[key] = record
            if record.image:
                images.append(record.image)
                self._waiting.setdefault(record.image, {})[key] = None
            tables.append(events.job_started(record))
        self._write([*self._new_images(images), *tables])

    def _new_images(self, urls: Iterable[str]) -> Iterator[Event]:
        for url in urls:
            if url not in self._images:
                self._images.add(url)
                for reference in self._references.get(url, ()):
                    yield events.image(self.witnesses.record(reference, self._pins[reference]))

    def _job(self, job: Any, at: str) -> JobRecord:
        url = self._containers.url_of(job)
        return JobRecord(
            id=job.jobid,
            rule=job.rule.name,
            outputs=tuple(OutputRecord(path=str(path)) for path in job.output),
            wildcards={key: str(value) for key, value in job.wildcards_dict.items()},
            reference=self._reference(job, url) if url else "",
            image=url,
            host=HOST if self._workflow.local_exec or job.is_local else "",
            started=at,
            attempt=job.attempt,
        )

    def _reference(self, job: Any, url: str) -> str:
        """Return what the rule of `job` says, where it runs `url`: two tags may stand for one digest."""
        references = self._references.get(url, [])
        if len(references) == 1:
            return references[0]
        named = self._original(job.rule, job.wildcards_dict)
        return named if named in references else ""

    def _finish(self, job: Any) -> None:
        if self._workflow.remote_execution_settings.immediate_submit:
            return  # it was submitted, and nothing more is known
        tables = []
        for member in notes.single([job]):
            record = self._open.pop(_key(member), None)
            if record is not None:
                outputs = tuple([_output(path) for path in member.output])
                tables.append(self._ended(record, member, outputs, JobResult.FINISHED))
        self._write(tables)

    def _failed(self, key: Attempt, job: Any) -> Iterator[Event]:
        record = self._open.pop(key, None)
        if record is not None:
            yield self._ended(record, job, record.outputs, JobResult.FAILED)

    def _ended(self, record: JobRecord, job: Any, outputs: tuple[OutputRecord, ...], result: JobResult) -> Event:
        """Note that `job` ended, with what its own process said of it, as far as that can be true."""
        ended, note = now(), _NO_NOTE
        if record.image:
            self._waiting.get(record.image, {}).pop((record.id, record.attempt), None)
        if not record.host or (record.image and not record.disk):  # else nothing is left to be said
            note = notes.take(self._notes, job, record.attempt, None if record.host else self._far)
        ran = note.began if record.started < note.began <= ended else ""
        host, disk = note.host or record.host, note.disk or record.disk
        done = replace(record, ended=ended, host=host, disk=disk, outputs=outputs, result=result)
        return events.job_ended(done, ran=ran)

    def _write(self, tables: Iterable[Event]) -> None:
        if self._journal is None:
            return
        try:
            self._journal.append(tables)
        except OSError as error:
            self._close()
            log_line(Line(text=f"apptainer-freshness: no more is recorded of this run: {error.strerror}", problem=True))

    def _until_released(self, lock: Callable[..., Any]) -> Callable[..., Any]:
        @contextlib.contextmanager
        def recorded(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with lock(*args, **kwargs) as held:
                try:
                    yield held
                except BaseException as error:
                    self._end(error)
                    raise
                self._end(None)

        return recorded

    def _end(self, error: BaseException | None) -> None:
        """Record how the run ended. A job that is still open then has no result, but where its image was refused."""
        if self._journal is None:
            return
        scheduler = self._workflow.scheduler
        for failed in notes.single(getattr(scheduler, "failed", ())):
            self._write(self._failed(_key(failed), failed))
        for running in notes.single(getattr(scheduler, "running", ())):
            record = self._open.get(_key(running))
            if record is not None and record.disk and not DiskState(record.disk).is_proven:
                self._write(self._failed(_key(running), running))
        if self._repository is not None:
            self._repository.join(RECORDS.repository_timeout)
        self._write([events.run_ended(self._ending(scheduler, error), now())])
        self._close()
        shutil.rmtree(self._notes, ignore_errors=True)

    def _ending(self, scheduler: Any, error: BaseException | None) -> Ending:
        """Return how the run ended; Snakemake has one error for jobs that failed and for a user who stopped it."""
        if error is None:
            return Ending.FINISHED
        stopped = self._is_stopped or isinstance(error, KeyboardInterrupt | SystemExit)
        return Ending.INTERRUPTED if stopped or getattr(scheduler, "_user_kill", None) else Ending.FAILED

    def _close(self) -> None:
        """Write nothing more."""
        self._is_over = True
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()


def _key(job: Any) -> Attempt:
    return job.jobid, job.attempt


def _output(output: Any) -> OutputRecord:
    """Return `output` as it is now; a small file with its hash. A device or a FIFO is not opened."""
    path = str(output)
    temporary = not _PASSING.isdisjoint(getattr(output, "flags", ()))
    try:
        status = os.stat(path)  # noqa: PTH116  one call of many
        is_file, sha256 = stat.S_ISREG(status.st_mode), ""
        if is_file and status.st_size <= RECORDS.hashed:
            status, sha256 = _hashed(path)
    except OSError:
        return OutputRecord(path=path, temporary=temporary)
    size = status.st_size if is_file else 0
    return OutputRecord(path=path, size=size, mtime_ns=status.st_mtime_ns, sha256=sha256, temporary=temporary)


def _hashed(path: str) -> tuple[os.stat_result, str]:
    """Return the status of the small file at `path` and its SHA-256; none where it is not small or no file any more."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > RECORDS.hashed:
            return status, ""
        content = os.read(descriptor, status.st_size + 1)
        return status, hashlib.sha256(content).hexdigest() if len(content) == status.st_size else ""
    finally:
        os.close(descriptor)
