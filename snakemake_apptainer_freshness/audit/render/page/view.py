"""What the page shows, put in the order in which a person reads it; values only.

* **Outputs that share a chain stand together.** A chain is what one verdict rests on: run, rule, image file, platform
  manifest, digest, reference. It is shown once, above the outputs that it made; the worst verdict comes first.
* **Everything has an anchor of its own**, a number: names come from outside and would not do. A finding links to what
  it is about wherever that stands on the page.
* Nothing is left out here. What is long is folded by the template, never cut.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final

from snakemake_apptainer_freshness.audit.render.page.graph import Drawing, GraphNode, drawing
from snakemake_apptainer_freshness.audit.render.page.timeline import Bar, Timeline, bar, timeline
from snakemake_apptainer_freshness.audit.results import (
    SENTENCES,
    Audit,
    AuditFinding,
    ImageAudit,
    ImageSighting,
    OutputAudit,
    OutputVerdict,
    Severity,
)
from snakemake_apptainer_freshness.record.run import OutputRecord, Run

OPEN_ROWS: Final = 60
"""Chains are unfolded from the start while the page has fewer outputs than this; those of a bad verdict always,
up to this many outputs each.
"""

Anchors = Mapping[tuple[str, str], str]


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
    """A finding with its subjects as links."""

    finding: AuditFinding
    subjects: tuple[Subject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownImage:
    """An image with its picture; `moves` counts how often its pin moved between two runs."""

    anchor: str
    image: ImageAudit
    picture: Timeline
    moves: int
    spells: tuple["RunSpan", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpan:
    """Consecutive runs that saw an image alike: how many, the last one's start, and their jobs; `like` is the first."""

    like: ImageSighting
    last: str
    runs: int
    jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRun:
    """A run, and how many outputs of the audit it made."""

    anchor: str
    run: Run
    outputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownOutput:
    """One output below its chain. `why` is empty where the chain says it for all; `made` is it as its job left it."""

    anchor: str
    output: OutputAudit
    made: OutputRecord | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What one verdict rests on, and the outputs that share it; `run` links to the run, where it is known."""

    verdict: OutputVerdict
    like: OutputAudit
    """Any one of its outputs: what makes up the chain is equal in all."""
    why: str
    run: str
    image: str
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
class View:
    """The whole page."""

    audit: Audit
    counts: tuple[Count, ...]
    bar: Bar
    findings: Mapping[Severity, tuple[ShownFinding, ...]]
    images: tuple[ShownImage, ...]
    places: tuple[ShownFolder, ...]
    runs: tuple[ShownRun, ...]
    chains: tuple[Chain, ...]
    rules: tuple[str, ...]


def view(audit: Audit) -> View:
    """The page for `audit`."""
    anchors = _anchors(audit)
    counts = _counts(audit.outputs)
    return View(
        audit=audit,
        counts=counts,
        bar=bar(counts_of(counts)),
        findings={
            severity: tuple(_finding(one, anchors) for one in audit.findings if one.severity is severity)
            for severity in Severity
        },
        images=tuple(_images(audit, anchors)),
        places=tuple(_places(audit)),
        runs=tuple(_runs(audit, anchors)),
        chains=tuple(_chains(audit.outputs, anchors)),
        rules=tuple(sorted({one.rule for one in audit.outputs if one.rule})),
    )


def counts_of(counts: Iterable[Count]) -> Mapping[OutputVerdict, int]:
    """`counts` as a mapping."""
    return {count.verdict: count.outputs for count in counts}


def _anchors(audit: Audit) -> Anchors:
    """Where each output, image and run stands, by work directory and name."""
    found: dict[tuple[str, str], str] = {}
    for number, run in enumerate(audit.runs):
        found.setdefault((run.workdir, run.id), f"run-{number}")
    for number, image in enumerate(audit.images):
        found.setdefault((image.workdir, image.reference), f"image-{number}")
    for number, output in enumerate(audit.outputs):
        found.setdefault((output.workdir, output.path), f"output-{number}")
    return found


def _counts(outputs: Sequence[OutputAudit]) -> tuple[Count, ...]:
    numbers = dict.fromkeys(OutputVerdict, 0)
    for output in outputs:
        numbers[output.verdict] += 1
    return tuple(Count(verdict=word, sentence=SENTENCES[word], outputs=count) for word, count in numbers.items())


def _finding(finding: AuditFinding, anchors: Anchors) -> ShownFinding:
    subjects = (Subject(text=text, anchor=anchors.get((finding.workdir, text), "")) for text in finding.subjects)
    return ShownFinding(finding=finding, subjects=tuple(subjects))


def _images(audit: Audit, anchors: Anchors) -> Iterable[ShownImage]:
    runs: dict[str, list[Run]] = {}
    for run in sorted(audit.runs, key=lambda one: (one.started, one.id)):
        runs.setdefault(run.workdir, []).append(run)
    for number, image in enumerate(audit.images):
        here = [(run.id, run.started, anchors[run.workdir, run.id]) for run in runs.get(image.workdir, [])]
        digests = [sighting.digest for sighting in image.sightings]
        yield ShownImage(
            anchor=f"image-{number}",
            image=image,
            picture=timeline(image.sightings, here),
            moves=sum(old != new for old, new in pairwise(digests)),
            spells=tuple(_spells(image.sightings)),
        )


def _spells(sightings: Iterable[ImageSighting]) -> Iterable[RunSpan]:
    def seen(one: ImageSighting) -> tuple[str, ...]:
        return (one.digest, one.remote, one.points_at, one.disk, one.proof, one.sha256)

    for _, group in groupby(sightings, key=seen):
        alike = list(group)
        yield RunSpan(like=alike[0], last=alike[-1].at, runs=len(alike), jobs=sum(one.jobs for one in alike))


def _runs(audit: Audit, anchors: Anchors) -> Iterable[ShownRun]:
    made: dict[tuple[str, str], int] = {}
    for output in audit.outputs:
        made[output.workdir, output.run] = made.get((output.workdir, output.run), 0) + 1
    for run in audit.runs:
        key = (run.workdir, run.id)
        yield ShownRun(anchor=anchors[key], run=run, outputs=made.get(key, 0))


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
    """Every rule that made an output or that an edge names, with its images and its worst verdict."""
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
            images=tuple(sorted({one.reference for one in made if one.reference})),
            outputs=len(made),
            verdict=min((one.verdict for one in made), key=order.index, default=None),
        )
        for rule, made in sorted(rules.items())
    ]


def _chains(outputs: Sequence[OutputAudit], anchors: Anchors) -> Iterable[Chain]:
    found: dict[tuple[object, ...], list[tuple[int, OutputAudit]]] = {}
    for number, one in enumerate(outputs):
        key = (one.verdict, one.workdir, one.rule, one.run, one.reference, one.pinned, one.digest, one.manifest)
        found.setdefault((*key, one.sif_sha256), []).append((number, one))
    order = {verdict: place for place, verdict in enumerate(OutputVerdict)}
    few = len(outputs) < OPEN_ROWS
    for members in sorted(found.values(), key=lambda them: (order[them[0][1].verdict], *_sorting(them[0][1]))):
        like = members[0][1]
        reasons = {one.why for _, one in members}
        shared = like.why if len(reasons) == 1 else ""
        good = like.verdict in (OutputVerdict.PROVEN, OutputVerdict.NO_CONTAINER)
        yield Chain(
            verdict=like.verdict,
            like=like,
            why=shared,
            run=anchors.get((like.workdir, like.run), "") if like.run else "",
            image=anchors.get((like.workdir, like.reference), "") if like.reference else "",
            rows=tuple(_rows(members, shared)),
            unfolded=few or (not good and len(members) < OPEN_ROWS),
        )


def _sorting(output: OutputAudit) -> tuple[str, ...]:
    return (output.workdir, output.rule, output.run, output.reference, output.digest, output.sif_sha256)


def _rows(members: Iterable[tuple[int, OutputAudit]], shared: str) -> Iterable[ShownOutput]:
    jobs: dict[int, dict[str, OutputRecord]] = {}
    for number, output in members:
        made = None
        if output.job is not None:
            left = jobs.setdefault(id(output.job), {})
            if not left:
                left.update((one.path, one) for one in output.job.outputs)
            made = left.get(output.path)
        yield ShownOutput(anchor=f"output-{number}", output=output, made=made, why="" if shared else output.why)
