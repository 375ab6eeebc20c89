"""Findings about a lock as SARIF, for code hosts: each at the rule that it is about, else at the lock itself."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from snakemake_apptainer_freshness.common.sarif_log import SarifResult, dumps
from snakemake_apptainer_freshness.errors import LocalIOError
from snakemake_apptainer_freshness.freshness import Reason

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.actions.lock import LockPlan
    from snakemake_apptainer_freshness.actions.status import StatusRow
    from snakemake_apptainer_freshness.actions.workflow import RuleUse, Workflow
    from snakemake_apptainer_freshness.freshness import Verdict
    from snakemake_apptainer_freshness.policy import Violation

RULES: Final = {
    "not-locked": "A rule names an image that the lock lacks.",
    "orphan": "The lock has an image that no rule names.",
    "would-change": "The lock is not what it would be made now.",
    "not-pinned": "An image cannot be pinned.",
    "policy": "An image is against the policy of the workflow or of the site.",
    "moved": "A tag points at another image than the lock.",
    "untagged": "A tag is gone; its pinned digest is still served.",
    "lost": "A pinned digest is no longer served.",
    "unproven-image": "An image file on this disk is not what its pin names.",
}
"""What may be found, with a sentence each."""
_LEVELS: Final = {"not-locked": "error", "orphan": "warning", "would-change": "note", "not-pinned": "error"}
"""How what lock and workflow have not in common counts; a reason of a verdict and a policy have levels of their own."""
_RULE_OF: Final = {
    Reason.MOVED: "moved",
    Reason.SAME_PLATFORM: "moved",
    Reason.UNTAGGED: "untagged",
    Reason.LOST: "lost",
    Reason.UNVERIFIED: "unproven-image",
    Reason.DISPROVEN: "unproven-image",
}


def write(path: Path, results: Iterable[SarifResult]) -> None:
    """Write `results` into the file `path`.

    Raises
    ------
    LocalIOError
        where it cannot be written.
    """
    from importlib.metadata import version

    from snakemake_apptainer_freshness.common.files import write_atomically

    text = dumps(results, RULES, version=version("snakemake-apptainer-freshness"))
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise LocalIOError(f"cannot write {path}: {error.strerror}", hint="name a file that can be written") from error


def of_plan(workflow: "Workflow", planned: "LockPlan") -> Iterator[SarifResult]:
    """Yield what ``lock`` found."""
    lock = _shown(str(workflow.lockfile))
    for text in planned.missing:
        yield _differs(workflow.uses.get(text, ()), lock, "not-locked", f"{text} is not in the lock")
    for text in planned.orphans:
        yield _differs((), lock, "orphan", f"no rule names {text}")
    for change in planned.differences:
        yield _differs(change.uses, lock, "would-change", f"{change.reference}: {change.what}")
    for text, error in planned.failures.items():
        yield _differs(workflow.uses.get(text, ()), lock, "not-pinned", f"{text}: {error.message}")
    for violation in planned.violations:
        yield _of_policy(violation, workflow.uses.get(violation.reference, ()), lock)


def of_rows(rows: "Sequence[StatusRow]", violations: "Iterable[Violation]", lockfile: Path) -> Iterator[SarifResult]:
    """Yield what ``status`` found."""
    lock = _shown(str(lockfile))
    uses_of = {row.reference: row.uses or () for row in rows}
    for violation in violations:
        yield _of_policy(violation, uses_of.get(violation.reference, ()), lock)
    for row in rows:
        uses, text, verdict = uses_of[row.reference], row.reference, row.verdict
        if verdict is None:
            yield _differs(uses, lock, "not-locked", f"{text} is not in the lock")
            continue
        if row.is_orphan:
            yield _differs((), lock, "orphan", f"no rule names {text}")
        for reason in () if row.decision is None else row.decision.reasons:
            if reason.level.is_finding:
                yield _at(uses, lock, _RULE_OF[reason], reason.level.value, _sentence(reason, text, verdict))


def _sentence(reason: Reason, text: str, verdict: "Verdict") -> str:
    remote, disk = verdict.remote, verdict.disk
    if disk is not None and reason in (Reason.UNVERIFIED, Reason.DISPROVEN):
        return f"the image of {text} is {disk.state}: {disk.detail}"
    now = f": it points at {remote.digest} now" if remote.digest else ""
    return f"{text} is {remote.state}{now}"


def _of_policy(violation: "Violation", uses: "Iterable[RuleUse]", lock: str) -> SarifResult:
    level = {"warn": "warning"}.get(violation.level.value, violation.level.value)
    return _at(uses, lock, "policy", level, f"{violation.reference}: {violation.text} ({_shown(violation.source)})")


def _differs(uses: "Iterable[RuleUse]", lock: str, rule: str, message: str) -> SarifResult:
    return _at(uses, lock, rule, _LEVELS[rule], message)


def _at(uses: "Iterable[RuleUse]", lock: str, rule: str, level: str, message: str) -> SarifResult:
    places = [(_shown(use.snakefile), use.line) for use in uses] or [(lock, 0)]
    (uri, line), *others = places
    related = [other for other, _ in others]
    return SarifResult(rule=rule, level=level, message=message, uri=uri, line=line, related=related)


def _shown(path: str) -> str:
    """Return `path`, relative where it lies below the working directory, as code hosts want it."""
    return str(Path(path).relative_to(Path.cwd())) if Path(path).is_relative_to(Path.cwd()) else path
