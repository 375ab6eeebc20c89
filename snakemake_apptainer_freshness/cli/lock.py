"""``apptainer-freshness lock``: make the lock of a workflow, or complete it, without running anything."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from snakemake_apptainer_freshness.cli import output, print_error
from snakemake_apptainer_freshness.cli.common import json_option, sarif_option, snakemake_arguments
from snakemake_apptainer_freshness.errors import FreshnessError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from snakemake_apptainer_freshness.actions.details import Details
    from snakemake_apptainer_freshness.actions.lock import Plan
    from snakemake_apptainer_freshness.actions.workflow import Workflow
    from snakemake_apptainer_freshness.registry.resolver import Resolver


@click.command("lock", short_help="Make or complete the lock of a workflow, without running it.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 where the lock is incomplete or would change.")
@click.option("--upgrade", is_flag=True, help="Take what all tags point at now.")
@click.option(
    "--upgrade-image",
    "patterns",
    metavar="PATTERN",
    multiple=True,
    help="Take what these tags point at now: a shell pattern on the whole reference, as in '*/salmon:*'.",
)
@click.option(
    "--take-same-platform",
    is_flag=True,
    help="With an upgrade: take also an index that changed while the image for this platform did not.",
)
@click.option("--prune", is_flag=True, help="Remove entries that no rule names.")
@click.option("--dry-run", is_flag=True, help="Write nothing; show what would change.")
@sarif_option
@json_option
@snakemake_arguments
def command(
    arguments: tuple[str, ...],
    patterns: tuple[str, ...],
    *,
    check: bool,
    upgrade: bool,
    take_same_platform: bool,
    prune: bool,
    dry_run: bool,
    sarif: Path | None,
    as_json: bool,
) -> int:
    """Pin every container that the workflow names, and write the lock; no job is run, no image fetched.

    The workflow is read as Snakemake would read it here, with the arguments that follow two dashes:

        apptainer-freshness lock -- --configfile config/full.yaml

    What the lock has stays as it is, unless an upgrade is asked for.

    Exit status: 0 where the lock is as it should be, else that of the worst error: 1 with --check where it is not, or
    where a policy forbids an image, 3 a registry or file could not be reached.
    """
    from snakemake_apptainer_freshness.actions.lock import Wish, lock, plan
    from snakemake_apptainer_freshness.actions.locking import read_lock
    from snakemake_apptainer_freshness.engine.reading import read
    from snakemake_apptainer_freshness.registry.resolver import Resolver

    if upgrade and patterns:
        raise UsageError("--upgrade takes all images, --upgrade-image some", hint="give one of them")
    if take_same_platform and not (upgrade or patterns):
        raise UsageError("--take-same-platform says what an upgrade takes", hint="add --upgrade or --upgrade-image")
    wish = Wish(
        upgrade=("*",) if upgrade else patterns, take_same_platform=take_same_platform, prune=prune, offline=check
    )
    workflow = read(arguments, with_outputs=bool(wish.upgrade or prune))
    with Resolver() as registries:
        if check or dry_run:
            before = read_lock(workflow.lockfile)
            planned = plan(workflow, before, wish, registries=lambda: registries, contents=lambda: registries)
        else:
            planned = lock(
                workflow,
                wish,
                registries=lambda: registries,
                contents=lambda: registries,
                waiting=_tell_wait(workflow.lockfile),
            )
        details = {} if check else _details(planned, registries)
        warnings = registries.warnings
    _show(workflow, planned, details, written=not (check or dry_run or planned.is_forbidden), as_json=as_json)
    for warning in warnings:
        output.note(f"warning: {warning}")
    for reference, error in planned.failures.items():
        print_error(_placed(workflow, reference, error))
    if sarif is not None:
        from snakemake_apptainer_freshness.cli.sarif import of_plan, write

        write(sarif, of_plan(workflow, planned))
    status = max((error.exit_status for error in planned.failures.values()), default=0)
    return status or int(planned.is_forbidden or (check and not planned.is_as_agreed))


def _tell_wait(path: Path) -> "Callable[[str], None]":
    return lambda holder: output.note(f"waiting for {holder}, which is writing {path}")


def _details(planned: "Plan", registries: "Resolver") -> "Mapping[str, Details]":
    """What the images of an upgrade say of themselves; for new ones there is nothing to compare."""
    from snakemake_apptainer_freshness.actions.details import details
    from snakemake_apptainer_freshness.image.platform import Platform

    changed = [one for one in planned.differences if one.old is not None and one.new is not None]
    entries = [entry for one in changed for entry in (one.old, one.new) if entry is not None]
    return details(entries, registries, platform=str(Platform.here()))


def _show(
    workflow: "Workflow", planned: "Plan", details: "Mapping[str, Details]", *, written: bool, as_json: bool
) -> None:
    from snakemake_apptainer_freshness.cli import plans

    if as_json:
        output.document(**plans.as_json(workflow, planned, details, written=written and bool(planned.differences)))
        return
    plans.show(workflow, planned, details)
    for one in planned.violations:
        output.note(plans.told(workflow, one))
    for unseen in workflow.unseen:
        output.note(f"not seen: {f'rule {unseen.rule}: ' if unseen.rule else ''}{unseen.why}")
    output.note(plans.summary(plans.path_from_here(str(workflow.lockfile)), planned, written=written))


def _placed(workflow: "Workflow", reference: str, error: FreshnessError) -> FreshnessError:
    """`error` with the reference that it is about, and the rule that names it."""
    from snakemake_apptainer_freshness.cli.plans import rules_of

    where = rules_of(workflow, reference)
    named = f"{reference} ({where})" if where else reference
    return type(error)(f"cannot pin {named}: {error.message}", hint=error.hint)
