"""``apptainer-freshness gc``: what nobody needs any more, shown, and deleted where that is asked for."""

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
    from snakemake_apptainer_freshness.store.claims import Registered


@click.command("gc", short_help="Free what no lock needs any more.")
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
@click.option("--yes", is_flag=True, help="Delete what is shown.")
@json_option
def command(lockfile: Path | None, prefix: str | None, grace: int, *, foreign: bool, yes: bool, as_json: bool) -> int:
    """Show what no known lock needs in Snakemake's image folder, and what killed pulls left there and in the caches.

    Known are the lock here and every lock that is registered in the folder: a run with the flag, 'pull' and 'bundle
    load' do that. So the images of other workflows on a shared folder stay. An image that was not fetched by us may
    belong to a plain run of Snakemake: it is listed as 'foreign' and stays, unless --foreign is given.

    Nothing is deleted without --yes.

    Exit status: 0 where there is nothing to free, or all of it was freed; 1 where something can be freed; 2 wrong
    use, or a claim or lock that cannot be understood; 3 where something could not be deleted.
    """
    from snakemake_apptainer_freshness.actions.gc import NeededImages, free, plan
    from snakemake_apptainer_freshness.actions.lock_io import read_lock
    from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
    from snakemake_apptainer_freshness.lockfile import Lock

    path, folder = find_lock(lockfile), image_folder(prefix)
    known = NeededImages(prefix=folder, lock=Lock() if path is None else read_lock(path), grace=grace)
    caches = {cache.root: cache for family in ("apptainer", "singularity") if (cache := CacheFolder.of(family=family))}
    found = plan(known, caches.values())
    if path is None and not found.registered:
        raise UsageError(
            f"no lock is known: there is none here, and none is registered in {folder}",
            hint="go to the workflow's folder, or give --lockfile; without a lock every image would look unneeded",
        )
    waste = [*found.waste, *(found.foreign if foreign else [])]
    done = list(free(waste, known)) if yes else []
    if as_json:
        _print_json(found, done, waste=waste, lockfile=path, prefix=folder, grace=grace)
    else:
        _print(found, done, waste=waste, deleted=yes, grace=grace)
    errors = [one.error for one in done if one.error is not None]
    for error in errors:
        print_error(error)
    return max((error.exit_status for error in errors), default=int(bool(waste) and not yes))


def _print(found: "GcPlan", done: "list[Freed]", *, waste: "list[Waste]", deleted: bool, grace: int) -> None:
    kept = {one.waste.file.path: one.kept for one in done if one.kept}
    listed = [*found.waste, *found.foreign]
    output.table(
        ("what", "size", "file", "why"),
        [(w.what.value, output.size(w.file.size), _named(w), kept.get(w.file.path, w.why)) for w in listed],
    )
    for one in found.registered:
        if text := _told(one, grace):
            output.note(text)
    if deleted:
        gone = [one.waste for one in done if one.is_done]
        output.note(f"freed {output.size(_total(gone))}: {output.counted(len(gone), 'file')} deleted")
    elif waste:
        output.note(
            f"{output.counted(len(waste), 'file')}, {output.size(_total(waste))}: free them with: "
            "apptainer-freshness gc --yes"
        )
    else:
        output.note("nothing to free")
    left = [one for one in found.foreign if one not in waste]
    if left:
        output.note(
            f"{output.counted(len(left), 'foreign image')}, {output.size(_total(left))}: not touched without --foreign"
        )


def _named(waste: "Waste") -> str:
    return f"{waste.file.path}\n  {waste.reference}" if waste.reference else str(waste.file.path)


def _told(one: "Registered", grace: int) -> str:
    """Return what a person should know of a registered lock; empty where there is nothing."""
    end = one.ends(grace)
    if end is not None and not one.has_run_out(grace):
        return f"{one.claim.lockfile} is gone; its images are kept until {end:%Y-%m-%d}"
    if one.presence.value == "unreadable":
        return (
            f"{one.claim.lockfile} of host {one.claim.host} cannot be read here; what it claimed is kept "
            f"(its claim: {one.file})"
        )
    return ""


def _total(waste: "list[Waste]") -> int:
    from snakemake_apptainer_freshness.actions.folders import total

    return total(one.file for one in waste)


def _print_json(
    found: "GcPlan",
    done: "list[Freed]",
    *,
    waste: "list[Waste]",
    lockfile: Path | None,
    prefix: Path,
    grace: int,
) -> None:
    outcome = {one.waste.file.path: one for one in done}
    output.document(
        lockfile=str(lockfile) if lockfile else None,
        prefix=str(prefix),
        waste=[_as_json(one, outcome.get(one.file.path)) for one in found.waste],
        foreign=[_as_json(one, outcome.get(one.file.path)) for one in found.foreign],
        total=_total(waste),
        freed=_total([one.waste for one in done if one.is_done]),
        locks=[
            {
                "lockfile": one.claim.lockfile,
                "host": one.claim.host,
                "presence": one.presence.value,
                "until": _stamp(one.ends(grace)),
                "claim": str(one.file),
            }
            for one in found.registered
        ],
        error=[output.error_of(one.error, str(one.waste.file.path)) for one in done if one.error is not None],
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
