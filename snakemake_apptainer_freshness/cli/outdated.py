"""``lock --outdated``: newer versions of the tools that a workflow names, told and not taken."""

import sys
from typing import TYPE_CHECKING, Any, Final

from snakemake_apptainer_freshness.cli import output, print_error
from snakemake_apptainer_freshness.cli.lock_report import rules_of

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.actions.outdated import NewerVersions
    from snakemake_apptainer_freshness.actions.workflow import Workflow

_SHOWN: Final = 5
"""Further versions that are named; JSON has all."""
_ASKING: Final = "asking registries"


def tell(workflow: "Workflow", *, as_json: bool) -> int:
    """Ask for newer versions of what `workflow` names, and print them; return the exit status."""
    from snakemake_apptainer_freshness.actions.outdated import outdated
    from snakemake_apptainer_freshness.common.progress import ProgressBars
    from snakemake_apptainer_freshness.image.platform import Platform
    from snakemake_apptainer_freshness.registry.resolver import Resolver

    with Resolver() as registries, ProgressBars() as bars:
        bars.begin(_ASKING)
        newer = outdated(workflow.uses, registries, platform=Platform.here())
        warnings = registries.warnings
    if as_json:
        output.document(lockfile=str(workflow.lockfile), outdated=[_as_json(workflow, versions) for versions in newer])
    else:
        _show(workflow, newer)
    for warning in warnings:
        output.note(f"warning: {warning}")
    errors = [versions.error for versions in newer if versions.error is not None]
    for error in errors:
        print_error(error)
    return max((error.exit_status for error in errors), default=0)


def _show(workflow: "Workflow", answers: "list[NewerVersions]") -> None:
    newer = [versions for versions in answers if versions.references]
    rows = [("newer", versions.reference, *_cells(workflow, versions)) for versions in newer]
    if output.at_terminal(sys.stdout):  # references are long: what there is to say stands below, not beside
        rows = [(what, "\n".join(filter(None, cells))) for what, *cells in rows]
    output.table(("what", "image"), rows)
    for versions in answers:
        if not versions.is_version:
            output.note(f"not compared: the tag of {versions.reference} is no version")
        elif not versions.is_whole:
            output.note(f"not all seen: the repository of {versions.reference} has more tags than are asked for")
    how_many = {0: "none has", 1: "1 has"}.get(len(newer), f"{len(newer)} have")
    output.note(f"{output.counted(len(answers), 'image')}: {how_many} a newer version; nothing was changed")


def _cells(workflow: "Workflow", versions: "NewerVersions") -> tuple[str, ...]:
    newest, *others = versions.references
    labels = [
        text
        for text in (
            versions.newest.created.partition("T")[0] if versions.newest else "",
            output.size(versions.newest.size) if versions.newest and versions.newest.size else "",
        )
        if text
    ]
    tags = [other.rpartition(":")[2] for other in others]
    more = f", … and {len(tags) - _SHOWN} more" if len(tags) > _SHOWN else ""
    also = f"also {', '.join(tags[:_SHOWN])}{more}" if tags else ""
    when = f" ({', '.join(labels)})" if labels else ""
    return f"{newest}{when}", also, rules_of(workflow, versions.reference)


def _as_json(workflow: "Workflow", versions: "NewerVersions") -> dict[str, Any]:
    return {
        "reference": versions.reference,
        "newer": list(versions.references),
        "created": (versions.newest.created if versions.newest else "") or None,
        "size": (versions.newest.size if versions.newest else 0) or None,
        "version": versions.is_version,
        "complete": versions.is_whole,
        "rules": [
            {"rule": use.rule, "snakefile": use.snakefile, "line": use.line or None}
            for use in workflow.uses.get(versions.reference, ())
        ],
        "error": None if versions.error is None else output.error_of(versions.error, versions.reference),
    }
