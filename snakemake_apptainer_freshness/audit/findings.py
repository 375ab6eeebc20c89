"""Findings: what an auditor should look at, from the verdicts and across the runs. Pure.

One fact is one finding, whatever it is about: a hundred outputs of one bad image are one finding with a hundred
subjects. What is a matter of course is none: a tag that moved is the registry's business until a pin follows it.

Normal life needs no explanation, so that these are notes: a pin that moved with a lock that was committed, and a lock
that was not committed when it was used and is now, or whose first run has just made it.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from snakemake_apptainer_freshness.audit.results import (
    AuditFinding,
    FindingKind,
    ImageAudit,
    OutputAudit,
    OutputVerdict,
    Severity,
)
from snakemake_apptainer_freshness.audit.seals import SealAudit
from snakemake_apptainer_freshness.audit.verdicts import BAD, ImageCondition
from snakemake_apptainer_freshness.common.text import be, counted, short
from snakemake_apptainer_freshness.record.run import Ending, ImageRecord, Run
from snakemake_apptainer_freshness.record.seal import SealState

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

SEVERITIES: Final[Mapping[FindingKind, Severity]] = {
    FindingKind.BAD_IMAGE: Severity.ERROR,
    FindingKind.OUTPUT_CHANGED: Severity.ERROR,
    FindingKind.CHAIN_BROKEN: Severity.ERROR,
    FindingKind.RECORD_DAMAGED: Severity.ERROR,
    FindingKind.BAD_SEAL: Severity.ERROR,
    FindingKind.FOREIGN_RECORD: Severity.ERROR,
    FindingKind.NOT_REPEATABLE: Severity.ERROR,
    FindingKind.MIXED_DIGESTS: Severity.WARNING,
    FindingKind.PIN_MOVED: Severity.WARNING,
    FindingKind.LOCK_NOT_COMMITTED: Severity.WARNING,
    FindingKind.NOT_SEALED: Severity.WARNING,
    FindingKind.RUN_UNFINISHED: Severity.WARNING,
    FindingKind.OUTPUT_MISSING: Severity.WARNING,
    FindingKind.UNATTRIBUTABLE: Severity.WARNING,
    FindingKind.NO_RECORD: Severity.WARNING,
    FindingKind.UNPROVEN: Severity.WARNING,
    FindingKind.RUN_UNDER_WAY: Severity.NOTE,
}
"""How much each kind matters."""

_OF_OUTPUTS: Final[Mapping[OutputVerdict, tuple[FindingKind, str]]] = {
    OutputVerdict.UNATTRIBUTABLE: (FindingKind.UNATTRIBUTABLE, "cannot be attributed to any digest"),
    OutputVerdict.NO_RECORD: (FindingKind.NO_RECORD, "has no record of how it was made"),
    OutputVerdict.UNPROVEN: (FindingKind.UNPROVEN, "was made by an image that was not proven"),
}
_SEVERAL: Final = {"has": "have", "was": "were"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkDirectory:
    """What was found in one work directory.

    `runs` are its own, oldest first; `foreign` were made in other folders. `broken` has, by the run, what is wrong with
    the chain there. `changed` has the outputs that changed and how, whatever their verdict. `committed` are the SHA-256
    of locks that are committed today.
    """

    workdir: str
    runs: Sequence[Run]
    foreign: Sequence[Run] = ()
    broken: Sequence[tuple[str, str]] = ()
    outputs: Sequence[OutputAudit] = ()
    images: Sequence[ImageAudit] = ()
    conditions: Mapping[str, ImageCondition]
    changed: Mapping[str, str]
    seals: SealAudit | None = None
    committed: frozenset[str] = frozenset()


def find(site: WorkDirectory) -> list[AuditFinding]:
    """Return everything in `site` that should be looked at, the worst first."""
    findings = [
        finding
        for seek in (
            _bad_now,
            _bad_then,
            _changed,
            _records,
            _seals,
            _runs,
            _locks,
            _mixed,
            _moved,
            _by_verdict,
            _missing,
        )
        for finding in seek(site)
    ]
    order = list(Severity)
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def of(
    kind: FindingKind, text: str, workdir: str, subjects: Iterable[str], severity: Severity | None = None
) -> AuditFinding:
    """Return a finding of `kind`, as severe as its kind is."""
    return AuditFinding(
        kind=kind, severity=severity or SEVERITIES[kind], text=text, workdir=workdir, subjects=tuple(subjects)
    )


# --- Images --------------------------------------------------------------------------------------------------------


def _bad_now(site: WorkDirectory) -> Iterator[AuditFinding]:
    made = _grouped((output for output in site.outputs if output.pinned), lambda output: output.pinned)
    references = {image.pinned: image.reference for run in site.runs for image in run.images}
    for url, now in site.conditions.items():
        if now.bad and url in references:
            outputs = [output.path for output in made.get(url, ()) if output.sif_sha256 in ("", now.ran) or not now.ran]
            text = f"the file of {references[url]} is {now.state}: {now.detail} ({now.path})"
            yield of(FindingKind.BAD_IMAGE, text, site.workdir, outputs or [references[url]])


def _bad_then(site: WorkDirectory) -> Iterator[AuditFinding]:
    images = {run.id: {image.pinned: image for image in run.images} for run in site.runs}

    def was(output: OutputAudit) -> tuple[str, str, str] | None:
        image = images.get(output.run, {}).get(output.pinned)
        state = (output.job.disk if output.job else "") or (image.disk if image else "")
        return (output.run, output.reference, state) if image and state in BAD else None

    for key, outputs in _grouped((output for output in site.outputs if was(output)), was).items():
        if key is not None:
            run, reference, state = key
            text = f"run {run} used a file of {reference} that was {state} then"
            yield of(FindingKind.BAD_IMAGE, text, site.workdir, (output.path for output in outputs))


def _mixed(site: WorkDirectory) -> Iterator[AuditFinding]:
    """Yield rules whose outputs were made by several images, unless one run did that by the references of its rules.

    Two indexes with the same manifest for the platform that ran are one image.
    """
    together = _references_together(site.runs)
    for rule, outputs in _grouped(
        (output for output in site.outputs if output.digest and output.run), lambda o: o.rule
    ).items():
        digests = _grouped(outputs, lambda output: output.digest)
        if len({output.manifest or output.digest for output in outputs}) == 1:
            continue
        of_reference = _grouped(outputs, lambda output: output.reference)
        several = any(len({output.manifest or output.digest for output in some}) > 1 for some in of_reference.values())
        if several or not any(set(of_reference) <= references for references in together.get(rule, ())):
            shown = ", ".join(f"{short(digest)} ({len(some)})" for digest, some in sorted(digests.items()))
            text = f"the outputs of rule {rule} were made with {len(digests)} digests: {shown}"
            yield of(FindingKind.MIXED_DIGESTS, text, site.workdir, (output.path for output in outputs))


def _references_together(runs: Sequence[Run]) -> dict[str, list[set[str]]]:
    """Return, by rule, the references that one run used for it together: there the wildcards choose."""
    together: defaultdict[str, list[set[str]]] = defaultdict(list)
    for run in runs:
        for rule, jobs in _grouped((job for job in run.jobs if job.image), lambda job: job.rule).items():
            together[rule].append({job.reference for job in jobs})
    return together


def _moved(site: WorkDirectory) -> Iterator[AuditFinding]:
    last: dict[str, tuple[Run, ImageRecord]] = {}
    committed = _committed(site)
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
            agreed = run.lock is not None and run.lock.sha256 in committed
            if agreed:
                text += "; its lock is committed"
            severity = Severity.NOTE if same or agreed else None
            yield of(FindingKind.PIN_MOVED, text, site.workdir, [image.reference, earlier.id, run.id], severity)


# --- Runs and their records ------------------------------------------------------------------------------------------


def _records(site: WorkDirectory) -> Iterator[AuditFinding]:
    for run in site.runs:
        if run.problem:
            yield of(FindingKind.RECORD_DAMAGED, f"the record of run {run.id}: {run.problem}", site.workdir, [run.id])
    for run_id, text in site.broken:
        yield of(
            FindingKind.CHAIN_BROKEN, f"the chain of records is broken at run {run_id}: {text}", site.workdir, [run_id]
        )
    for folder, runs in _grouped(site.foreign, lambda run: run.workdir).items():
        text = f"{counted(runs, 'record')} {be(runs)} of another work directory, {folder}, and left out"
        yield of(FindingKind.FOREIGN_RECORD, text, site.workdir, (run.id for run in runs))


def _seals(site: WorkDirectory) -> Iterator[AuditFinding]:
    if site.seals is None:
        return
    for seal in site.seals.seals:
        if seal.state is SealState.BROKEN:
            text = f"the seal of run {seal.run} is not one of its record: {seal.detail}"
            yield of(FindingKind.BAD_SEAL, text, site.workdir, [seal.run])
        if seal.state is SealState.STRANGER:
            text = f"the record of run {seal.run} is sealed by {seal.key}, which is of no allowed signer"
            yield of(FindingKind.BAD_SEAL, text, site.workdir, [seal.run])
    if site.seals.is_checked and (left := site.seals.open):
        text = f"{counted(left, 'record')} {be(left)} vouched for by no seal"
        yield of(FindingKind.NOT_SEALED, text, site.workdir, left)


def _runs(site: WorkDirectory) -> Iterator[AuditFinding]:
    for run in site.runs:
        if run.ending is Ending.RUNNING:
            yield of(FindingKind.RUN_UNDER_WAY, f"run {run.id} is under way on {run.host}", site.workdir, [run.id])
        elif run.ending is Ending.UNKNOWN and not run.problem:
            text = f"run {run.id} has no end in its record: it was killed, or its machine stopped"
            yield of(FindingKind.RUN_UNFINISHED, text, site.workdir, [run.id])


def _locks(site: WorkDirectory) -> Iterator[AuditFinding]:
    committed = _committed(site)
    runs = [run for run in site.runs if run.lock is not None and run.lock.committed is False]
    later = [run for run in runs if run.lock is not None and run.lock.sha256 in committed]
    never = [run for run in runs if run not in later]
    if never and never[0] is site.runs[0] and not never[0].previous:
        first = never.pop(0)
        text = f"run {first.id}, the first, used a lock that is not committed yet"
        yield of(FindingKind.LOCK_NOT_COMMITTED, text, site.workdir, [first.id], Severity.NOTE)
    if never:
        text = f"{counted(never, 'run')} used a lock that was never committed, or not as it was"
        yield of(FindingKind.LOCK_NOT_COMMITTED, text, site.workdir, (run.id for run in never))
    if later:
        text = f"{counted(later, 'run')} used a lock that was committed afterwards"
        yield of(FindingKind.LOCK_NOT_COMMITTED, text, site.workdir, (run.id for run in later), Severity.NOTE)


def _committed(site: WorkDirectory) -> frozenset[str]:
    """Return the SHA-256 of each lock that was committed when a run used it, or is today."""
    then = {run.lock.sha256 for run in site.runs if run.lock is not None and run.lock.committed}
    return site.committed | then


# --- Outputs -------------------------------------------------------------------------------------------------------


def _by_verdict(site: WorkDirectory) -> Iterator[AuditFinding]:
    chosen = (output for output in site.outputs if output.verdict in _OF_OUTPUTS)
    for (verdict, rule, reference), outputs in _grouped(
        chosen, lambda output: (output.verdict, output.rule, output.reference)
    ).items():
        kind, words = _OF_OUTPUTS[verdict]
        verb, _, rest = words.partition(" ")
        predicate = f"{_SEVERAL.get(verb, verb) if len(outputs) > 1 else verb} {rest}"
        by = f": {reference}" if reference else ""
        yield of(kind, f"{_named(outputs, rule)} {predicate}{by}", site.workdir, (output.path for output in outputs))


def _changed(site: WorkDirectory) -> Iterator[AuditFinding]:
    chosen = (output for output in site.outputs if output.path in site.changed)
    for rule, outputs in _grouped(chosen, lambda output: output.rule).items():
        how = f": {site.changed[outputs[0].path]}" if len(outputs) == 1 else ""
        text = f"{_named(outputs, rule)} changed since {'it was' if len(outputs) == 1 else 'they were'} made{how}"
        yield of(FindingKind.OUTPUT_CHANGED, text, site.workdir, (output.path for output in outputs))


def _missing(site: WorkDirectory) -> Iterator[AuditFinding]:
    for rule, outputs in _grouped(filter(_is_missed, site.outputs), lambda output: output.rule).items():
        text = f"{_named(outputs, rule)} {be(outputs)} no longer there"
        yield of(FindingKind.OUTPUT_MISSING, text, site.workdir, (output.path for output in outputs))


def _is_missed(output: OutputAudit) -> bool:
    """Return whether a recorded output is gone that Snakemake has not deleted itself."""
    if output.exists or output.job is None:
        return False
    return not any(left.temporary for left in output.job.outputs if left.path == output.path)


def _named(outputs: Sequence[OutputAudit], rule: str) -> str:
    if len(outputs) == 1:
        return outputs[0].path
    return f"{counted(outputs, 'output')} of rule {rule}" if rule else counted(outputs, "output")


def _grouped(things: Iterable[V], key: Callable[[V], K]) -> dict[K, list[V]]:
    """Return `things` by their `key`, in their order."""
    groups: defaultdict[K, list[V]] = defaultdict(list)
    for thing in things:
        groups[key(thing)].append(thing)
    return dict(groups)
