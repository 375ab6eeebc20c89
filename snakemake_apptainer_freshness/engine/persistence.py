"""Snakemake's metadata of a work directory, read as it lies there: without its Snakefile, and without a change.

Both of Snakemake's backends are known (``snakemake/persistence`` of Snakemake 9):

files
    one JSON file an output below ``.snakemake/metadata``, named by the output's path in URL-safe base64; a name that is
    too long for the file system continues in folders whose names begin with ``@``. An output that is being made has a
    file of the same name below ``.snakemake/incomplete``.
database
    one row an output in ``.snakemake/metadata.db``, under the absolute path of ``.snakemake`` as its namespace.

A workflow may be running there, so nothing is locked, migrated or written. A file that is just being written is
counted as unreadable. The database is read a few thousand rows at a time, so that a process that writes to it never
waits long; where another process died in the middle of a change, which only a writer could undo, a copy is read.
"""

import base64
import binascii
import json
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness.common.parallel import in_batches
from snakemake_apptainer_freshness.errors import LocalIOError
from snakemake_apptainer_freshness.record.metadata import NOTHING, MadeBy, Metadata

_FOLDER: Final = ".snakemake"
_DATABASE: Final = "metadata.db"
_LARGEST: Final = 64 * 1024 * 1024
_MIGRATION: Final = "migration_underway"
"""Snakemake's own mark in ``.snakemake/incomplete``."""
_ROWS: Final = 4096
_COLUMNS: Final = (
    "target", "rule", "input", "container_img_url", "software_stack_hash", "starttime", "endtime",
    "incomplete", "record_format_version",
)  # fmt: skip


def read(workdir: Path) -> Metadata:
    """Return what Snakemake recorded in `workdir`.

    Raises
    ------
    LocalIOError
        where it is there, and cannot be read at all.
    """
    folder = workdir.absolute() / _FOLDER
    metadata = _Found()
    try:
        if (folder / "metadata").is_dir():
            metadata.read_files(folder)
        if (folder / _DATABASE).is_file():
            metadata.read_database(folder)
    except OSError as error:
        raise LocalIOError(f"cannot read Snakemake's metadata in {folder}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise LocalIOError(
            f"cannot read Snakemake's metadata in {folder / _DATABASE}: {error}",
            hint="its other records can be audited without it: move it aside in a copy of the work directory",
        ) from error
    return metadata.metadata()


@dataclass(slots=True)
class _Found:
    """What was read so far; a text that stands in many records is kept once."""

    outputs: dict[str, MadeBy] = field(default_factory=dict)
    incomplete: set[str] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)
    any: bool = False

    def metadata(self) -> Metadata:
        if not self.any:
            return NOTHING
        return Metadata(
            outputs=self.outputs, incomplete=frozenset(self.incomplete), unreadable=tuple(sorted(self.unreadable))
        )

    def add(self, path: str, record: "dict[str, Any]") -> None:
        """Add one record; of two for one output, which only a change of the backend leaves, the later one counts."""
        if record.get("incomplete"):
            self.incomplete.add(path)
        made = MadeBy(
            rule=_text(record.get("rule")),
            container=_text(record.get("container_img_url")),
            software=_text(record.get("software_stack_hash")),
            started=_number(record.get("starttime")),
            ended=_number(record.get("endtime")),
            inputs=_texts(record.get("input")),
        )
        known = self.outputs.get(path)
        if known is None or known.ended <= made.ended:
            self.outputs[path] = made

    # --- Files ---------------------------------------------------------------------------------------------------

    def read_files(self, folder: Path) -> None:
        self.any = True
        root = f"{folder}/metadata"
        for batch in in_batches(_names(root), lambda names: _read_batch(root, names)):
            for name, content in batch:
                path = _output_of(name)
                record = _record(content)
                if path is None or record is None:
                    self.unreadable.append(f"{_FOLDER}/metadata/{name}")
                else:
                    self.add(path, record)
        incomplete = f"{folder}/incomplete"
        if os.path.isdir(incomplete):  # noqa: PTH112  its names are texts
            paths = (_output_of(name) for name in _names(incomplete) if name != _MIGRATION)
            self.incomplete.update(path for path in paths if path is not None)

    # --- The database --------------------------------------------------------------------------------------------

    def read_database(self, folder: Path) -> None:
        self.any = True
        try:
            self._read_rows(folder / _DATABASE, folder)
        except sqlite3.OperationalError:  # a change that was cut off: only a process that may write can undo it
            with tempfile.TemporaryDirectory(prefix="freshness-") as private:
                for name in (_DATABASE, f"{_DATABASE}-journal", f"{_DATABASE}-wal"):
                    if (folder / name).is_file():
                        shutil.copyfile(folder / name, Path(private, name))
                self._read_rows(Path(private, _DATABASE), folder, mode="rw")

    def _read_rows(self, database: Path, folder: Path, *, mode: str = "ro") -> None:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode={mode}", uri=True, timeout=10)) as connection:
            connection.text_factory = lambda text: text.decode(errors="surrogateescape")
            namespace = _namespace(connection, str(folder))
            if namespace is None:
                return
            for row in _rows(connection, namespace):
                self._add_row(dict(zip(_COLUMNS, row, strict=True)))

    def _add_row(self, row: dict[str, Any]) -> None:
        path = row["target"]
        if not row["record_format_version"]:  # a job was started, and has not ended
            self.incomplete.add(path)
            return
        inputs = _loaded(row["input"].encode(errors="surrogateescape")) if row["input"] else []
        if not isinstance(inputs, list):
            self.unreadable.append(f"{_FOLDER}/{_DATABASE}: {path}")
            return
        self.add(path, {**row, "input": inputs})


