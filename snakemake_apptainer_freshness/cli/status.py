"""``apptainer-freshness status``: what lock, registry and disk say of each reference, worst first."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snakemake_apptainer_freshness.cli import output
from snakemake_apptainer_freshness.cli.common import (
    UNKNOWN_LIBRARIES,
    find_lock,
    image_folder,
    images_option,
    json_option,
    lockfile_option,
    need_lock,
    prefix_option,
    sarif_option,
    snakemake_arguments,
)
from snakemake_apptainer_freshness.cli.status_policies import PolicyAnswers, ask_policies
from snakemake_apptainer_freshness.common.times import age, ago
from snakemake_apptainer_freshness.errors import UsageError

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.actions.status import StatusRow
    from snakemake_apptainer_freshness.actions.workflow import Workflow
    from snakemake_apptainer_freshness.lockfile import Lock

_ASKING = "asking registries"


@click.command("status", short_help="Show what lock, registry and disk say of each image.")
@lockfile_option
@prefix_option
@images_option
@click.option("--offline", is_flag=True, help="Ask no registry.")
@click.option(
    "--ask-anew", is_flag=True, help="Ask registries again, instead of using their answers of a short while ago."
)
@click.option("--rules", is_flag=True, help="Ask Snakemake which rules name each image; arguments for it imply this.")
@click.option("--signatures", is_flag=True, help="Look for the signatures of every image, also where no policy asks.")
@sarif_option
@json_option
@snakemake_arguments
def command(
    arguments: tuple[str, ...],
    lockfile: Path | None,
    prefix: str | None,
    *,
    libraries: tuple[Path, ...],
    offline: bool,
    ask_anew: bool,
    rules: bool,
    signatures: bool,
    sarif: Path | None,
    as_json: bool,
) -> int:
    """Show for each image what was agreed, what is served now, and what lies on this disk; the worst first.

    Only the lock is needed. With --rules, or with Snakemake's own arguments after '--', the workflow is read as well.
    Then references that the lock lacks, and entries that no rule names any more, are shown, too, and the workflow's
    configuration says which image libraries it uses; otherwise --images names those.

    Answers that a registry gave a short while ago, to a run or here, are used again and shown with their age.

    Exit status: 0 where all is as agreed, 1 where it is not (a tag moved or is gone, a digest is no longer served, an
    image file may not run, lock and workflow differ, a policy forbids an image), 2 wrong use or bad input, 3 where
    nothing else is wrong but a registry could not be asked. An image that is not there yet is no finding.
    """
    workflow = _read(arguments, lockfile, prefix) if arguments or rules else None
    if workflow is None:
        path, lock = need_lock(lockfile, hint="make one with: apptainer-freshness lock")
        folder = image_folder(prefix)
    else:
        from snakemake_apptainer_freshness.actions.lock_io import read_lock

        path, folder = workflow.lockfile, workflow.prefix
        lock = read_lock(path)
    every = 0.0 if ask_anew else _every(workflow)
    rows, warnings = _gather(lock, folder, workflow, libraries, offline=offline, every=every)
    answers = ask_policies(lock, path, workflow, rows, offline=offline, look=signatures)
    violations = answers.violations
    if as_json:
        output.document(
            lockfile=str(path), prefix=str(folder), offline=offline, **_document_of(rows, workflow, answers)
        )
    else:
        _print(rows, workflow, answers)
        if workflow is None and not libraries and any(_is_absent(row) for row in rows):
            output.note(UNKNOWN_LIBRARIES)
        for violation in violations:
            output.note(f"policy {violation.level}: {violation.reference}: {violation.text} ({violation.source})")
    for warning in warnings:
        output.note(f"warning: {warning}")
    if sarif is not None:
        from snakemake_apptainer_freshness.cli.lock_sarif import of_rows, write

        write(sarif, of_rows(rows, violations, path))
    if any(row.differs for row in rows) or any(violation.level.value == "error" for violation in violations):
        return 1
    from snakemake_apptainer_freshness.freshness import exit_status

    return exit_status(row.decision for row in rows if row.decision is not None)


def _document_of(rows: "list[StatusRow]", workflow: "Workflow | None", answers: PolicyAnswers) -> dict[str, Any]:
    """Return what the JSON document says of images, of policies and of rules that were not seen."""
    return {
        "image": [_as_json(row) | {"signatures": answers.as_json(row.reference)} for row in rows],
        "violation": [
            {
                "reference": violation.reference,
                "rule": violation.rule.value,
                "level": violation.level.value,
                "why": violation.text,
            }
            for violation in answers.violations
        ],
        "unseen": [{"rule": rule.rule or None, "why": rule.why} for rule in workflow.unseen] if workflow else [],
    }


def _read(arguments: tuple[str, ...], lockfile: Path | None, prefix: str | None) -> "Workflow":
    if prefix is not None:
        raise UsageError(
            "--prefix is for asking without Snakemake",
            hint="Snakemake says itself where its image folder is: put --apptainer-prefix behind the dashes",
        )
    from snakemake_apptainer_freshness.engine.query import read

    chosen = find_lock(lockfile) if lockfile is not None else None
    workflow = read(arguments)
    return workflow if chosen is None else replace(workflow, lockfile=chosen.absolute())


def _every(workflow: "Workflow | None") -> float:
    """Return the seconds for which answers are remembered: as the environment says, else as the workflow does."""
    from snakemake_apptainer_freshness.common import environment
    from snakemake_apptainer_freshness.settings import Options

    chosen = environment.check_every(os.environ)
    options = Options() if workflow is None else workflow.options
    return options.check_every if chosen is None else chosen


def _gather(
    lock: "Lock",
    folder: Path,
    workflow: "Workflow | None",
    libraries: tuple[Path, ...],
    *,
    offline: bool,
    every: float,
) -> "tuple[list[StatusRow], tuple[str, ...]]":
    from snakemake_apptainer_freshness.actions.status import status

    if offline:
        return status(lock, folder, workflow=workflow, libraries=libraries), ()
    from snakemake_apptainer_freshness.actions.elsewhere import Elsewhere
    from snakemake_apptainer_freshness.actions.remembered import RememberedAnswers
    from snakemake_apptainer_freshness.common.progress import ProgressBars
    from snakemake_apptainer_freshness.registry.resolver import Resolver

    with Resolver() as resolver, Elsewhere() as elsewhere, ProgressBars() as bars:
        bars.begin(_ASKING, len(lock))
        asked: Callable[[], object] = lambda: bars.advance(_ASKING)  # noqa: E731  a name for what it does
        rows = status(
            lock,
            folder,
            registries=lambda: RememberedAnswers(resolver, every=every),
            documents=lambda: resolver,
            workflow=workflow,
            asked=asked,
            mirrors=elsewhere.having,
            libraries=libraries,
        )
        return rows, resolver.warnings


def _print(rows: "list[StatusRow]", workflow: "Workflow | None", answers: PolicyAnswers) -> None:
    with_rules = workflow is not None
    titles = ("image", "lock", "registry", "disk", *(("rules",) if with_rules else ()), "how")
    cells = [_cells(row, answers.signature_lines(row.reference), with_rules=with_rules) for row in rows]
    if output.at_terminal(sys.stdout):  # references are long: what is said of one stands before it and below
        titles = ("registry", "disk", "image")
        cells = [(cell[2], cell[3], "\n  ".join(filter(None, (cell[0], cell[1], *cell[4:])))) for cell in cells]
    output.table(titles, cells)
    for unseen in workflow.unseen if workflow else ():
        output.note(f"not seen: {f'rule {unseen.rule}: ' if unseen.rule else ''}{unseen.why}")
    bad = sum(row.is_finding for row in rows)
    unasked = sum(row.is_unasked for row in rows)
    summary = f"{bad} not as agreed" if bad else "all as agreed"
    output.note(
        f"{output.counted(len(rows), 'image')}: {summary if rows else 'nothing is locked'}"
        f"{f', {unasked} could not be asked for' if unasked else ''}"
    )


def _is_absent(row: "StatusRow") -> bool:
    verdict = row.verdict
    return verdict is not None and verdict.disk is not None and verdict.disk.state.value == "absent"


def _cells(row: "StatusRow", signatures: list[str], *, with_rules: bool) -> tuple[str, ...]:
    verdict = row.verdict
    locked = "missing" if row.entry is None else "orphan" if row.is_orphan else row.entry.digest.short
    remote = "" if verdict is None else verdict.remote.state.value
    disk = "" if verdict is None or verdict.disk is None else verdict.disk.state.value
    rules = (", ".join(dict.fromkeys(use.rule for use in row.uses or ())),) if with_rules else ()
    return (row.reference, locked, remote, disk, *rules, "; ".join(filter(None, [_how(row), *signatures])))


def _how(row: "StatusRow") -> str:
    """Return in one line what is not as agreed; empty where all is."""
    verdict = row.verdict
    if verdict is None:
        return "a rule names it, and the lock lacks it"
    parts = []
    if row.is_orphan:
        parts.append("no rule names it")
    if verdict.remote.digest and verdict.remote.state.value == "moved":
        same = "; the image for this platform is the same" if verdict.same_platform else ""
        parts.append(f"the tag points at {verdict.remote.digest.short}{same}")
    elif verdict.remote.detail:
        parts.append(verdict.remote.detail)
    if verdict.remote.asked_at:
        parts.append(f"asked {ago(age(verdict.remote.asked_at))}")
    if verdict.disk is not None and verdict.disk.detail and not verdict.disk.state.is_proven:
        parts.append(verdict.disk.detail)
    if row.elsewhere:
        parts.append(f"it can be had from {', '.join(row.elsewhere)}")
    return "; ".join(parts)


def _as_json(row: "StatusRow") -> dict[str, Any]:
    entry, verdict = row.entry, row.verdict
    disk = None if verdict is None else verdict.disk
    return {
        "reference": row.reference,
        "locked": entry is not None,
        "orphan": row.is_orphan,
        "pinned": entry.pinned.text if entry else None,
        "digest": str(entry.digest) if entry else None,
        "remote": None
        if verdict is None
        else {
            "state": verdict.remote.state.value,
            "digest": str(verdict.remote.digest) if verdict.remote.digest else None,
            "same_platform": verdict.same_platform,
            "detail": output.clean(verdict.remote.detail),
            "asked_at": verdict.remote.asked_at or None,
        },
        "disk": None
        if disk is None
        else {"state": disk.state.value, "path": disk.path, "detail": output.clean(disk.detail)},
        "rules": None
        if row.uses is None
        else [{"rule": use.rule, "snakefile": use.snakefile, "line": use.line or None} for use in row.uses],
        "elsewhere": list(row.elsewhere),
        "as_agreed": row.as_agreed,
    }
