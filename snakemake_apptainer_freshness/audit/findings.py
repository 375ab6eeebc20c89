"""What an auditor should look at, found in the verdicts and across the runs. Pure.

One fact is one finding, whatever it is about: a hundred outputs of one bad image are one finding with a hundred
subjects. What is a matter of course is none: a tag that moved is the registry's business until a pin follows it.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from snakemake_apptainer_freshness.audit.results import Finding, ImageAudit, Kind, OutputAudit, Severity, Verdict
from snakemake_apptainer_freshness.audit.verdicts import BAD, Condition
from snakemake_apptainer_freshness.record.run import Ending, ImageRecord, Run

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

SEVERITIES: Final[Mapping[Kind, Severity]] = {
    Kind.BAD_IMAGE: Severity.ERROR,
    Kind.OUTPUT_CHANGED: Severity.ERROR,
    Kind.CHAIN_BROKEN: Severity.ERROR,
    Kind.RECORD_DAMAGED: Severity.ERROR,
    Kind.FOREIGN_RECORD: Severity.ERROR,
    Kind.NOT_REPEATABLE: Severity.ERROR,
    Kind.MIXED_DIGESTS: Severity.WARNING,
    Kind.PIN_MOVED: Severity.WARNING,
    Kind.LOCK_NOT_COMMITTED: Severity.WARNING,
    Kind.RUN_UNFINISHED: Severity.WARNING,
    Kind.OUTPUT_MISSING: Severity.WARNING,
    Kind.UNATTRIBUTABLE: Severity.WARNING,
    Kind.NO_RECORD: Severity.WARNING,
    Kind.UNPROVEN: Severity.WARNING,
    Kind.RUN_UNDER_WAY: Severity.NOTE,
}
"""How much each kind matters."""

_OF_OUTPUTS: Final[Mapping[Verdict, tuple[Kind, str]]] = {
    Verdict.UNATTRIBUTABLE: (Kind.UNATTRIBUTABLE, "cannot be attributed to any digest"),
    Verdict.NO_RECORD: (Kind.NO_RECORD, "has no record of how it was made"),
    Verdict.UNPROVEN: (Kind.UNPROVEN, "was made by an image that was not proven"),
}
_SEVERAL: Final = {"has": "have", "was": "were"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What was found in one work directory.

    `runs` are its own, oldest first; `foreign` were made in other folders. `broken` has, by the run, what is wrong with
    the chain there. `changed` has the outputs that changed and how, whatever their verdict.
    """

    workdir: str
    runs: Sequence[Run]
    foreign: Sequence[Run] = ()
    broken: Sequence[tuple[str, str]] = ()
    outputs: Sequence[OutputAudit] = ()
    images: Sequence[ImageAudit] = ()
    conditions: Mapping[str, Condition]
    changed: Mapping[str, str]


def find(site: Site) -> list[Finding]:
    """Everything in `site` that should be looked at, the worst first."""
    found = [
        finding
        for seek in (_bad_now, _bad_then, _changed, _records, _runs, _locks, _mixed, _moved, _by_verdict, _missing)
        for finding in seek(site)
    ]
    order = list(Severity)
    return sorted(found, key=lambda one: order.index(one.severity))


def of(kind: Kind, text: str, workdir: str, subjects: Iterable[str], severity: Severity | None = None) -> Finding:
    """A finding of `kind`, as severe as its kind is."""
    return Finding(
        kind=kind, severity=severity or SEVERITIES[kind], text=text, workdir=workdir, subjects=tuple(subjects)
    )


# --- Images --------------------------------------------------------------------------------------------------------


def _bad_now(site: Site) -> Iterator[Finding]:
    made = _grouped((one for one in site.outputs if one.pinned), lambda one: one.pinned)
    references = {image.pinned: image.reference for run in site.runs for image in run.images}
    for url, now in site.conditions.items():
        if now.bad and url in references:
            outputs = [one.path for one in made.get(url, ()) if one.sif_sha256 in ("", now.ran) or not now.ran]
            text = f"the file of {references[url]} is {now.state}: {now.detail} ({now.path})"
            yield of(Kind.BAD_IMAGE, text, site.workdir, outputs or [references[url]])