def _namespace(connection: sqlite3.Connection, wanted: str) -> str | None:
    """Return the namespace of this work directory: the `wanted` one, or the only one, where the directory was moved."""
    namespaces = [name for (name,) in connection.execute("SELECT DISTINCT namespace FROM snakemake_metadata")]
    if wanted in namespaces:
        return wanted
    return namespaces[0] if len(namespaces) == 1 else None


def _rows(connection: sqlite3.Connection, namespace: str) -> Iterator[Sequence[Any]]:
    """Yield all rows, each few thousand in a transaction of their own."""
    query = (
        f"SELECT {', '.join(_COLUMNS)} FROM snakemake_metadata "  # noqa: S608  names of ours
        "WHERE namespace = CAST(? AS TEXT) AND target > CAST(? AS TEXT) ORDER BY target LIMIT ?"
    )
    scope, last = namespace.encode(errors="surrogateescape"), b""
    while rows := connection.execute(query, (scope, last, _ROWS)).fetchall():
        yield from rows
        last = rows[-1][0].encode(errors="surrogateescape")


# --- Names and contents of files -----------------------------------------------------------------------------------


def _names(root: str, folder: str = "") -> Iterator[str]:
    """Yield the files below `root`, relative to it."""
    with os.scandir(f"{root}/{folder}") as entries:
        for entry in entries:
            name = f"{folder}{entry.name}"
            if entry.name.startswith("@") and entry.is_dir(follow_symlinks=False):
                yield from _names(root, f"{name}/")
            else:
                yield name


def _read_batch(root: str, names: Iterable[str]) -> list[tuple[str, bytes | None]]:
    return [(name, _content(f"{root}/{name}")) for name in names]


def _content(path: str) -> bytes | None:
    """Return what the file `path` holds; None where it is no file, is too large, or cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        content = os.read(handle, _BLOCK)
        if len(content) < _BLOCK:
            return content
        with open(handle, "rb", closefd=False) as file:
            content += file.read(_LARGEST)
        return content if len(content) < _LARGEST else None
    except OSError:
        return None
    finally:
        os.close(handle)


_BLOCK: Final = 64 * 1024


def _output_of(name: str) -> str | None:
    """Return the output whose record is the file `name`; None where it is no record."""
    text = "".join(part.removeprefix("@") for part in name.split("/")) if "/" in name else name
    try:
        return base64.b64decode(text, altchars=b"-_", validate=True).decode(errors="surrogateescape")
    except (binascii.Error, ValueError):
        return None


def _record(content: bytes | None) -> dict[str, Any] | None:
    record = _loaded(content) if content else None
    return record if isinstance(record, dict) else None


def _loaded(content: bytes) -> Any:
    try:
        return json.loads(content.decode(errors="surrogateescape"))
    except (ValueError, RecursionError):
        return None


# --- Values --------------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    return sys.intern(value) if type(value) is str else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple([_text(item) for item in value if item]) if isinstance(value, list) else ()


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
