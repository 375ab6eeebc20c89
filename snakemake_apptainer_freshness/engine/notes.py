"""Notes: files that the process of a job leaves for the record that the main process writes.

One small file a job in ``<run>.jobs`` beside the record: on which host it began, when, and what it found at its image's
path. The main process makes that folder and takes the notes as jobs end. Where the two share no file system there is no
such folder, and the note goes through their storage (:mod:`.far_notes`). A note that cannot be written or read is no
reason for a job to fail.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from snakemake_apptainer_freshness.common.files import HOST, NotAFile, read_small, unique
from snakemake_apptainer_freshness.common.tables import Table, read_json
from snakemake_apptainer_freshness.common.times import now
from snakemake_apptainer_freshness.engine import containers
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState
from snakemake_apptainer_freshness.settings import RECORDS

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.engine.far_notes import FarNotes

_LONGEST_HOST: Final = 253


class Note(NamedTuple):
    """What one job's process said: its host, when it began (its own clock), and the word for its image."""

    host: str = ""
    began: str = ""
    disk: str = ""


def folder_for(workflow: Any, run: str) -> Path:
    """Return where the jobs of `run` leave their notes."""
    return records_of(workflow) / f"{run}.jobs"


def records_of(workflow: Any) -> Path:
    """Return where the records of `workflow` lie: in Snakemake's own folder of its work directory."""
    return Path(workflow.persistence.path, "apptainer-freshness", "runs")


def single(jobs: Iterable[Any]) -> Iterator[Any]:
    """Yield each job of `jobs`, those of groups one by one."""
    for job in jobs:
        if job.is_group():
            yield from job
        else:
            yield job


class NoteWriter:
    """Has the jobs of this process leave their notes in `folder`."""

    def __init__(self, workflow: Any, folder: Path, guarded: Container[str], far: "FarNotes | None" = None) -> None:
        """Begin; `guarded` are the urls for which :meth:`note_image` will be called, as far as they are known by then.

        `far` takes the notes where there is no such `folder`.
        """
        self._containers = containers.of(workflow)
        self._folder = folder
        self._far = None if folder.is_dir() else far
        self._guarded = guarded
        self._waiting: dict[str, list[tuple[str, str]]] = {}
        if self._far is not None or folder.is_dir():
            on_running(workflow.dag, self._started)

    def note_image(self, url: str, fact: DiskFact) -> None:
        """Note that the image of `url` is about to be run; `fact` is what its file is."""
        for name, began in self._waiting.pop(url, ()):
            self._leave(name, began, fact.state)

    def _started(self, jobs: Iterable[Any]) -> None:
        began = now()
        for job in single(jobs):
            name, url = _name(job, job.attempt), self._containers.url_of(job)
            if url in self._guarded:
                self._waiting.setdefault(url, []).append((name, began))
            else:
                self._leave(name, began, "")

    def _leave(self, name: str, began: str, disk: str) -> None:
        content = json.dumps({"host": HOST, "began": began, "disk": disk}).encode()
        if self._far is not None:
            self._far.leave(name, content)
            return
        temporary = self._folder / f".{unique()}"
        with contextlib.suppress(OSError):
            temporary.write_bytes(content)
            temporary.replace(self._folder / name)


def on_running(dag: Any, notify: Callable[[Iterable[Any]], None]) -> None:
    """Call `notify` with the jobs that Snakemake hands to an executor, each time before it does."""
    register = dag.register_running

    def register_and_notify(jobs: Any) -> Any:
        notify(jobs)
        return register(jobs)

    dag.register_running = register_and_notify


def take(folder: Path, job: Any, attempt: int, far: "FarNotes | None" = None) -> Note:
    """Return what the process of an `attempt` of `job` left in `folder`, or with `far`, and remove it.

    An empty note where it left none.
    """
    name = _name(job, attempt)
    if far is not None:
        with contextlib.suppress(ValueError, RecursionError):
            return _parse(far.take(name) or b"")
        return Note()
    place = folder / name
    try:
        note = _parse(read_small(place, RECORDS.note))
    except FileNotFoundError:
        return Note()
    except (OSError, ValueError, NotAFile):
        note = Note()
    with contextlib.suppress(OSError):
        place.unlink()
    return note


def _parse(content: bytes) -> Note:
    table = Table(read_json(content), _KEYS)
    host = table.words("host", longest=_LONGEST_HOST)
    disk = table.text("disk")
    return Note(host=host, began=table.time("began"), disk=disk and table.state("disk", DiskState))


_KEYS: Final = frozenset({"host", "began", "disk"})


def _name(job: Any, attempt: int) -> str:
    """Return the name of the note of an attempt of `job`: the same in the main process and in the job's own."""
    parts = [job.rule.name, *(f"{key}={value}" for key, value in sorted(job.wildcards_dict.items()))]
    joined = "\0".join(parts).encode(errors="surrogateescape")
    return f"{hashlib.sha256(joined).hexdigest()[:32]}-{attempt}.json"
