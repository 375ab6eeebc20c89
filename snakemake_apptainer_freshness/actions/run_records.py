"""Old records of runs: choosing them by number or age, and removing them so that the chain of the others holds.

* The oldest go first, whole runs only. The newest record that has an end always stays: the next run names its hash.
* Nothing goes where the chain does not hold up to the first record that stays: what was cut off or changed on purpose
  is not made to look like a clean-up. Nothing goes while a run is under way.
* What went is written down first (:mod:`.record.pruning`), beside the records and in this user's own state folder, and
  sealed where that is asked for; then records are deleted, the oldest first. If that is cut short the chain holds.

A removal beside the records counts (:func:`believed`) where this user's state folder has the same bytes, or where it is
sealed by an allowed signer; and only in the folder that it was made in, or whose records come from there.
"""

import contextlib
import getpass
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.common.files import HOST, NotAFile, read_small, write_atomically
from snakemake_apptainer_freshness.common.removal import open_folder, remove_at
from snakemake_apptainer_freshness.common.times import now
from snakemake_apptainer_freshness.errors import LocalIOError, UsageError, one_line
from snakemake_apptainer_freshness.record import journal, seal
from snakemake_apptainer_freshness.record.pruning import Removal, chain, edges_of, path_in
from snakemake_apptainer_freshness.record.run import Ending, Run
from snakemake_apptainer_freshness.record.seal import SealState
from snakemake_apptainer_freshness.settings import RECORDS
from snakemake_apptainer_freshness.store import state

