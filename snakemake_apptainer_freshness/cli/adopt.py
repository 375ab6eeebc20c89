"""``apptainer-freshness adopt``: take an old project over without running it again."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from snakemake_apptainer_freshness.cli import output
from snakemake_apptainer_freshness.cli.common import find_lock, json_option, lockfile_option, snakemake_arguments
from snakemake_apptainer_freshness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from snakemake_apptainer_freshness.actions.adopt import AdoptedOutput, Adoption
    from snakemake_apptainer_freshness.actions.workflow import Workflow

_SHOWN: Final = 3
_HELP: Final = """\
Prove that outputs made without this plugin are those of the pinned images, so that a run keeps them.

To Snakemake the pinned name of an image is other software than its tag, so it would run everything again. For each
output that exists this shows which image made it, and how that is known to be the one that the lock pins, or why it
is not. Proofs are remembered in your own state folder; nothing else is changed.

The workflow is read as Snakemake would read it here, with the arguments after '--'. It needs a lock.

\b
  current     made under the name that its rule runs
  proven      made under another name, by the same image
  other       made by another image
  unproven    it cannot be told
  unlocked    the lock does not say what its rule runs
  unrecorded  Snakemake does not know what made it, and does not ask

Exit status: 0 where all outputs stay, 1 where some will be made again, 2 wrong use or bad input, 3
where a registry could not be asked.
"""


@click.command("adopt", help=_HELP, short_help="Prove which images made old outputs, so that they are kept.")
@click.option(
    "--deep/--no-deep",
    default=True,
    help="Compare images with the layers that their digests name, where nothing else proves them.  [default: --deep]",
)
@click.option("--dry-run", is_flag=True, help="Show what would be adopted, and remember nothing.")
@lockfile_option
@json_option
@snakemake_arguments
def command(arguments: tuple[str, ...], *, deep: bool, dry_run: bool, lockfile: Path | None, as_json: bool) -> int:
    """Prove that outputs made without this plugin are those of the pinned images."""
    from snakemake_apptainer_freshness.actions.adopt import adopt
    from snakemake_apptainer_freshness.actions.elsewhere import Elsewhere
    from snakemake_apptainer_freshness.actions.layer_sources import LayerSources
    from snakemake_apptainer_freshness.actions.lock_io import read_lock
    from snakemake_apptainer_freshness.engine.query import read
    from snakemake_apptainer_freshness.registry.resolver import Resolver
    from snakemake_apptainer_freshness.store import history

    chosen = None if lockfile is None else lockfile.absolute()  # the workflow may change the folder
    find_lock(lockfile)
    workflow = read(arguments, with_outputs=True)
    workflow = workflow if chosen is None else replace(workflow, lockfile=chosen)
    _refuse_without(workflow)
    with Resolver() as registry, Elsewhere() as mirrors:
        sources = LayerSources(registry=registry, mirrors=mirrors)
        adoption = adopt(
            workflow, read_lock(workflow.lockfile), deep=(lambda: sources) if deep else None, remember=not dry_run
        )
    _show(workflow, adoption, as_json=as_json, dry_run=dry_run)
    if not dry_run:
        history.save(adoption.path, adoption.memory)
    for url, error in adoption.errors.items():
        output.note(f"error: {url}: {error.message}" + (f" ({error.hint})" if error.hint else ""))
    findings = int(any(not adopted.standing.stays for adopted in adoption.outputs))
    return max(findings, *(error.exit_status for error in adoption.errors.values()), 0)


def _refuse_without(workflow: "Workflow") -> None:
    """Raise an error without a lock, or without outputs."""
    if not workflow.lockfile.exists():
        raise UsageError(
            f"there is no lock file {workflow.lockfile}", hint="make it first with: apptainer-freshness lock"
        )
    for unseen in workflow.unseen:
        if not unseen.rule:
            raise UsageError(f"cannot see the outputs of this workflow: {unseen.why}")


def _show(workflow: "Workflow", adoption: "Adoption", *, as_json: bool, dry_run: bool) -> None:
    if adoption.memory.problem:
        output.note(f"warning: not using {adoption.path}: {adoption.memory.problem}")
    if as_json:
        output.document(
            lockfile=str(workflow.lockfile),
            prefix=str(workflow.prefix),
            memory=str(adoption.path),
            remembered=not dry_run,
            output=[_as_json(adopted) for adopted in adoption.outputs],
            unseen=[{"rule": rule.rule, "why": rule.why} for rule in workflow.unseen],
            error=[output.error_of(error, url) for url, error in adoption.errors.items()],
        )
        return
    if output.at_terminal(sys.stdout):
        output.table(("standing", "image", "how that is known"), [_grouped(same) for same in _groups(adoption)])
    else:
        for adopted in adoption.outputs:
            output.row(
                (
                    adopted.standing,
                    adopted.output.path,
                    adopted.output.recorded_url or "-",
                    adopted.url or "-",
                    adopted.detail,
                )
            )
    for unseen in workflow.unseen:
        output.note(f"not seen: rule {unseen.rule}: {unseen.why}")
    output.note(_summary(adoption, dry_run=dry_run))


def _groups(adoption: "Adoption") -> "list[list[AdoptedOutput]]":
    """Return the outputs in groups with the same answer, those first that a person should look at."""
    groups: dict[tuple[Any, ...], list[AdoptedOutput]] = {}
    for adopted in adoption.outputs:
        groups.setdefault((adopted.standing, adopted.output.recorded_url, adopted.url, adopted.detail), []).append(
            adopted
        )
    return sorted(groups.values(), key=lambda same: same[0].standing.stays)


def _grouped(same: "Sequence[AdoptedOutput]") -> tuple[str, ...]:
    first = same[0]
    paths = [adopted.output.path for adopted in same]
    more = f", … and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    made = first.output.recorded_url or "-"
    made = made if made in (first.url, first.output.reference) else f"{first.output.reference}\nmade with {made}"
    return first.standing.value, made, f"{first.detail}\n{', '.join(paths[:_SHOWN])}{more}"


def _summary(adoption: "Adoption", *, dry_run: bool) -> str:
    if not adoption.outputs:
        return "no output of a rule with a container is there"
    counts: dict[str, int] = {}
    for adopted in adoption.outputs:
        counts[adopted.standing.value] = counts.get(adopted.standing.value, 0) + 1
    standings = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    again = sum(not adopted.standing.stays for adopted in adoption.outputs)
    will = f"{again} will be made again" if again else "a run keeps all of them, as far as their containers go"
    rest = "; nothing was remembered (--dry-run)" if dry_run else ""
    return f"{output.counted(len(adoption.outputs), 'output')}: {standings}; {will}{rest}"


def _as_json(adopted: "AdoptedOutput") -> dict[str, Any]:
    return {
        "path": adopted.output.path,
        "rule": adopted.output.rule,
        "reference": adopted.output.reference,
        "recorded": adopted.output.recorded_url or None,
        "pinned": adopted.url or None,
        "standing": adopted.standing.value,
        "detail": adopted.detail,
    }
