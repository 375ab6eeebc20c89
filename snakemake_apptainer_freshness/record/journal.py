"""The journal: the record of one run in one file, as it lies in its work directory and as it is read.

``.snakemake/apptainer-freshness/runs/<id>.json``, where the identifiers sort by time. The file is JSON at every
moment of the run that writes it (:mod:`.writer`): its first line has the head (:mod:`.events`), each line after it one
event, and the last line closes what is open. A run that is killed leaves a file that is whole, and has no end.

* A record is never changed after its run. The next run writes the SHA-256 of its bytes into its own head, so that the
  records make a chain (:func:`.pruning.chain`); a killed run's record is hashed as it lies.
* Who reads believes nothing. A record whose head cannot be read is named, and has no more than a name; lines that are
  damaged or cut short are left out, and :attr:`.Run.problem` says so. A record of a newer version is refused.
* A run whose record has no end still goes on where its process lives on this host. On another host it cannot be told.
"""

import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final, cast

from snakemake_apptainer_freshness.common.files import HOST, NotAFile, opened
from snakemake_apptainer_freshness.common.tables import Damaged, NewerVersion, read_json
from snakemake_apptainer_freshness.common.times import RUN
from snakemake_apptainer_freshness.errors import InvalidRecord, LocalIOError
from snakemake_apptainer_freshness.record.events import MainProcess, RecordReader
from snakemake_apptainer_freshness.record.run import Ending, Run, Versions, WorkflowSource
from snakemake_apptainer_freshness.settings import RECORDS

FOLDER: Final = Path(".snakemake", "apptainer-freshness", "runs")
"""Where the records of a work directory lie."""

SUFFIX: Final = ".json"
_TAIL: Final = 200
_RUN_ENDED: Final = b'"event":"run-ended"'
_SHOWN: Final = 3
"""Damaged lines that are named."""


def folder_of(workdir: Path) -> Path:
    """Return where the records of `workdir` lie."""
    return workdir / FOLDER


