"""What ``apptainer-freshness audit`` prints: tables for a person at a terminal, plain lines for a pipe.

The answer comes first, then the counts, the findings and what they are about, the worst first.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from snakemake_apptainer_freshness.audit.difference import sentence
from snakemake_apptainer_freshness.audit.render import write_lines
from snakemake_apptainer_freshness.audit.results import (
    SENTENCES,
    Audit,
    AuditFinding,
    ImageAudit,
    OutputAudit,
    OutputVerdict,
    RunChange,
    RunDifference,
)
from snakemake_apptainer_freshness.cli import output

_SHOWN: Final = 30
"""Outputs and subjects that a terminal is shown; a pipe gets all."""
_GOOD: Final = (OutputVerdict.PROVEN, OutputVerdict.NO_CONTAINER)


def print_audit(audit: Audit) -> None:
    """Print the answer, the counts, findings, images and outputs, the worst first; a pipe's rows say what they are."""
    if output.at_terminal(sys.stdout):
        _print_at_terminal(audit)
        return
    output.row(("answer", audit.answer))
    for verdict, count in _counts(audit):
        output.row(("count", verdict, str(count)))
    for finding in audit.findings:
        output.row(("finding", *_finding(finding)))
    if audit.difference is not None:
        _print_difference(audit.difference)
        return
    several = len(audit.workdirs) > 1
    for seal in audit.seals:
        output.row(("seal", seal.text, *([seal.workdir] if several else [])))
    for image in audit.images:
        output.row(("image", image.reference, image.now, image.now_detail, *([image.workdir] if several else [])))
    write_lines(_plain(audit.outputs, several=several), None, "outputs")


def _plain(outputs: Iterable[OutputAudit], *, several: bool) -> Iterator[str]:
    """Yield a line for each output; what many of them share is cleaned once."""
    known: dict[str, str] = {}

    def clean(text: str) -> str:
        if text not in known:
            known[text] = output.clean(text)
        return known[text]

    for judged in outputs:
        cells = [
            judged.verdict.value,
            output.clean(judged.path),
            clean(judged.rule),
            clean(judged.pinned),
            clean(judged.explanation),
        ]
        yield "\t".join(["output", *cells, *([clean(judged.workdir)] if several else [])])


def _print_at_terminal(audit: Audit) -> None:
    output.line(audit.answer)
    for seal in audit.seals:
        output.line(f"{seal.workdir}: {seal.text}" if len(audit.seals) > 1 else seal.text)
    output.line()
    output.table(
        ("outputs", "verdict"), [(f"{n:,}", f"{word}: {SENTENCES[OutputVerdict(word)]}") for word, n in _counts(audit)]
    )
    if audit.findings:
        output.line()
        output.table(
            ("severity", "finding"), [(finding.severity.value, _folded(finding)) for finding in audit.findings]
        )
    if audit.difference is not None:
        output.line()
        _print_difference(audit.difference)
        return
    bad = [judged for judged in audit.outputs if judged.affected_by or judged.verdict not in _GOOD]
    if bad:
        output.line()
        shown = [(judged.verdict.value, f"{_place(judged, audit)}\n  {judged.explanation}") for judged in bad[:_SHOWN]]
        output.table(("verdict", "output"), shown)
        if len(bad) > _SHOWN:
            output.line(f"… and {len(bad) - _SHOWN:,} more: a pipe, --json and --html have them all")
    if audit.images:
        output.line()
        output.table(("disk", "image"), [(image.now or "-", _image_text(image)) for image in audit.images])


def _image_text(image: ImageAudit) -> str:
    last = image.sightings[-1] if image.sightings else None
    signed = [f"signed by {signature.by}, as the last run checked" for signature in last.signatures] if last else []
    return "\n  ".join([image.reference, image.now_detail, *signed])


def _print_difference(difference: RunDifference) -> None:
    """Print the differences alone: who asks for them looks at two runs, not at today's files."""
    if not output.at_terminal(sys.stdout):
        output.row(("diff", difference.first, difference.second, sentence(difference)))
        for change in difference.changes:
            output.row(("change", change.kind.value, change.word, change.subject, change.before, change.after))
        return
    output.line(f"Run {difference.first} and run {difference.second}: {sentence(difference)}.")
    shown = [change for change in difference.changes if not change.alone]
    if shown:
        output.line()
        rows = [
            (change.kind.value, f"{change.subject}: {change.word}\n  {_change(change)}") for change in shown[:_SHOWN]
        ]
        output.table(("what", "difference"), rows)
    if len(shown) > _SHOWN:
        output.line(f"… and {len(shown) - _SHOWN:,} more: a pipe, --json and --html have them all")


def _change(change: RunChange) -> str:
    return f"{change.before or '-'} → {change.after or '-'}"


def _counts(audit: Audit) -> list[tuple[str, int]]:
    counts = Counter(judged.verdict for judged in audit.outputs)
    return [(verdict.value, counts[verdict]) for verdict in OutputVerdict if counts[verdict]]


def _finding(finding: AuditFinding) -> tuple[str, ...]:
    known = (finding.acknowledged.sentence,) if finding.acknowledged else ()
    return finding.severity.value, finding.kind.value, finding.text, *known


def _folded(finding: AuditFinding) -> str:
    shown = [subject for subject in finding.subjects if subject not in finding.text]
    more = f"\n  … and {len(shown) - _SHOWN:,} more" if len(shown) > _SHOWN else ""
    known = [finding.acknowledged.sentence] if finding.acknowledged else []
    return "\n  ".join([f"{finding.kind.value}: {finding.text}", *known, *shown[:_SHOWN]]) + more


def _place(judged: OutputAudit, audit: Audit) -> str:
    return judged.path if len(audit.workdirs) == 1 else f"{judged.workdir}/{judged.path}"
