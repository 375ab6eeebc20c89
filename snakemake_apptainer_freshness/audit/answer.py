"""The answer in one sentence: what an auditor reads first, and may be all that he reads. Pure."""

from collections import Counter
from typing import Final

from snakemake_apptainer_freshness.audit.findings import counted
from snakemake_apptainer_freshness.audit.results import Audit, Kind, Severity, Verdict

_GOOD: Final = (Verdict.PROVEN, Verdict.NO_CONTAINER)
_SHORT: Final = {
    Verdict.BAD_IMAGE: "made by a bad image",
    Verdict.CHANGED: "changed since",
    Verdict.UNATTRIBUTABLE: "made by a tag that cannot be attributed",
    Verdict.NO_RECORD: "without a record",
    Verdict.UNPROVEN: "made by an unproven image",
}
_OF_OUTPUTS: Final = frozenset(
    {Kind.OUTPUT_CHANGED, Kind.UNATTRIBUTABLE, Kind.NO_RECORD, Kind.UNPROVEN, Kind.BAD_IMAGE}
)
"""What the counts of the verdicts say already."""


def answer(audit: Audit) -> str:
    """What `audit` found, in one sentence."""
    parts = [_outputs(audit)]
    others = [one for one in audit.findings if one.kind not in _OF_OUTPUTS and one.severity is not Severity.NOTE]
    if others:
        words = Counter(one.kind.value for one in others)
        parts.append("found besides: " + ", ".join(f"{count} {word}" for word, count in words.items()))
    if audit.replay is not None:
        parts.append(f"could be run again today: {'yes' if audit.replay.possible else 'no'}, {audit.replay.because}")
    return "; ".join(parts) + "."


def _outputs(audit: Audit) -> str:
    counts = Counter(output.verdict for output in audit.outputs)
    if not audit.outputs:
        return f"No output is known of {counted(audit.runs, 'run')}"
    every = counted(audit.outputs, "output")
    bad = [f"{counts[word]:,} {_SHORT[word]}" for word in Verdict if counts[word] and word not in _GOOD]
    proven, without = counts[Verdict.PROVEN], counts[Verdict.NO_CONTAINER]
    beside = f", {without:,} without a container as {'its rule says' if without == 1 else 'their rules say'}"
    if bad:
        return f"{proven:,} of {every} made by a proven image{beside if without else ''}; to look at: {', '.join(bad)}"
    if not proven:
        return f"{_all(len(audit.outputs))} made without a container, as {_their(without)} say"
    if without:
        return f"{proven:,} of {every} made by a proven image, the other {without:,} without a container, as said"
    return f"{_all(proven)} made by a proven image"


def _all(count: int) -> str:
    return "The only output was" if count == 1 else f"All {count:,} outputs were"


def _their(count: int) -> str:
    return "its rule" if count == 1 else "their rules"