def identifiers(folder: Path) -> list[str]:
    """Return the runs that have a record in `folder`, oldest first.

    Raises
    ------
    LocalIOError
        where the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name.removesuffix(SUFFIX) for entry in entries if entry.name.endswith(SUFFIX)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise LocalIOError(
            f"cannot read the run records in {folder}: {error.strerror}", hint="check the permissions of the folder"
        ) from error
    return sorted(name for name in names if RUN.fullmatch(name))


def read_all(workdir: Path) -> list[Run]:
    """Return the runs that left a record in `workdir`, oldest first; a damaged record is a run with a problem.

    Raises
    ------
    InvalidRecord
        where a record is of a newer version.
    LocalIOError
        where the folder or a record cannot be read.
    """
    folder = folder_of(workdir)
    return [_read(folder / (name + SUFFIX)) for name in identifiers(folder)]


def read(path: Path) -> Run:
    """Return the run whose record is the file `path`, as far as it can be read.

    Raises
    ------
    InvalidRecord
        where it is of a newer version, or no record at all.
    LocalIOError
        where it cannot be read.
    """
    run = _read(path)
    if not run.started:
        raise InvalidRecord(
            f"cannot use the run record {path}: {run.problem}", hint="restore it from a backup, or leave it out"
        )
    return run


def _read(path: Path) -> Run:
    """As :func:`read`, but a file that is no record is a run with nothing but its name, its hash and a problem."""
    try:
        with opened(path) as raw, io.BufferedReader(cast("io.RawIOBase", raw)) as file:
            return _parse(path, file)
    except NotAFile as error:
        return _only_named(path, f"it is {error}", "")
    except OSError as error:
        raise LocalIOError(
            f"cannot read the run record {path}: {error.strerror}", hint="check its permissions"
        ) from error


def _parse(path: Path, file: BinaryIO) -> Run:
    sha256 = hashlib.sha256()
    lines = _lines(file, sha256)
    try:
        reading = head_of(next(lines, b""))
    except NewerVersion as error:
        raise InvalidRecord(
            f"cannot use the run record {path}: {error}",
            hint="upgrade snakemake-apptainer-freshness",
        ) from None
    except Damaged as error:
        for _ in lines:
            pass
        return _only_named(path, str(error), sha256.hexdigest())
    damage = _add_events(reading, lines)
    run = replace(reading.done(), file=str(path), sha256=sha256.hexdigest())
    if run.id != (name := path.name.removesuffix(SUFFIX)):
        damage.append(f"it says that it is the record of {run.id[:40]!r}")
        run = replace(run, id=name)
    if not run.ended and _lives(reading.process, run.host):
        run = replace(run, ending=Ending.RUNNING)
        damage = [] if damage == [_CUT] else damage  # its last event is just being written
    return replace(run, problem=_describe(damage))


def _lines(file: BinaryIO, sha256: "hashlib._Hash") -> Iterator[bytes]:
    """Yield the lines of `file`; everything goes into `sha256`, and what is too long is cut where it is too long."""
    size = 0
    while (line := file.readline(RECORDS.line)) and size < RECORDS.size:
        size += len(line)
        sha256.update(line)
        yield line


_CUT: Final = "it is cut short"


def head_of(line: bytes) -> RecordReader:
    """Return what the first line of a record says; raises as :meth:`.Reading.of` does."""
    return RecordReader.of(read_json(_whole(line) + b"]}"))


def _whole(line: bytes) -> bytes:
    if not line.endswith(b"\n"):
        raise Damaged(_CUT)
    return line.rstrip()


def _add_events(reading: RecordReader, lines: Iterator[bytes]) -> list[str]:
    """Give the events of `lines` to `reading`; what is wrong with them."""
    damage = []
    closed = False
    for number, line in enumerate(lines, start=2):
        if closed:
            damage.append("something follows its last line")
            for _ in lines:
                pass
            break
        if line == b"]}\n":
            closed = True
            continue
        try:
            reading.add(read_json(_whole(line).removesuffix(b",")))
        except Damaged as error:
            damage.append(_CUT if str(error) == _CUT else f"line {number} is damaged: {error}")
    if not closed and _CUT not in damage:
        damage.append(_CUT)
    return damage


def _describe(damage: list[str]) -> str:
    more = f"; and {len(damage) - _SHOWN} more" if len(damage) > _SHOWN else ""
    return "; ".join(damage[:_SHOWN]) + more


def _only_named(path: Path, problem: str, sha256: str) -> Run:
    """Return what is known of a run whose record cannot be read."""
    return Run(
        id=path.name.removesuffix(SUFFIX),
        started="",
        user="",
        host="",
        workdir="",
        command=(),
        config_sha256="",
        versions=Versions(snakemake="", freshness="", apptainer="", python=""),
        source=WorkflowSource(snakefile=""),
        mode="",
        file=str(path),
        sha256=sha256,
        problem=f"it cannot be read: {problem}",
    )


def goes_on(path: Path) -> bool:
    """Return whether the run of the record `path` is under way on this host, told by the record's first and last bytes.

    Raises
    ------
    NotAFile, OSError
        as :func:`~.common.files.opened` does.
    """
    with opened(path) as raw, io.BufferedReader(cast("io.RawIOBase", raw)) as file:
        try:
            reading = head_of(file.readline(RECORDS.line))
        except (Damaged, NewerVersion):
            return False
        file.seek(max(0, os.fstat(raw.fileno()).st_size - _TAIL))
        return _RUN_ENDED not in file.read(_TAIL) and _lives(reading.process, reading.run.host)


def this_process() -> MainProcess:
    """Return this process, as the head of a record names it."""
    return MainProcess(pid=os.getpid(), ticks=_ticks(os.getpid()) or 0)


def _lives(process: MainProcess, host: str) -> bool:
    return host == HOST and process.pid > 0 and _ticks(process.pid) == process.ticks


def _ticks(pid: int) -> int | None:
    """When the process `pid` was started (``/proc/<pid>/stat``, field 22); None where there is none."""
    try:
        content = Path(f"/proc/{pid}/stat").read_bytes()
        return int(content.rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
