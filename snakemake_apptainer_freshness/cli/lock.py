"""``apptainer-freshness lock``: make the lock of a workflow, or complete it, without running anything.

How a plan for the lock is shown: a diff that can be read, a row an image, and as JSON.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from snakemake_apptainer_freshness.cli import output, print_error
from snakemake_apptainer_freshness.cli.common import json_option, sarif_option, snakemake_arguments
from snakemake_apptainer_freshness.errors import FreshnessError, UsageError
from snakemake_apptainer_freshness.settings import Reaction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from snakemake_apptainer_freshness.actions.labels import Details
    from snakemake_apptainer_freshness.actions.lock import LockDifference, LockPlan
    from snakemake_apptainer_freshness.actions.workflow import ExistingOutput, RuleUse, Workflow
    from snakemake_apptainer_freshness.lockfile import Entry
    from snakemake_apptainer_freshness.policy import Violation
    from snakemake_apptainer_freshness.registry.resolver import Resolver

_HELD: Final = "same platform"
_SHOWN: Final = 3


def show(workflow: "Workflow", planned: "LockPlan", details: "Mapping[str, Details]") -> None:
    """Print a row for everything that is not simply as it was agreed."""
    rows: list[tuple[str, ...]] = []
    rows += [(one.what.value, one.reference, *_cells(one, details)) for one in planned.differences]
    rows += [(_HELD, one.reference, *_cells(one, {})) for one in planned.held_back]
    rows += [("missing", text, "not in the lock", rules_of(workflow, text)) for text in planned.missing]
    removed = {one.reference for one in planned.differences if one.new is None}
    rows += [("orphan", text, "no rule names it") for text in planned.orphans if text not in removed]
    rows += [("unclear", text, "no rule that could be seen names it") for text in planned.unclear]
    if workflow.options.on_unpinnable is not Reaction.IGNORE:
        rows += [("unpinnable", text, why, rules_of(workflow, text)) for text, why in planned.unpinnable.items()]
    if output.at_terminal(sys.stdout):  # references are long: what there is to say stands below, not beside
        rows = [(what, "\n".join(filter(None, cells))) for what, *cells in rows]
    output.table(("what", "image"), rows)


def unversioned(workflow: "Workflow") -> "Iterator[str]":
    """The references that name no version; none where a policy rules on tags, which decides then."""
    from snakemake_apptainer_freshness.image.reference import parse

    for text in workflow.uses if "tags" not in workflow.options.policy else ():
        try:
            if parse(text).names_no_version:
                yield text
        except FreshnessError:  # told where it is pinned
            continue


def _cells(one: "LockDifference", details: "Mapping[str, Details]") -> Iterator[str]:
    """What there is to say of one changed entry."""
    if one.old and one.new:
        yield f"{one.old.digest.short} → {one.new.digest.short}"
        yield ", ".join(f"{platform} {fate}" for platform, fate in one.platforms.items())
        yield _said(details.get(one.old.pinned.text), details.get(one.new.pinned.text))
    else:
        entry = one.new or one.old
        yield entry.digest.short if entry else ""
    yield _rules(one.uses)
    yield _made(one.outputs)


def _said(old: "Details | None", new: "Details | None") -> str:
    """How what the images say of themselves differs."""
    told = []
    for name in ("created", "version", "revision"):
        before, after = getattr(old, name, ""), getattr(new, name, "")
        if after and after == before and name != "created":
            told.append(f"{name} still {after}")
        elif before or after:
            told.append(f"{name} {before or '?'} → {after or '?'}")
    return ", ".join(told)


def rules_of(workflow: "Workflow", reference: str) -> str:
    """The rules that name `reference`, and where they stand; empty where none does."""
    return _rules(workflow.uses.get(reference, ()))


def _rules(uses: "Sequence[RuleUse]") -> str:
    if not uses:
        return ""
    return f"{'rule' if len(uses) == 1 else 'rules'} {_some([_at(use) for use in uses])}"


def _made(outputs: "Sequence[ExistingOutput]") -> str:
    if not outputs:
        return ""
    made = output.counted(len(outputs), "output that is there was", "outputs that are there were")
    return f"{made} made with the old one: {_some([one.path for one in outputs])}"


def _some(texts: Sequence[str]) -> str:
    more = f", … and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def _at(use: "RuleUse") -> str:
    return f"{use.rule} ({path_from_here(use.snakefile)}:{use.line})"


def path_from_here(path: str) -> str:
    """`path`, relative where it lies below the working directory."""
    return str(Path(path).relative_to(Path.cwd())) if Path(path).is_relative_to(Path.cwd()) else path


def told(workflow: "Workflow", one: "Violation") -> str:
    """How a policy is broken, and by which rule."""
    where = rules_of(workflow, one.reference)
    named = f"{one.reference} ({where})" if where else one.reference
    return f"policy {one.level}: {named}: {one.text} ({path_from_here(one.source)})"


def summary(lockfile: str, planned: "LockPlan", *, written: bool) -> str:
    """One line about the whole of it."""
    would = "" if written else "would be "
    removed = {one.reference for one in planned.differences if one.new is None}
    counts: dict[str, int] = {}
    for one in planned.differences:
        counts[f"{would}{one.what}"] = counts.get(f"{would}{one.what}", 0) + 1
    counts["not locked"] = len(planned.missing)
    counts["not taken, the same for this platform"] = len(planned.held_back)
    counts["named by no rule"] = len(set(planned.orphans) - removed)
    counts["not pinnable"] = len(planned.unpinnable)
    counts["failed"] = len(planned.failures)
    counts["against the policy"] = len(planned.violations)
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{lockfile}: {output.counted(len(planned.after), 'image')}; {told or 'nothing to change'}"


def document_of(
    workflow: "Workflow", planned: "LockPlan", details: "Mapping[str, Details]", *, written: bool
) -> dict[str, Any]:
    """The plan as one document."""
    return {
        "lockfile": str(workflow.lockfile),
        "snakefile": str(workflow.snakefile),
        "written": written,
        "as_agreed": planned.is_as_agreed,
        "change": [_change(workflow, one, details) for one in planned.differences],
        "held_back": [_change(workflow, one, details) for one in planned.held_back],
        "missing": [{"reference": text, "rules": _json_rules(workflow, text)} for text in planned.missing],
        "orphan": list(planned.orphans),
        "unclear": list(planned.unclear),
        "unpinnable": [
            {"reference": text, "why": why, "rules": _json_rules(workflow, text)}
            for text, why in planned.unpinnable.items()
        ],
        "unseen": [{"rule": one.rule or None, "why": one.why} for one in workflow.unseen],
        "violation": [
            {"reference": one.reference, "rule": one.rule.value, "level": one.level.value, "why": one.text}
            for one in planned.violations
        ],
        "error": [output.error_of(error, text) for text, error in planned.failures.items()],
    }


def _change(workflow: "Workflow", one: "LockDifference", details: "Mapping[str, Details]") -> dict[str, Any]:
    return {
        "what": one.what.value,
        "reference": one.reference,
        "old": _entry(one.old, details),
        "new": _entry(one.new, details),
        "platforms": {str(platform): fate.value for platform, fate in one.platforms.items()},
        "rules": _json_rules(workflow, one.reference),
        "outputs": [made.path for made in one.outputs],
    }


def _entry(entry: "Entry | None", details: "Mapping[str, Details]") -> dict[str, Any] | None:
    """An entry with the keys of the lock, and what the image says of itself, where that is known."""
    if entry is None:
        return None
    said = details.get(entry.pinned.text)
    known = {name: getattr(said, name) for name in ("created", "version", "revision") if getattr(said, name, "")}
    return {**entry.to_dict(), **known}


def _json_rules(workflow: "Workflow", reference: str) -> list[dict[str, Any]]:
    uses = workflow.uses.get(reference, ())
    return [{"rule": use.rule, "snakefile": use.snakefile, "line": use.line or None} for use in uses]


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
    where a policy forbids an image, 2 wrong use or bad input, 3 a registry or file could not be reached.
    """
    from snakemake_apptainer_freshness.actions.lock import LockRequest, lock, plan
    from snakemake_apptainer_freshness.actions.lock_io import read_lock
    from snakemake_apptainer_freshness.engine.query import read
    from snakemake_apptainer_freshness.registry.resolver import Resolver

    if upgrade and patterns:
        raise UsageError("--upgrade takes all images, --upgrade-image some", hint="give one of them")
    if take_same_platform and not (upgrade or patterns):
        raise UsageError("--take-same-platform says what an upgrade takes", hint="add --upgrade or --upgrade-image")
    wish = LockRequest(
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
        from snakemake_apptainer_freshness.cli.lock_sarif import of_plan, write

        write(sarif, of_plan(workflow, planned))
    status = max((error.exit_status for error in planned.failures.values()), default=0)
    return status or int(planned.is_forbidden or (check and not planned.is_as_agreed))


def _tell_wait(path: Path) -> "Callable[[str], None]":
    return lambda holder: output.note(f"waiting for {holder}, which is writing {path}")


def _details(planned: "LockPlan", registries: "Resolver") -> "Mapping[str, Details]":
    """What the images of an upgrade say of themselves; for new ones there is nothing to compare."""
    from snakemake_apptainer_freshness.actions.labels import details
    from snakemake_apptainer_freshness.image.platform import Platform

    changed = [one for one in planned.differences if one.old is not None and one.new is not None]
    entries = [entry for one in changed for entry in (one.old, one.new) if entry is not None]
    return details(entries, registries, platform=Platform.here())


def _show(
    workflow: "Workflow", planned: "LockPlan", details: "Mapping[str, Details]", *, written: bool, as_json: bool
) -> None:
    if as_json:
        output.document(**document_of(workflow, planned, details, written=written and bool(planned.differences)))
        return
    show(workflow, planned, details)
    for one in planned.violations:
        output.note(told(workflow, one))
    for text in unversioned(workflow):
        output.note(
            f"warning: {text} names no tag, or latest: an upgrade may take anything ({rules_of(workflow, text)})"
        )
    for unseen in workflow.unseen:
        output.note(f"not seen: {f'rule {unseen.rule}: ' if unseen.rule else ''}{unseen.why}")
    output.note(summary(path_from_here(str(workflow.lockfile)), planned, written=written))


def _placed(workflow: "Workflow", reference: str, error: FreshnessError) -> FreshnessError:
    """`error` with the reference that it is about, and the rule that names it."""
    where = rules_of(workflow, reference)
    named = f"{reference} ({where})" if where else reference
    return type(error)(f"cannot pin {named}: {error.message}", hint=error.hint)
