"""``apptainer-freshness gc``: shows what no known lock needs, and deletes it where that is asked for."""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snakemake_apptainer_freshness.cli import output, print_error
from snakemake_apptainer_freshness.cli.common import (
    find_lock,
    image_folder,
    json_option,
    lockfile_option,
    prefix_option,
)
from snakemake_apptainer_freshness.errors import UsageError
from snakemake_apptainer_freshness.settings import DISK

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.actions.gc import Freed, GcPlan, Waste
    from snakemake_apptainer_freshness.actions.run_records import RecordsPlan
    from snakemake_apptainer_freshness.store.claims import Registered


@click.command("gc", short_help="Delete image files that no lock needs any more.")
@lockfile_option
@prefix_option
@click.option(
    "--grace",
    type=click.IntRange(min=0, max=36500),
    default=DISK.claim_grace,
    show_default=True,
    metavar="DAYS",
    help="How long a lock that is gone keeps its images.",
)
@click.option("--foreign", is_flag=True, help="Free images that were not fetched by us, too.")
@click.option(
    "--keep-runs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Free old records of runs in this folder, but of the last N runs.",
)
@click.option(
    "--keep-days",
    type=click.IntRange(min=0, max=36500),
    metavar="DAYS",
    help="Free old records of runs in this folder, but those of so many days.",
)
@click.option("--seal", is_flag=True, help="Sign which records were removed with your SSH key.")
@click.option(
    "--seal-key",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The SSH key for --seal; else the first that lies in ~/.ssh.",
)
@click.option("--yes", is_flag=True, help="Delete what is shown.")
@json_option
def command(
    lockfile: Path | None,
    prefix: str | None,
    grace: int,
    *,
    foreign: bool,
    keep_runs: int | None,
    keep_days: int | None,
    seal: bool,
    seal_key: Path | None,
    yes: bool,
    as_json: bool,
) -> int:
    """Show what no known lock needs in Snakemake's image folder, and what killed pulls left there and in the caches.

    Known locks are the one here and those that are registered in the folder, as a run with the flag, 'pull' and 'bundle
    load' do. So the images of other workflows on a shared folder stay. An image that was not fetched by us may
    belong to a plain run of Snakemake: it is listed as 'foreign' and stays, unless --foreign is given.

    With --keep-runs or --keep-days the oldest records of the runs in this folder go as well; with both, what either
    keeps stays. What was made in these runs is then without a record. The chain of the records that stay can still be
    proven: by you, and by others where you seal (--seal) what was removed.

    Nothing is deleted without --yes.

    Exit status: 0 where there is nothing to free, or all of it was freed; 1 where something can be freed; 2 wrong
    use, or a claim or lock that cannot be understood; 3 where something could not be deleted.
    """
    from snakemake_apptainer_freshness.actions.gc import NeededImages, free, plan
    from snakemake_apptainer_freshness.actions.lock_io import read_lock
    from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
    from snakemake_apptainer_freshness.lockfile import Lock

    records = _records(keep_runs, keep_days, seal=seal, seal_key=seal_key)
    path, folder = find_lock(lockfile), image_folder(prefix)
    known = NeededImages(prefix=folder, lock=Lock() if path is None else read_lock(path), grace=grace)
    caches = {cache.root: cache for family in ("apptainer", "singularity") if (cache := CacheFolder.of(family=family))}
    planned = plan(known, caches.values())
    if path is None and not planned.registered and records is None:
        raise UsageError(
            f"no lock is known: there is none here, and none is registered in {folder}",
            hint="go to the workflow's folder, or give --lockfile; without a lock every image would look unneeded",
        )
    if path is None and not planned.registered:
        planned = replace(planned, waste=[], foreign=[])  # without a lock every image would look unneeded
    waste = [*planned.waste, *(planned.foreign if foreign else [])]
    done = list(free(waste, known)) if yes else []
    removed = records is not None and records.is_freed(deleted=yes)
    if as_json:
        document = None if records is None else records.as_json(removed=removed)
        _print_json(planned, done, waste=waste, lockfile=path, prefix=folder, grace=grace, records=document)
    else:
        _print(planned, done, waste=waste, deleted=yes, grace=grace)
        if records is not None:
            output.note(records.summary(removed=removed))
    errors = [freed.error for freed in done if freed.error is not None]
    for error in errors:
        print_error(error)
    is_left = bool(waste or (records is not None and records.planned.gone)) and not yes
    return max((error.exit_status for error in errors), default=int(is_left))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Records:
    """The records of runs in this folder, and which of them go."""

    planned: "RecordsPlan"
    key: Path | None

    def is_freed(self, *, deleted: bool) -> bool:
        """Remove the records where they are to be `deleted`; return whether there were any."""
        from snakemake_apptainer_freshness.actions.run_records import remove

        if not deleted or not self.planned.gone:
            return False
        remove(self.planned, self.key)
        return True

    def summary(self, *, removed: bool) -> str:
        """Return the summary for a person."""
        gone = self.planned.gone
        left = output.counted(len(self.planned.left), "record")
        if not gone:
            return f"no record of a run is older than what is kept: {left}"
        outputs = self.planned.outputs
        which = (
            f"{output.counted(len(gone), 'record')} up to that of run {gone[-1].id}, {output.size(self.planned.size)}"
        )
        lost = (
            f"; {output.counted(outputs, 'output')} that only they tell of will be without a record" if outputs else ""
        )
        if removed:
            sealed = "sealed" if self.key else "not sealed: only you can prove that it was no tampering"
            return f"removed {which}; {left} stay; {sealed}"
        return f"records of runs: {which}; {left} stay{lost}"

    def as_json(self, *, removed: bool) -> dict[str, Any]:
        """Return the summary as JSON."""
        return {
            "gone": [run.id for run in self.planned.gone],
            "left": len(self.planned.left),
            "outputs": self.planned.outputs,
            "size": self.planned.size,
            "removed": removed,
        }


