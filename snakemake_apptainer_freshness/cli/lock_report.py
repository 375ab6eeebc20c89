"""How a plan for the lock is shown: a diff that can be read, a row an image, and as JSON."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from snakemake_apptainer_freshness.cli import output
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.settings import Reaction

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.actions.labels import Details
    from snakemake_apptainer_freshness.actions.lock import LockDifference, LockPlan
    from snakemake_apptainer_freshness.actions.workflow import ExistingOutput, RuleUse, Workflow
    from snakemake_apptainer_freshness.lockfile import Entry
    from snakemake_apptainer_freshness.policy import Violation

_HELD: Final = "same platform"
_SHOWN: Final = 3
_ZERO_DATES: Final = ("0001-01-01", "1970-01-01", "1980-01-01")
"""What tools write who leave out the time: Go's zero, Unix's, and that of zip files."""


def show(workflow: "Workflow", planned: "LockPlan", details: "Mapping[str, Details]") -> None:
    """Print a row for everything that is not simply as it was agreed."""
    rows: list[tuple[str, ...]] = []
    rows += [
        (difference.what.value, difference.reference, *_cells(difference, details))
        for difference in planned.differences
    ]
    rows += [(_HELD, difference.reference, *_cells(difference, {})) for difference in planned.held_back]
    rows += [("missing", text, "not in the lock", rules_of(workflow, text)) for text in planned.missing]
    removed = {difference.reference for difference in planned.differences if difference.new is None}
    rows += [("orphan", text, "no rule names it") for text in planned.orphans if text not in removed]
    rows += [("unclear", text, "no rule that could be seen names it") for text in planned.unclear]
    if workflow.options.on_unpinnable is not Reaction.IGNORE:
        rows += [("unpinnable", text, why, rules_of(workflow, text)) for text, why in planned.unpinnable.items()]
    if output.at_terminal(sys.stdout):  # references are long: what there is to say stands below, not beside
        rows = [(what, "\n".join(filter(None, cells))) for what, *cells in rows]
    output.table(("what", "image"), rows)


def unversioned(workflow: "Workflow") -> "Iterator[str]":
    """Yield the references that name no version; none where a policy rules on tags, which decides then."""
    from snakemake_apptainer_freshness.image.reference import parse

    for text in workflow.uses if "tags" not in workflow.options.policy else ():
        try:
            if parse(text).names_no_version:
                yield text
        except FreshnessError:  # told where it is pinned
            continue


def _cells(difference: "LockDifference", details: "Mapping[str, Details]") -> Iterator[str]:
    """Yield what there is to say of one changed entry."""
    if difference.old and difference.new:
        yield f"{difference.old.digest.short} → {difference.new.digest.short}"
        yield ", ".join(f"{platform} {fate}" for platform, fate in difference.platforms.items())
        yield _label_changes(details.get(difference.old.pinned.text), details.get(difference.new.pinned.text))
    else:
        entry = difference.new or difference.old
        yield entry.digest.short if entry else ""
    yield _rules(difference.uses)
    yield _made(difference.outputs)


def _label_changes(old: "Details | None", new: "Details | None") -> str:
    """Return how the labels of two images differ."""
    differences = []
    for name in ("created", "version", "revision"):
        before, after = getattr(old, name, ""), getattr(new, name, "")
        if name == "created":
            before, after = _date(before), _date(after)
            if before == after:
                continue
        if after and after == before:
            differences.append(f"{name} still {after}")
        elif before or after:
            differences.append(f"{name} {before or '?'} → {after or '?'}")
    return ", ".join(differences)


def _date(text: str) -> str:
    """Return the date `text`, or nothing where it is the zero that reproducible builds write."""
    return "" if text.startswith(_ZERO_DATES) else text


def rules_of(workflow: "Workflow", reference: str) -> str:
    """Return the rules that name `reference`, and where they stand; empty where none does."""
    return _rules(workflow.uses.get(reference, ()))


def _rules(uses: "Sequence[RuleUse]") -> str:
    if not uses:
        return ""
    return f"{'rule' if len(uses) == 1 else 'rules'} {_some([_at(use) for use in uses])}"


def _made(outputs: "Sequence[ExistingOutput]") -> str:
    if not outputs:
        return ""
    made = output.counted(len(outputs), "output that is there was", "outputs that are there were")
    return f"{made} made with the old one: {_some([existing.path for existing in outputs])}"


def _some(texts: Sequence[str]) -> str:
    more = f", … and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def _at(use: "RuleUse") -> str:
    return f"{use.rule} ({path_from_here(use.snakefile)}:{use.line})"


def path_from_here(path: str) -> str:
    """Return `path`, relative where it lies below the working directory."""
    return str(Path(path).relative_to(Path.cwd())) if Path(path).is_relative_to(Path.cwd()) else path


def violation_line(workflow: "Workflow", violation: "Violation") -> str:
    """Return how a policy is broken, and by which rule."""
    where = rules_of(workflow, violation.reference)
    named = f"{violation.reference} ({where})" if where else violation.reference
    return f"policy {violation.level}: {named}: {violation.text} ({path_from_here(violation.source)})"


def summary(lockfile: str, planned: "LockPlan", *, written: bool) -> str:
    """Return one line about the whole of it."""
    would = "" if written else "would be "
    removed = {difference.reference for difference in planned.differences if difference.new is None}
    counts: dict[str, int] = {}
    for difference in planned.differences:
        counts[f"{would}{difference.what}"] = counts.get(f"{would}{difference.what}", 0) + 1
    counts["not locked"] = len(planned.missing)
    counts["not taken, the same for this platform"] = len(planned.held_back)
    counts["named by no rule"] = len(set(planned.orphans) - removed)
    counts["not pinnable"] = len(planned.unpinnable)
    counts["failed"] = len(planned.failures)
    counts["against the policy"] = len(planned.violations)
    parts = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{lockfile}: {output.counted(len(planned.after), 'image')}; {parts or 'nothing to change'}"


def document_of(
    workflow: "Workflow", planned: "LockPlan", details: "Mapping[str, Details]", *, written: bool
) -> dict[str, Any]:
    """Return the plan as one document."""
    return {
        "lockfile": str(workflow.lockfile),
        "snakefile": str(workflow.snakefile) if workflow.snakefile else None,
        "written": written,
        "as_agreed": planned.is_as_agreed,
        "change": [_change(workflow, difference, details) for difference in planned.differences],
        "held_back": [_change(workflow, difference, details) for difference in planned.held_back],
        "missing": [{"reference": text, "rules": _json_rules(workflow, text)} for text in planned.missing],
        "orphan": list(planned.orphans),
        "unclear": list(planned.unclear),
        "unpinnable": [
            {"reference": text, "why": why, "rules": _json_rules(workflow, text)}
            for text, why in planned.unpinnable.items()
        ],
        "unseen": [{"rule": rule.rule or None, "why": rule.why} for rule in workflow.unseen],
        "violation": [
            {
                "reference": violation.reference,
                "rule": violation.rule.value,
                "level": violation.level.value,
                "why": violation.text,
            }
            for violation in planned.violations
        ],
        "error": [output.error_of(error, text) for text, error in planned.failures.items()],
    }


def _change(workflow: "Workflow", difference: "LockDifference", details: "Mapping[str, Details]") -> dict[str, Any]:
    return {
        "what": difference.what.value,
        "reference": difference.reference,
        "old": _entry(difference.old, details),
        "new": _entry(difference.new, details),
        "platforms": {str(platform): fate.value for platform, fate in difference.platforms.items()},
        "rules": _json_rules(workflow, difference.reference),
        "outputs": [made.path for made in difference.outputs],
    }


def _entry(entry: "Entry | None", details: "Mapping[str, Details]") -> dict[str, Any] | None:
    """Return an entry with the keys of the lock, and what the image says of itself, where that is known."""
    if entry is None:
        return None
    labels = details.get(entry.pinned.text)
    known = {name: getattr(labels, name) for name in ("created", "version", "revision") if getattr(labels, name, "")}
    return {**entry.to_dict(), **known}


def _json_rules(workflow: "Workflow", reference: str) -> list[dict[str, Any]]:
    uses = workflow.uses.get(reference, ())
    return [{"rule": use.rule, "snakefile": use.snakefile, "line": use.line or None} for use in uses]