def _bad_then(site: Site) -> Iterator[Finding]:
    images = {run.id: {image.pinned: image for image in run.images} for run in site.runs}

    def was(output: OutputAudit) -> tuple[str, str, str] | None:
        image = images.get(output.run, {}).get(output.pinned)
        state = (output.job.disk if output.job else "") or (image.disk if image else "")
        return (output.run, output.reference, state) if image and state in BAD else None

    for key, outputs in _grouped((one for one in site.outputs if was(one)), was).items():
        if key is not None:
            run, reference, state = key
            text = f"run {run} used a file of {reference} that was {state} then"
            yield of(Kind.BAD_IMAGE, text, site.workdir, (one.path for one in outputs))


def _mixed(site: Site) -> Iterator[Finding]:
    """Rules whose outputs were made with several digests, unless one run did that by the references of its rules."""
    together = _references_together(site.runs)
    for rule, outputs in _grouped((one for one in site.outputs if one.digest and one.run), lambda o: o.rule).items():
        digests = _grouped(outputs, lambda one: one.digest)
        if len(digests) == 1:
            continue
        of_reference = _grouped(outputs, lambda one: one.reference)
        several = any(len({one.digest for one in some}) > 1 for some in of_reference.values())
        if several or not any(set(of_reference) <= references for references in together.get(rule, ())):
            shown = ", ".join(f"{short(digest)} ({len(some)})" for digest, some in sorted(digests.items()))
            text = f"the outputs of rule {rule} were made with {len(digests)} digests: {shown}"
            yield of(Kind.MIXED_DIGESTS, text, site.workdir, (one.path for one in outputs))


def _references_together(runs: Sequence[Run]) -> dict[str, list[set[str]]]:
    """By the rule, the references that one run used for it together: the wildcards choose there."""
    found: defaultdict[str, list[set[str]]] = defaultdict(list)
    for run in runs:
        for rule, jobs in _grouped((job for job in run.jobs if job.image), lambda job: job.rule).items():
            found[rule].append({job.reference for job in jobs})
    return found


def _moved(site: Site) -> Iterator[Finding]:
    last: dict[str, tuple[Run, ImageRecord]] = {}
    for run in site.runs:
        for image in run.images:
            before = last.get(image.reference)
            if image.digest:
                last[image.reference] = (run, image)
            if before is None or not image.digest or before[1].digest == image.digest:
                continue
            earlier, old = before
            text = (
                f"the pin of {image.reference} moved from {short(old.digest)} to {short(image.digest)} "
                f"between runs {earlier.id} and {run.id}"
            )
            same = bool({old.digest, old.manifest} & {image.digest, image.manifest} - {""})
            if same:
                text += "; the image for this platform is the same"
            severity = Severity.NOTE if same else None
            yield of(Kind.PIN_MOVED, text, site.workdir, [image.reference, earlier.id, run.id], severity)


# --- Runs and their records ------------------------------------------------------------------------------------------


def _records(site: Site) -> Iterator[Finding]:
    for run in site.runs:
        if run.problem:
            yield of(Kind.RECORD_DAMAGED, f"the record of run {run.id}: {run.problem}", site.workdir, [run.id])
    for run_id, text in site.broken:
        yield of(Kind.CHAIN_BROKEN, f"the chain of records is broken at run {run_id}: {text}", site.workdir, [run_id])
    for folder, runs in _grouped(site.foreign, lambda run: run.workdir).items():
        text = f"{counted(runs, 'record')} {be(runs)} of another work directory, {folder}, and left out"
        yield of(Kind.FOREIGN_RECORD, text, site.workdir, (run.id for run in runs))