_REMOVALS: Final = "removals"
_STAMP: Final = "%Y%m%dT%H%M%S.%fZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """Which records stay: the newest `runs`, and those of the last `days`; None sets no rule. At least one is given."""

    runs: int | None = None
    days: int | None = None

    def stays(self, run: Run, *, newer: int, now: datetime) -> bool:
        """Return whether `run`, with so many `newer` ones, stays."""
        is_among = self.runs is not None and newer < self.runs
        is_young = self.days is not None and _began(run) > now - timedelta(days=self.days)
        return is_among or is_young


def _began(run: Run) -> datetime:
    return datetime.strptime(run.id, _STAMP).replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsPlan:
    """Which runs' records in `folder` may go, and which stay; both oldest first.

    `outputs` are those that are still there and that no run that stays made: nothing proves them when the records are
    gone. `size` is in bytes.
    """

    workdir: Path
    gone: tuple[Run, ...]
    left: tuple[Run, ...]
    before: Removal | None
    outputs: int = 0
    size: int = 0


def believed(workdir: Path, runs: Iterable[Run], allowed: Path | None = None) -> tuple[Removal | None, str]:
    """Return what was removed of the records in `workdir` as far as that is believed, and who vouches for it.

    `runs` are those of its records. Where there is a removal that is not believed, the text says why.
    """
    path = path_in(journal.folder_of(workdir))
    try:
        content = read_small(path, RECORDS.removal)
        removal = Removal.loads(content)
    except FileNotFoundError:
        return None, ""
    except (OSError, NotAFile, ValueError) as error:
        return None, f"{path.name} cannot be used: {one_line(error)}"
    homes = {str(workdir), os.path.realpath(workdir), *(run.workdir for run in runs)}
    if removal.workdir not in homes:
        return None, f"{path.name} says that older ones were removed, but in another folder, {removal.workdir}"
    sha256 = hashlib.sha256(content).hexdigest()
    if state.read(_own(sha256), RECORDS.removal) == content:
        return removal, f"this user, {removal.user}"
    sealed = seal.check_file(path, sha256, "", allowed, namespace=seal.REMOVAL) if allowed is not None else None
    if sealed is not None and sealed.state is SealState.GOOD:
        return removal, f"{removal.user}, sealed by {sealed.signer}"
    return None, (
        f"{path.name} says that {removal.user} removed older ones on {removal.at}, which is a claim: it counts "
        "for that user, or sealed (gc --seal) by an allowed signer"
    )


def _own(sha256: str) -> Path:
    return state.folder() / _REMOVALS / f"{sha256}.json"


def plan(workdir: Path, keeping: Keeping) -> RecordsPlan:
    """Return which records in `workdir` may go; changes nothing.

    Raises
    ------
    UsageError
        where a run is under way, or the chain does not hold.
    """
    runs = journal.read_all(workdir)
    before, why = believed(workdir, runs)
    moment = datetime.now(UTC)
    last_ended = max((number for number, run in enumerate(runs) if run.ended), default=len(runs) - 1)
    count = 0
    while count < last_ended and not keeping.stays(runs[count], newer=len(runs) - count - 1, now=moment):
        count += 1
    gone, left = tuple(runs[:count]), tuple(runs[count:])
    if gone:
        _refuse(runs, left, before, why)
    return RecordsPlan(
        workdir=workdir, gone=gone, left=left, before=before, outputs=_only_of(workdir, gone, left), size=_size(gone)
    )


def _refuse(runs: Sequence[Run], left: Sequence[Run], before: Removal | None, why: str) -> None:
    if under_way := [run.id for run in runs if run.ending is Ending.RUNNING]:
        raise UsageError(f"run {under_way[0]} is under way: no record is removed now", hint="do it when it has ended")
    later = {run.id for run in left[1:]}
    breaks = [broken for broken in chain(runs, before) if broken.run not in later]
    if breaks:
        first = breaks[0]
        because = f" ({why})" if why else ""
        raise UsageError(
            f"the chain of records does not hold at run {first.run}: {first.text}{because}; nothing is removed, since "
            "that would hide it",
            hint="look at it with: apptainer-freshness audit; keep these records, or archive the whole folder",
        )


def _only_of(workdir: Path, gone: Iterable[Run], left: Iterable[Run]) -> int:
    made = {output.path for run in gone for job in run.jobs for output in job.outputs}
    again = {output.path for run in left for job in run.jobs for output in job.outputs}
    return sum(os.path.lexists(workdir / path) for path in made - again)


def _size(runs: Iterable[Run]) -> int:
    total = 0
    for run in runs:
        with contextlib.suppress(OSError):
            total += Path(run.file).lstat().st_size
    return total


def remove(planned: RecordsPlan, key: Path | None = None) -> Removal:
    """Remove the records that `planned` says may go; `key` is the SSH key to seal with, None where that is not wished.

    Raises
    ------
    UsageError, MissingProgram
        where `key` cannot seal; nothing is removed then.
    LocalIOError
        where something cannot be written or deleted.
    """
    newest, before = planned.left[-1], planned.before
    new = [run for run in planned.gone if before is None or run.id > before.last]  # others were only left over
    removal = Removal(
        at=now(),
        user=getpass.getuser(),
        host=HOST,
        workdir=str(planned.workdir),
        count=len(new) + (before.count if before is not None else 0),
        last=planned.gone[-1].id,
        newest=newest.id,
        newest_sha256=newest.sha256,
        edges=edges_of(planned.gone, planned.left, before),
    )
    content, folder = removal.dumps(), journal.folder_of(planned.workdir)
    sha256 = hashlib.sha256(content).hexdigest()
    path = path_in(folder)
    try:
        state.write(_own(sha256), content)
        seal.seal_of(path).unlink(missing_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise LocalIOError(
            f"cannot write down in {folder} and the state folder which records are removed: {error.strerror or error}",
            hint="make both writable; nothing was removed",
        ) from error
    if key is not None:
        seal.sign_file(path, sha256, key, namespace=seal.REMOVAL)
    _delete(folder, planned.gone)
    return removal


def _delete(folder: Path, runs: Iterable[Run]) -> None:
    """Delete the records of `runs`, their seals, and what their jobs left, the oldest first."""
    try:
        with open_folder(folder) as parent:
            for run in runs:
                record = f"{run.id}{journal.SUFFIX}"
                for name in (record, f"{record}{seal.SUFFIX}", f"{run.id}.jobs"):
                    with contextlib.suppress(FileNotFoundError):
                        remove_at(parent, name)
    except OSError as error:
        raise LocalIOError(
            f"cannot delete records in {folder}: {error.strerror or error}",
            hint="make the folder writable; run it again",
        ) from error
