"""What the page shows, put in the order in which a person reads it; values only.

* **Outputs that share a chain stand together.** A chain is what one verdict rests on: run, rule, image file, platform
  manifest, digest, reference. It is shown once, above the outputs that it made; the worst verdict comes first.
* **Everything has an anchor of its own**, a number: names come from outside and would not do. A finding links to what
  it is about wherever that stands on the page.
* **The worst comes first**, and what was always as it should be is folded to a line.
* Nothing is left out here. What is long is folded by the template, never cut.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from snakemake_apptainer_freshness.audit.difference import sentence
from snakemake_apptainer_freshness.audit.render.page.graph import Drawing, GraphNode, drawing
from snakemake_apptainer_freshness.audit.render.page.image_list import Anchors, ShownImage, images
from snakemake_apptainer_freshness.audit.render.page.names import RunNames, run_names, with_names
from snakemake_apptainer_freshness.audit.render.page.timeline import Bar, bar
from snakemake_apptainer_freshness.audit.results import (
    SENTENCES,
    Audit,
    AuditFinding,
    ChangeKind,
    ImageVulnerabilities,
    OutputAudit,
    OutputVerdict,
    RunChange,
    RunDifference,
    Severity,
    VulnerabilitySeverity,
)
from snakemake_apptainer_freshness.record.run import OutputRecord, Run

OPEN_ROWS: Final = 60
"""Chains of a bad verdict are unfolded from the start where they have fewer outputs than this; others never."""
_GOOD: Final = frozenset({OutputVerdict.PROVEN, OutputVerdict.NO_CONTAINER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The first line: the worst severity with how many findings have it (None: there is none), and one sentence."""

    severity: Severity | None
    findings: int
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many outputs have one verdict."""

    verdict: OutputVerdict
    sentence: str
    outputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a finding is about; `anchor` is empty where the page has nothing to link to."""

    text: str
    anchor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownFinding:
    """A finding with its subjects as links; runs have their names in its `text`."""

    finding: AuditFinding
    text: str
    subjects: tuple[Subject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRun:
    """A run, and how many outputs of the audit are still as it made them last."""

    anchor: str
    name: str
    run: Run
    outputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownOutput:
    """One output below its chain. `why` is empty where the chain says it for all; `made` is it as its job left it."""

    anchor: str
    output: OutputAudit
    made: OutputRecord | None
    why: str
    through: tuple[Subject, ...]
    """The files through which a bad image affects it; the first is an input of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What one verdict rests on, and the outputs that share it; `run` is the run, as a link where it is known."""

    verdict: OutputVerdict
    like: OutputAudit
    """Any one of its outputs: what makes up the chain is equal in all."""
    why: str
    run: Subject
    image: str
    affected: int
    rows: tuple[ShownOutput, ...]
    unfolded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownFolder:
    """One work directory: its counts, its findings, its runs, its rules drawn."""

    workdir: str
    anchor: str
    counts: tuple[Count, ...]
    bar: Bar
    outputs: int
    findings: int
    runs: int
    graph: Drawing


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownDifference:
    """What differs between two runs, by kind; `alone` are the outputs that one of them alone made."""

    first: Subject
    second: Subject
    sentence: str
    changes: Mapping[ChangeKind, tuple[RunChange, ...]]
    alone: tuple[RunChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownScan:
    """What one scan found in one image: the image as a link, and how many of each severity, the worst first."""

    image: Subject
    scan: ImageVulnerabilities
    counts: Mapping[VulnerabilitySeverity, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The whole page."""

    audit: Audit
    headline: Headline
    counts: tuple[Count, ...]
    affected: int
    bar: Bar
    difference: ShownDifference | None
    findings: Mapping[Severity, tuple[ShownFinding, ...]]
    """Those that are not acknowledged."""
    acknowledged: tuple[ShownFinding, ...]
    images: tuple[ShownImage, ...]
    scans: tuple[ShownScan, ...]
    places: tuple[ShownFolder, ...]
    runs: tuple[ShownRun, ...]
    chains: tuple[Chain, ...]
    rules: tuple[str, ...]


def view(audit: Audit) -> View:
    """Return the page for `audit`."""
    anchors, names = _anchors(audit), run_names(audit)
    counts = _counts(audit.outputs)
    return View(
        audit=audit,
        headline=headline(audit),
        counts=counts,
        affected=sum(bool(output.affected_by) for output in audit.outputs),
        bar=bar(counts_of(counts)),
        difference=_difference(audit.difference, anchors, names) if audit.difference else None,
        findings={
            severity: tuple(
                _finding(finding, anchors, names)
                for finding in audit.findings
                if finding.severity is severity and finding.acknowledged is None
            )
            for severity in Severity
        },
        acknowledged=tuple(
            _finding(finding, anchors, names) for finding in audit.findings if finding.acknowledged is not None
        ),
        images=tuple(images(audit, anchors, names)),
        scans=tuple(_scans(audit, anchors)),
        places=tuple(_places(audit)),
        runs=tuple(_runs(audit, anchors, names)),
        chains=tuple(_chains(audit.outputs, anchors, names)),
        rules=tuple(sorted({output.rule for output in audit.outputs if output.rule})),
    )


def headline(audit: Audit) -> Headline:
    """Return the first line of the page for `audit`."""
    severities = [
        finding.severity
        for finding in audit.findings
        if finding.acknowledged is None and finding.severity is not Severity.NOTE
    ]
    worst = min(severities, key=list(Severity).index, default=None)
    total, proven = len(audit.outputs), audit.count(OutputVerdict.PROVEN)
    without = audit.count(OutputVerdict.NO_CONTAINER)
    if not total:
        sentence = "No output is known"
    elif proven == total:
        sentence = "The only output is proven" if total == 1 else f"All {total:,} outputs proven"
    else:
        beside = f", {without:,} without a container" if without else ""
        sentence = f"{proven:,} of {total:,} output{'' if total == 1 else 's'} proven{beside}"
    return Headline(severity=worst, findings=severities.count(worst) if worst else 0, sentence=sentence)


def counts_of(counts: Iterable[Count]) -> Mapping[OutputVerdict, int]:
    """Return `counts` as a mapping."""
    return {count.verdict: count.outputs for count in counts}


def _anchors(audit: Audit) -> Anchors:
    """Return where each output, image and run stands, by work directory and name."""
    anchors: dict[tuple[str, str], str] = {}
    for number, run in enumerate(audit.runs):
        anchors.setdefault((run.workdir, run.id), f"run-{number}")
    for number, image in enumerate(audit.images):
        anchors.setdefault((image.workdir, image.reference), f"image-{number}")
    for number, output in enumerate(audit.outputs):
        anchors.setdefault((output.workdir, output.path), f"output-{number}")
    return anchors


def _counts(outputs: Sequence[OutputAudit]) -> tuple[Count, ...]:
    numbers = dict.fromkeys(OutputVerdict, 0)
    for output in outputs:
        numbers[output.verdict] += 1
    return tuple(Count(verdict=word, sentence=SENTENCES[word], outputs=count) for word, count in numbers.items())


def _finding(finding: AuditFinding, anchors: Anchors, names: RunNames) -> ShownFinding:
    def subject(text: str) -> Subject:
        key = (finding.workdir, text)
        return Subject(text=names.get(key, text), anchor=anchors.get(key, ""))

    return ShownFinding(
        finding=finding,
        text=with_names(finding.text, finding.workdir, names),
        subjects=tuple(subject(text) for text in finding.subjects),
    )


def _runs(audit: Audit, anchors: Anchors, names: RunNames) -> Iterable[ShownRun]:
    made: dict[tuple[str, str], int] = {}
    for output in audit.outputs:
        made[output.workdir, output.run] = made.get((output.workdir, output.run), 0) + 1
    for run in audit.runs:
        key = (run.workdir, run.id)
        yield ShownRun(anchor=anchors[key], name=names[key], run=run, outputs=made.get(key, 0))


def _difference(difference: RunDifference, anchors: Anchors, names: RunNames) -> ShownDifference:
    def run(workdir: str, identifier: str) -> Subject:
        return Subject(text=names.get((workdir, identifier), identifier), anchor=anchors.get((workdir, identifier), ""))

    return ShownDifference(
        first=run(difference.first_workdir, difference.first),
        second=run(difference.second_workdir, difference.second),
        sentence=sentence(difference),
        changes={
            kind: tuple(change for change in difference.changes if change.kind is kind and not change.alone)
            for kind in ChangeKind
        },
        alone=tuple(change for change in difference.changes if change.alone),
    )


def _scans(audit: Audit, anchors: Anchors) -> Iterable[ShownScan]:
    """Return what scanners found, images with the worst first."""
    severities = list(VulnerabilitySeverity)

    def rank(shown_scan: ShownScan) -> tuple[int, ...]:
        return (*(-shown_scan.counts[severity] for severity in severities), shown_scan.scan.ignored)

    shown = []
    for scan in audit.vulnerabilities:
        counts = Counter(vulnerability.severity for vulnerability in scan.vulnerabilities)
        subject = Subject(text=scan.reference, anchor=anchors.get((scan.workdir, scan.reference), ""))
        shown.append(
            ShownScan(image=subject, scan=scan, counts={severity: counts[severity] for severity in severities})
        )
    return sorted(shown, key=rank)


def _places(audit: Audit) -> Iterable[ShownFolder]:
    outputs: dict[str, list[OutputAudit]] = {}
    for output in audit.outputs:
        outputs.setdefault(output.workdir, []).append(output)
    for number, workdir in enumerate(audit.workdirs):
        here = outputs.get(workdir, [])
        counts = _counts(here)
        edges = [(edge.before, edge.after) for edge in audit.edges if edge.workdir == workdir]
        yield ShownFolder(
            workdir=workdir,
            anchor=f"place-{number}",
            counts=counts,
            bar=bar(counts_of(counts)),
            outputs=len(here),
            findings=sum(finding.workdir == workdir for finding in audit.findings),
            runs=sum(run.workdir == workdir for run in audit.runs),
            graph=drawing(_nodes(here, edges), edges),
        )


def _nodes(outputs: Iterable[OutputAudit], edges: Iterable[tuple[str, str]]) -> list[GraphNode]:
    """Return every rule that made an output or that an edge names, with its images and its worst verdict."""
    order = list(OutputVerdict)
    rules: dict[str, list[OutputAudit]] = {}
    for output in outputs:
        if output.rule:
            rules.setdefault(output.rule, []).append(output)
    for edge in edges:
        for rule in edge:
            rules.setdefault(rule, [])
    return [
        GraphNode(
            name=rule,
            images=tuple(sorted({output.reference for output in made if output.reference})),
            outputs=len(made),
            verdict=min((output.verdict for output in made), key=order.index, default=None),
        )
        for rule, made in sorted(rules.items())
    ]


def _chains(outputs: Sequence[OutputAudit], anchors: Anchors, names: RunNames) -> Iterable[Chain]:
    chains: dict[tuple[object, ...], list[tuple[int, OutputAudit]]] = {}
    for number, output in enumerate(outputs):
        key = (
            output.verdict,
            output.workdir,
            output.rule,
            output.run,
            output.reference,
            output.pinned,
            output.digest,
            output.manifest,
        )
        chains.setdefault((*key, output.sif_sha256), []).append((number, output))
    order = {verdict: place for place, verdict in enumerate(OutputVerdict)}
    for members in sorted(chains.values(), key=lambda them: (order[them[0][1].verdict], *_sorting(them[0][1]))):
        like = members[0][1]
        reasons = {output.why for _, output in members}
        shared = like.why if len(reasons) == 1 else ""
        run = (like.workdir, like.run)
        yield Chain(
            verdict=like.verdict,
            like=like,
            why=shared,
            run=Subject(text=names.get(run, like.run), anchor=anchors.get(run, "") if like.run else ""),
            image=anchors.get((like.workdir, like.reference), "") if like.reference else "",
            affected=sum(bool(output.affected_by) for _, output in members),
            rows=tuple(_rows(members, shared, anchors)),
            unfolded=like.verdict not in _GOOD and len(members) < OPEN_ROWS,
        )


def _sorting(output: OutputAudit) -> tuple[str, ...]:
    return (output.workdir, output.rule, output.run, output.reference, output.digest, output.sif_sha256)


def _rows(members: Iterable[tuple[int, OutputAudit]], shared: str, anchors: Anchors) -> Iterable[ShownOutput]:
    jobs: dict[int, dict[str, OutputRecord]] = {}
    for number, output in members:
        made = None
        if output.job is not None:
            left = jobs.setdefault(id(output.job), {})
            if not left:
                left.update((record.path, record) for record in output.job.outputs)
            made = left.get(output.path)
        yield ShownOutput(
            anchor=f"output-{number}",
            output=output,
            made=made,
            why="" if shared else output.why,
            through=tuple(
                Subject(text=path, anchor=anchors.get((output.workdir, path), "")) for path in output.affected_by
            ),
        )
