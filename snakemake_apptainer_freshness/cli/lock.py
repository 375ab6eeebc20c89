"""``apptainer-freshness lock``: make the lock of a workflow, or complete it, without running anything."""

import glob
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from snakemake_apptainer_freshness.cli import output, print_error
from snakemake_apptainer_freshness.cli.common import (
    json_option,
    lock_place,
    sarif_option,
)
from snakemake_apptainer_freshness.cli.lock_markdown import write as write_markdown
from snakemake_apptainer_freshness.cli.lock_report import (
    document_of,
    path_from_here,
    rules_of,
    show,
    summary,
    unversioned,
    violation_line,
)
from snakemake_apptainer_freshness.cli.outdated import tell as tell_outdated
from snakemake_apptainer_freshness.errors import FreshnessError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from snakemake_apptainer_freshness.actions.labels import Details
    from snakemake_apptainer_freshness.actions.lock import LockPlan, LockRequest
    from snakemake_apptainer_freshness.actions.workflow import Workflow
    from snakemake_apptainer_freshness.registry.resolver import Resolver

_MOST_COMBINATIONS: Final = 10_000
_HOW_TO_SEE: Final = (
    "what was not seen may name more images: name its targets after '--', give values with --wildcard, or agree "
    "to it with --allow-unseen"
)


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
@click.option("--outdated", is_flag=True, help="Only show which tools have a newer version than the tag that is named.")
@click.option(
    "--wildcard",
    "wildcards",
    metavar="NAME=VALUE",
    multiple=True,
    help="A value of a wildcard, for containers that depend on it: needs no input files; may be given more than once.",
)
@click.option("--allow-unseen", is_flag=True, help="With --check: accept rules whose container could not be seen.")
@click.option("--dry-run", is_flag=True, help="Write nothing; show what would change.")
@click.option(
    "--lockfile",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The lock to make or complete.  [default: the workflow's]",
)
@click.option(
    "--markdown",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what changes into a file, as the text of a pull request.",
)
@sarif_option
@json_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[REFERENCE]... [-- SNAKEMAKE ARGUMENTS]")
def command(
    arguments: tuple[str, ...],
    patterns: tuple[str, ...],
    wildcards: tuple[str, ...],
    *,
    check: bool,
    upgrade: bool,
    take_same_platform: bool,
    prune: bool,
    outdated: bool,
    allow_unseen: bool,
    dry_run: bool,
    lockfile: Path | None,
    markdown: Path | None,
    sarif: Path | None,
    as_json: bool,
) -> int:
    """Pin every container that the workflow names, and write the lock; no job is run, no image fetched.

    The workflow is read as Snakemake would read it here, with the arguments after '--':

        apptainer-freshness lock -- --configfile config/full.yaml

    Or name each REFERENCE yourself, as in docker://quay.io/team/tool:1.0: then no workflow is read, and these alone are
    added, or with --upgrade moved.

    What the lock has stays as it is, unless an upgrade is asked for.

    Exit status: 0 where the lock is as it should be, else that of the worst error: 1 with --check where it is not or a
    rule's container could not be seen, or where a policy forbids an image, 2 wrong use or bad input, 3 a registry or
    file could not be reached.
    """
    from snakemake_apptainer_freshness.registry.resolver import Resolver

    wish = _wish(
        check=check,
        upgrade=upgrade,
        patterns=patterns,
        take_same_platform=take_same_platform,
        prune=prune,
        allow_unseen=allow_unseen,
    )
    if outdated and (upgrade or patterns or prune or check or dry_run or sarif or markdown):
        raise _only_tells()
    workflow, wish = _named_or_read(arguments, lockfile, wish, wildcards)
    if outdated:
        return tell_outdated(workflow, as_json=as_json)
    with Resolver() as registries:
        planned = _planned(workflow, wish, registries, written=not (check or dry_run))
        details = {} if check else _details(planned, registries)
        warnings = registries.warnings
    written = not (check or dry_run or planned.is_forbidden)
    _show(workflow, planned, details, written=written, as_json=as_json)
    _tell_errors(workflow, planned, warnings, check=check)
    if markdown is not None:
        write_markdown(markdown, workflow, planned, details, written=written)
    if sarif is not None:
        _write_sarif(sarif, workflow, planned)
    return _status_of(planned, check=check)


def _named_or_read(
    arguments: tuple[str, ...], lockfile: Path | None, wish: "LockRequest", wildcards: tuple[str, ...]
) -> "tuple[Workflow, LockRequest]":
    """Return the workflow and what is asked for: of the references among `arguments`, or of what Snakemake reads."""
    if references := references_in(arguments):
        return _named(references, lockfile, wish, only=len(references) == len(arguments), wildcards=wildcards)
    return _read(arguments, lockfile, wish, wildcards=wildcards), wish


def _only_tells() -> UsageError:
    return UsageError(
        "--outdated only tells: it goes with nothing that checks or changes the lock",
        hint="take a newer version by naming its tag in the workflow",
    )


def _write_sarif(path: Path, workflow: "Workflow", planned: "LockPlan") -> None:
    from snakemake_apptainer_freshness.cli.lock_sarif import of_plan, write

    write(path, of_plan(workflow, planned))


def _status_of(planned: "LockPlan", *, check: bool) -> int:
    """Return the exit status: of the worst error, else whether a policy or the `check` has a finding."""
    status = max((error.exit_status for error in planned.failures.values()), default=0)
    return status or int(planned.is_forbidden or (check and not planned.is_as_agreed))


def _wish(
    *, check: bool, upgrade: bool, patterns: tuple[str, ...], take_same_platform: bool, prune: bool, allow_unseen: bool
) -> "LockRequest":
    """Return what the options ask for; those that do not fit together are an error."""
    from snakemake_apptainer_freshness.actions.lock import LockRequest

    if upgrade and patterns:
        raise UsageError("--upgrade takes all images, --upgrade-image some", hint="give one of them")
    if take_same_platform and not (upgrade or patterns):
        raise UsageError("--take-same-platform says what an upgrade takes", hint="add --upgrade or --upgrade-image")
    if allow_unseen and not check:
        raise UsageError("--allow-unseen says what a check agrees to", hint="add --check, or leave it out")
    return LockRequest(
        upgrade=("*",) if upgrade else patterns,
        take_same_platform=take_same_platform,
        prune=prune,
        offline=check,
        allow_unseen=allow_unseen,
    )


def _planned(workflow: "Workflow", wish: "LockRequest", registries: "Resolver", *, written: bool) -> "LockPlan":
    """Return what the lock should say, and `written` where that is wished."""
    from snakemake_apptainer_freshness.actions.lock import lock, plan
    from snakemake_apptainer_freshness.actions.lock_io import read_lock

    if not written:
        before = read_lock(workflow.lockfile)
        return plan(workflow, before, wish, registries=lambda: registries, contents=lambda: registries)
    return lock(
        workflow,
        wish,
        registries=lambda: registries,
        contents=lambda: registries,
        waiting=_tell_wait(workflow.lockfile),
    )


def references_in(arguments: "Sequence[str]") -> tuple[str, ...]:
    """Return those of the `arguments` that begin with the scheme of an image's source.

    No target of Snakemake's does.
    """
    from snakemake_apptainer_freshness.image.scheme import Scheme

    schemes = tuple(f"{scheme}:" for scheme in Scheme if scheme is not Scheme.FILE)
    return tuple(text for text in arguments if text.startswith(schemes))


def _named(
    references: tuple[str, ...], lockfile: Path | None, wish: "LockRequest", *, only: bool, wildcards: tuple[str, ...]
) -> "tuple[Workflow, LockRequest]":
    """Return what is asked for where references are named: these alone; the rest of the lock stays as it is."""
    from snakemake_apptainer_freshness.actions.lock_io import read_lock
    from snakemake_apptainer_freshness.actions.workflow import of_references
    from snakemake_apptainer_freshness.image.reference import parse
    from snakemake_apptainer_freshness.store.prefix import folder

    if not only or wildcards or wish.prune or wish.upgrade not in ((), ("*",)):
        raise UsageError(
            "references and a workflow cannot be locked at once: no workflow is read where a REFERENCE is named",
            hint="leave out Snakemake's arguments, --wildcard, --prune and --upgrade-image; or the references",
        )
    for text in references:
        parse(text)
    path = lock_place(lockfile)
    named = of_references(references, locked=read_lock(path).entries, lockfile=path, prefix=folder(None))
    return named, replace(wish, upgrade=tuple(map(glob.escape, references)) if wish.upgrade else ())


def _read(
    arguments: tuple[str, ...], lockfile: Path | None, wish: "LockRequest", *, wildcards: tuple[str, ...]
) -> "Workflow":
    from snakemake_apptainer_freshness.engine.query import read

    values = _values(wildcards)
    chosen = None if lockfile is None else lock_place(lockfile).absolute()  # the workflow may change the folder
    workflow = read(arguments, with_outputs=bool(wish.upgrade or wish.prune), wildcards=values)
    return workflow if chosen is None else replace(workflow, lockfile=chosen)


def _values(wildcards: tuple[str, ...]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for text in wildcards:
        name, equals, value = text.partition("=")
        if not (name.isidentifier() and equals and value):
            raise UsageError(f"--wildcard cannot be {text!r}", hint="write NAME=VALUE, as in --wildcard version=1.10.2")
        if value not in values.setdefault(name, []):
            values[name].append(value)
    if math.prod(map(len, values.values())) > _MOST_COMBINATIONS:
        raise UsageError(
            f"the values of --wildcard make more than {_MOST_COMBINATIONS} combinations", hint="give fewer at once"
        )
    return values


def _tell_wait(path: Path) -> "Callable[[str], None]":
    return lambda holder: output.note(f"waiting for {holder}, which is writing {path}")


def _details(planned: "LockPlan", registries: "Resolver") -> "Mapping[str, Details]":
    """Return what the images of an upgrade say of themselves; for new ones there is nothing to compare."""
    from snakemake_apptainer_freshness.actions.labels import details
    from snakemake_apptainer_freshness.image.platform import Platform

    changed = [
        difference for difference in planned.differences if difference.old is not None and difference.new is not None
    ]
    entries = [entry for difference in changed for entry in (difference.old, difference.new) if entry is not None]
    return details(entries, registries, platform=Platform.here())


def _tell_errors(workflow: "Workflow", planned: "LockPlan", warnings: "Sequence[str]", *, check: bool) -> None:
    for warning in warnings:
        output.note(f"warning: {warning}")
    for reference, error in planned.failures.items():
        print_error(_placed(workflow, reference, error))
    if check and planned.unseen:
        output.note(_HOW_TO_SEE)


def _show(
    workflow: "Workflow", planned: "LockPlan", details: "Mapping[str, Details]", *, written: bool, as_json: bool
) -> None:
    if as_json:
        output.document(**document_of(workflow, planned, details, written=written and bool(planned.differences)))
        return
    show(workflow, planned, details)
    for violation in planned.violations:
        output.note(violation_line(workflow, violation))
    for text in unversioned(workflow):
        where = rules_of(workflow, text)
        named = f"{text} ({where})" if where else text
        output.note(f"warning: {named} names no tag, or latest: an upgrade may take anything")
    for unseen in workflow.unseen:
        output.note(f"not seen: {f'rule {unseen.rule}: ' if unseen.rule else ''}{unseen.why}")
    output.note(summary(path_from_here(str(workflow.lockfile)), planned, written=written))


def _placed(workflow: "Workflow", reference: str, error: FreshnessError) -> FreshnessError:
    """Return `error` with the reference that it is about, and the rule that names it."""
    where = rules_of(workflow, reference)
    named = f"{reference} ({where})" if where else reference
    return type(error)(f"cannot pin {named}: {error.message}", hint=error.hint)