def _records(keep_runs: int | None, keep_days: int | None, *, seal: bool, seal_key: Path | None) -> _Records | None:
    """Return which records of runs may go; None where nothing was said of them."""
    if (seal or seal_key is not None) and keep_runs is None and keep_days is None:
        raise UsageError(
            "--seal signs which records were removed", hint="add --keep-runs or --keep-days, or leave it out"
        )
    if seal_key is not None and not seal:
        raise UsageError("--seal-key says what --seal signs with", hint="add --seal, or leave it out")
    if keep_runs is None and keep_days is None:
        return None
    from snakemake_apptainer_freshness.actions.run_records import Keeping, plan
    from snakemake_apptainer_freshness.record.seal import default_key

    key = (seal_key or default_key()) if seal else None
    return _Records(planned=plan(Path.cwd(), Keeping(runs=keep_runs, days=keep_days)), key=key)


def _print(planned: "GcPlan", done: "list[Freed]", *, waste: "list[Waste]", deleted: bool, grace: int) -> None:
    kept = {freed.waste.file.path: freed.kept for freed in done if freed.kept}
    listed = [*planned.waste, *planned.foreign]
    output.table(
        ("what", "size", "file", "why"),
        [(w.what.value, output.size(w.file.size), _named(w), kept.get(w.file.path, w.why)) for w in listed],
    )
    for claim in planned.registered:
        if text := _claim_note(claim, grace):
            output.note(text)
    if deleted:
        gone = [freed.waste for freed in done if freed.is_done]
        output.note(f"freed {output.size(_total(gone))}: {output.counted(len(gone), 'file')} deleted")
    elif waste:
        output.note(
            f"{output.counted(len(waste), 'file')}, {output.size(_total(waste))}: free them with: "
            "apptainer-freshness gc --yes"
        )
    else:
        output.note("nothing to free")
    left = [item for item in planned.foreign if item not in waste]
    if left:
        output.note(
            f"{output.counted(len(left), 'foreign image')}, {output.size(_total(left))}: not touched without --foreign"
        )


def _named(waste: "Waste") -> str:
    return f"{waste.file.path}\n  {waste.reference}" if waste.reference else str(waste.file.path)


def _claim_note(claim: "Registered", grace: int) -> str:
    """Return a note on a registered lock; empty where there is nothing to note."""
    end = claim.ends(grace)
    if end is not None and not claim.has_run_out(grace):
        return f"{claim.claim.lockfile} is gone; its images are kept until {end:%Y-%m-%d}"
    if claim.presence.value == "unreadable":
        return (
            f"{claim.claim.lockfile} of host {claim.claim.host} cannot be read here; what it claimed is kept "
            f"(its claim: {claim.file})"
        )
    return ""


def _total(waste: "list[Waste]") -> int:
    from snakemake_apptainer_freshness.actions.folders import total

    return total(item.file for item in waste)


def _print_json(
    planned: "GcPlan",
    done: "list[Freed]",
    *,
    waste: "list[Waste]",
    lockfile: Path | None,
    prefix: Path,
    grace: int,
    records: dict[str, Any] | None,
) -> None:
    outcome = {freed.waste.file.path: freed for freed in done}
    output.document(
        lockfile=str(lockfile) if lockfile else None,
        prefix=str(prefix),
        waste=[_as_json(item, outcome.get(item.file.path)) for item in planned.waste],
        foreign=[_as_json(item, outcome.get(item.file.path)) for item in planned.foreign],
        total=_total(waste),
        freed=_total([freed.waste for freed in done if freed.is_done]),
        locks=[
            {
                "lockfile": claim.claim.lockfile,
                "host": claim.claim.host,
                "presence": claim.presence.value,
                "until": _stamp(claim.ends(grace)),
                "claim": str(claim.file),
            }
            for claim in planned.registered
        ],
        records=records,
        error=[output.error_of(freed.error, str(freed.waste.file.path)) for freed in done if freed.error is not None],
    )


def _as_json(waste: "Waste", outcome: "Freed | None") -> dict[str, Any]:
    return {
        "what": waste.what.value,
        "path": str(waste.file.path),
        "size": waste.file.size,
        "reference": waste.reference or None,
        "why": waste.why,
        "freed": outcome is not None and outcome.is_done,
        "kept": outcome.kept or None if outcome else None,
    }


def _stamp(moment: datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None
