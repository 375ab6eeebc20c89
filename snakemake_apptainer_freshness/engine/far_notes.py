"""Notes through a storage: for jobs that share no folder with their main process.

Where ``--shared-fs-usage`` leaves Snakemake's own folder out, the two have one place in common: the default storage, in
which Snakemake leaves the sources of the workflow and the outputs, too. A note lies there beside them, a few hundred
bytes under a name of its own, from before the container starts until the main process has read it. It is a word of the
job's process like any other note: read within bounds, and no reason for a job to fail. A storage has many ways to fail,
and each plugin its own errors.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from snakemake_apptainer_freshness.common.files import read_small
from snakemake_apptainer_freshness.engine import seams
from snakemake_apptainer_freshness.settings import RECORDS

_BEGINNING = "snakemake-apptainer-freshness"


class FarNotes:
    """The notes of one `run` in the storage of `provider`, below `prefix`."""

    def __init__(self, provider: Any, prefix: str, run: str) -> None:
        self._provider = provider
        self._beginning = f"{prefix}{'/' if prefix and not prefix.endswith('/') else ''}{_BEGINNING}.{run}."

    def leave(self, name: str, content: bytes) -> None:
        """Leave `content` as the note `name`; nothing, where the storage does not take it."""
        with contextlib.suppress(Exception), self._object(name) as (note, local):  # whatever a plugin raises
            local.write_bytes(content)
            note.store_object()

    def take(self, name: str) -> bytes | None:
        """Return the note `name`, and remove it; None where it is not there, or is none by its size."""
        content = None
        with contextlib.suppress(Exception), self._object(name) as (note, local):  # whatever a plugin raises
            if note.exists():
                if note.size() <= RECORDS.note:
                    note.retrieve_object()
                    content = read_small(local, RECORDS.note)
                note.remove()
        return content

    @contextlib.contextmanager
    def _object(self, name: str) -> Iterator[tuple[Any, Path]]:
        """Provide the note `name` in the storage, and where it lies here meanwhile."""
        with tempfile.TemporaryDirectory(prefix="apptainer-freshness-") as folder:
            note = self._provider.object(self._beginning + name)
            local = Path(folder, "note")
            note.set_local_path(local)
            yield note, local


def far_notes(workflow: Any, run: str) -> FarNotes | None:
    """Return how the notes of `run` travel; None where its jobs share Snakemake's folder, or there is no storage."""
    settings = workflow.storage_settings
    if "PERSISTENCE" in seams.names(settings.shared_fs_usage):
        return None
    registry = getattr(workflow, "storage_registry", None)
    if registry is None or not seams.DEFAULT_STORAGE.is_in(registry):
        return None
    provider = registry.default_storage_provider
    return None if provider is None else FarNotes(provider, settings.default_storage_prefix or "", run)
