"""Keeps the pins of a run that are too many for the command of a job in a file, named by the SHA-256 of its content.

It lies in Snakemake's own folder of the work directory. A job that shares that folder finds it there; to one that
shares none Snakemake brings it in the archive of the workflow's sources, to the same place below the working directory
of the job. That archive is made once, before the first job. So references that are met later, after a checkpoint, are
handed over in the command itself, on top of the file, while they are few.

The file is removed when its run is over, but not where the run only submits its jobs and ends. What killed runs leave
is removed after a month: their jobs may still wait in the queue of a cluster.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness.common.files import NotAFile, read_small, replace_own
from snakemake_apptainer_freshness.engine.handover import Handover, Row, content_of, encode, rows_of
from snakemake_apptainer_freshness.engine.seams import SOURCES, when_released
from snakemake_apptainer_freshness.errors import LocalIOError

LONGEST: Final = 16 * 1024
"""Characters of a command that pins may take: some 95 images. It leaves room for quotes, and for small queues."""
_SUFFIX: Final = ".pins"
_SIZE: Final = 64 * 1024 * 1024
_KEPT: Final = 30 * 86400.0  # seconds


FOLDER: Final = Path(".snakemake", "apptainer-freshness", "pins")
"""Below the working directory, which a job has, too; its ``persistence`` is elsewhere where none is shared."""


def read(name: str) -> bytes:
    """Return the content of the file `name`, in the process of a job.

    Raises
    ------
    LocalIOError
        where it is not there, or cannot be read.
    """
    path = FOLDER.absolute() / (name + _SUFFIX)
    try:
        return read_small(path, _SIZE)
    except FileNotFoundError:
        why = "it is not there"
    except NotAFile as error:
        why = f"it is {error}"
    except (OSError, ValueError) as error:
        why = str(error)
    raise LocalIOError(
        f"cannot read the pins of this run in {path}: {why}",
        hint="a job needs the working directory of its main process, or the workflow's sources: "
        "say what is shared with --shared-fs-usage",
    )


class PinsFile:
    """What the main process of `workflow` hands to its jobs: a word, and a file where that would be too long."""

    def __init__(self, workflow: Any) -> None:
        self._workflow = workflow
        self._folder = FOLDER.absolute()
        self._names: list[str] = []
        self._held: Mapping[str, Row] = {}
        """What the newest file has."""

    def attach(self) -> None:
        """Have the file travel with the sources of the workflow, and go when the run is over."""
        dag = self._workflow.dag
        when_released(self._workflow.persistence, self._remove)
        if SOURCES.is_in(dag):
            sources = dag.get_sources

            def sources_with_pins() -> Any:
                return {*sources(), *(os.path.relpath(self._path(name)) for name in self._names)}

            dag.get_sources = sources_with_pins

    def word(self, handover: Handover) -> str:
        """Return `handover` as the word that jobs get.

        Raises
        ------
        LocalIOError
            where it takes a file, which cannot be written.
        """
        word = encode(handover, file=self._names[-1] if self._names else "", held=self._held)
        if len(word) <= LONGEST:
            return word
        rows = rows_of(handover)
        return encode(handover, file=self._write(rows), held=rows)

    def _write(self, rows: Mapping[str, Row]) -> str:
        """Write `rows` to a new file; gives its name. Jobs that have started may still read the one before."""
        content = content_of(rows)
        name = hashlib.sha256(content).hexdigest()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._remove_old()
            replace_own(self._path(name), content)
        except OSError as error:
            raise LocalIOError(
                f"cannot write the pins of this run for its jobs to {self._folder}: {error.strerror}",
                hint="make the working directory writable, or make room there",
            ) from error
        self._names.append(name)
        self._held = rows
        return name

    def _path(self, name: str) -> Path:
        return self._folder / (name + _SUFFIX)

    def _remove(self) -> None:
        if not self._workflow.remote_execution_settings.immediate_submit:
            for name in self._names:
                with contextlib.suppress(OSError):
                    self._path(name).unlink()

    def _remove_old(self) -> None:
        for path in self._folder.glob(f"*{_SUFFIX}"):
            if time.time() - path.lstat().st_mtime > _KEPT:
                path.unlink(missing_ok=True)