def _runs(site: Site) -> Iterator[Finding]:
    for run in site.runs:
        if run.ending is Ending.RUNNING:
            yield of(Kind.RUN_UNDER_WAY, f"run {run.id} is under way on {run.host}", site.workdir, [run.id])
        elif run.ending is Ending.UNKNOWN and not run.problem:
            text = f"run {run.id} has no end in its record: it was killed, or its machine stopped"
            yield of(Kind.RUN_UNFINISHED, text, site.workdir, [run.id])


def _locks(site: Site) -> Iterator[Finding]:
    runs = [run for run in site.runs if run.lock is not None and run.lock.committed is False]
    if runs:
        text = f"{counted(runs, 'run')} used a lock that was never committed, or not as it was"
        yield of(Kind.LOCK_NOT_COMMITTED, text, site.workdir, (run.id for run in runs))


# --- Outputs -------------------------------------------------------------------------------------------------------


def _by_verdict(site: Site) -> Iterator[Finding]:
    chosen = (one for one in site.outputs if one.verdict in _OF_OUTPUTS)
    for (verdict, rule, reference), outputs in _grouped(
        chosen, lambda one: (one.verdict, one.rule, one.reference)
    ).items():
        kind, words = _OF_OUTPUTS[verdict]
        verb, _, rest = words.partition(" ")
        said = f"{_SEVERAL.get(verb, verb) if len(outputs) > 1 else verb} {rest}"
        by = f": {reference}" if reference else ""
        yield of(kind, f"{_named(outputs, rule)} {said}{by}", site.workdir, (one.path for one in outputs))


def _changed(site: Site) -> Iterator[Finding]:
    chosen = (one for one in site.outputs if one.path in site.changed)
    for rule, outputs in _grouped(chosen, lambda one: one.rule).items():
        how = f": {site.changed[outputs[0].path]}" if len(outputs) == 1 else ""
        text = f"{_named(outputs, rule)} changed since {'it was' if len(outputs) == 1 else 'they were'} made{how}"
        yield of(Kind.OUTPUT_CHANGED, text, site.workdir, (one.path for one in outputs))


def _missing(site: Site) -> Iterator[Finding]:
    for rule, outputs in _grouped(filter(_is_missed, site.outputs), lambda one: one.rule).items():
        text = f"{_named(outputs, rule)} {be(outputs)} no longer there"
        yield of(Kind.OUTPUT_MISSING, text, site.workdir, (one.path for one in outputs))


def _is_missed(output: OutputAudit) -> bool:
    """Whether a recorded output is gone that Snakemake has not deleted itself, as it does with temporary ones."""
    if output.exists or output.job is None:
        return False
    return not any(left.temporary for left in output.job.outputs if left.path == output.path)


def _named(outputs: Sequence[OutputAudit], rule: str) -> str:
    if len(outputs) == 1:
        return outputs[0].path
    return f"{counted(outputs, 'output')} of rule {rule}" if rule else counted(outputs, "output")


# --- Words ---------------------------------------------------------------------------------------------------------


def counted(things: Sequence[object] | int, one: str) -> str:
    """So many things, as in ``1 output`` and ``2 outputs``."""
    count = things if isinstance(things, int) else len(things)
    return f"{count:,} {one}{'' if count == 1 else 's'}"


def be(things: Sequence[object] | int) -> str:
    """``is`` or ``are``."""
    return "is" if (things if isinstance(things, int) else len(things)) == 1 else "are"


def short(digest: str) -> str:
    """The beginning of a digest, for people."""
    algorithm, _, value = digest.partition(":")
    return f"{algorithm}:{value[:12]}"


def _grouped(things: Iterable[V], key: Callable[[V], K]) -> dict[K, list[V]]:
    """`things` by their `key`, in their order."""
    found: defaultdict[K, list[V]] = defaultdict(list)
    for thing in things:
        found[key(thing)].append(thing)
    return dict(found)
