"""The audit: joins run records, Snakemake's metadata and the files on this disk.

:func:`audit` gathers and looks, for one work directory after the other; what is concluded is decided elsewhere, on
values (:mod:`.outputs`, :mod:`.verdicts`, :mod:`.findings`, :mod:`.replay`). Nothing is written, locked or changed,
and without `ask` no network is used, so that a work directory can be audited while a workflow runs there.

The answer in one sentence: what an auditor reads first, and perhaps all that an auditor reads. Pure.

Whose records lie in a work directory: its own, or those of another that were copied there.

A record is a folder's own where it was made there, and where the chain links it to one that is, because a folder may
have been moved between two runs. Where no record was made there at all, the whole folder was moved, as long as
anything that the records name is there.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.actions.run_records import believed
from snakemake_apptainer_freshness.audit import conditions, findings, verdicts
from snakemake_apptainer_freshness.audit.acknowledge import AcknowledgedFinding, acknowledged
from snakemake_apptainer_freshness.audit.affected import owner
from snakemake_apptainer_freshness.audit.disk import is_there, place
from snakemake_apptainer_freshness.audit.findings import WorkDirectory
from snakemake_apptainer_freshness.audit.outputs import OutputJudge
from snakemake_apptainer_freshness.audit.replay import Asker, Replayed
from snakemake_apptainer_freshness.audit.results import (
    Audit,
    AuditFinding,
    Edge,
    FindingKind,
    ImageAudit,
    OutputAudit,
    OutputVerdict,
    Severity,
)
from snakemake_apptainer_freshness.audit.seals import SealAudit, seals, to_seal
from snakemake_apptainer_freshness.audit.selection import EVERYTHING, Selection
from snakemake_apptainer_freshness.common.text import counted
from snakemake_apptainer_freshness.errors import UsageError
from snakemake_apptainer_freshness.record import journal, seal
from snakemake_apptainer_freshness.record.git import committed_content
from snakemake_apptainer_freshness.record.metadata import Metadata
from snakemake_apptainer_freshness.record.pruning import describe
from snakemake_apptainer_freshness.record.run import Run
from snakemake_apptainer_freshness.record.seal import SealState


def whose(folder: Path, runs: Sequence[Run], metadata: Metadata) -> tuple[list[Run], list[Run]]:
    """Split `runs` into those of this folder and those of others.

    Raises
    ------
    UsageError
        where all are of another workflow.
    """
    named = [run.workdir for run in runs if run.workdir]
    at_home = {workdir for workdir in set(named) if is_same_folder(workdir, folder)}
    folders = {"", *(at_home or named[-1:])}
    by_hash = {run.sha256: run for run in runs}
    links = {frozenset((run.workdir, by_hash[run.previous].workdir)) for run in runs if run.previous in by_hash}
    while linked := {workdir for link in links if link & (folders - {""}) for workdir in link} - folders:
        folders |= linked
    own = [run for run in runs if run.workdir in folders]
    if named and not at_home and not _anything_here(folder, own, metadata):
        raise UsageError(
            f"the records in {folder} are of another workflow: {own[-1].source.snakefile} in {own[-1].workdir}",
            hint="no output that they name is here; audit the folder that they were made in",
        )
    return own, [run for run in runs if run.workdir not in folders]


def is_same_folder(recorded: str, other: Path) -> bool:
    """Return whether the folder that was `recorded` is `other`, by whatever links it was reached."""
    try:
        return recorded == str(other) or os.path.realpath(recorded) == os.path.realpath(other)
    except ValueError:  # what a record has may be no name of a folder at all
        return False


def _anything_here(folder: Path, runs: Sequence[Run], metadata: Metadata) -> bool:
    paths = {left.path for run in runs for job in run.jobs for left in job.outputs}
    return not paths or any(path in metadata.outputs or is_there(folder / path) for path in paths)


_GOOD: Final = (OutputVerdict.PROVEN, OutputVerdict.NO_CONTAINER)
_SHORT: Final = {
    OutputVerdict.BAD_IMAGE: "made by a bad image",
    OutputVerdict.CHANGED: "changed since",
    OutputVerdict.UNATTRIBUTABLE: "made by a tag that cannot be attributed",
    OutputVerdict.NO_RECORD: "without a record",
    OutputVerdict.UNPROVEN: "made by an unproven image",
}
_OF_OUTPUTS: Final = frozenset(
    {
        FindingKind.OUTPUT_CHANGED,
        FindingKind.UNATTRIBUTABLE,
        FindingKind.NO_RECORD,
        FindingKind.UNPROVEN,
        FindingKind.BAD_IMAGE,
    }
)
"""What the counts of the verdicts say already."""


def answer(audit: Audit) -> str:
    """Return what `audit` found, in one sentence."""
    parts = [_outputs(audit)]
    open_findings = [
        finding for finding in audit.findings if finding.severity is not Severity.NOTE and finding.acknowledged is None
    ]
    others = [finding for finding in open_findings if finding.kind not in _OF_OUTPUTS]
    if others:
        words = Counter(finding.kind.value for finding in others)
        parts.append("found besides: " + ", ".join(f"{count} {word}" for word, count in words.items()))
    if known := sum(finding.acknowledged is not None for finding in audit.findings):
        parts.append(f"{counted(known, 'finding')} acknowledged")
    if audit.replay is not None:
        again = "yes" if audit.replay.possible else "no"
        parts.append(f"could be run again today: {again}, because {audit.replay.because}")
    return "; ".join(parts) + "."


def _outputs(audit: Audit) -> str:
    counts = Counter(output.verdict for output in audit.outputs)
    if not audit.outputs:
        return f"No output is known of {counted(audit.runs, 'run')}"
    every = counted(audit.outputs, "output")
    bad = [f"{counts[word]:,} {_SHORT[word]}" for word in OutputVerdict if counts[word] and word not in _GOOD]
    proven, without = counts[OutputVerdict.PROVEN], counts[OutputVerdict.NO_CONTAINER]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealing:
    """Whether and who seals: the SSH `key` to seal with (None: do not seal), and the file of `allowed` signers."""

    key: Path | None = None
    allowed: Path | None = None


NO_SEALING: Final = Sealing()
_HINT: Final = "records are made by runs with apptainer_freshness on; Snakemake's metadata alone proves nothing"


def audit(
    workdirs: Sequence[Path],
    *,
    read_metadata: Callable[[Path], Metadata],
    selection: Selection = EVERYTHING,
    ask: Asker | None = None,
    sealing: Sealing = NO_SEALING,
) -> Audit:
    """Return what can be said of the outputs in `workdirs`, as far as they are in the `selection`.

    `read_metadata` reads Snakemake's own metadata (:func:`.engine.persistence.read`); `ask` asks registries, for a
    replay; `sealing` says whether to seal the newest records before all else, and who may have sealed them.

    Raises
    ------
    UsageError
        where no work directory has a record, or the selection chooses what is not there.
    InvalidRecord
        where a record is of a newer version.
    LocalIOError
        where records or metadata cannot be read.
    """
    folders = [Path(os.path.abspath(folder)) for folder in dict.fromkeys(workdirs)]  # noqa: PTH100  links are kept
    notes: list[str] = []
    sites: list[_Work] = []
    for folder in folders:
        runs = journal.read_all(folder)
        if runs:
            sites.append(_Work.of(folder, runs, read_metadata(folder), selection, sealing=sealing, notes=notes))
        else:
            notes.append(f"no run was recorded in {folder}")
    if not sites:
        raise UsageError(f"no run was recorded in {', '.join(map(str, folders))}", hint=_HINT)
    selection.check([work.site for work in sites])
    return _put_together(sites, ask, notes)


def with_acknowledgements(audit: Audit, entries: Sequence[AcknowledgedFinding]) -> Audit:
    """Return `audit` with its findings as `entries` acknowledge them, which its answer says, too."""
    made = acknowledged(audit, entries)
    return replace(made, answer=answer(made))


def _put_together(sites: "Sequence[_Work]", ask: Asker | None, notes: Sequence[str]) -> Audit:
    findings: list[AuditFinding] = []
    replays: list[Replayed] = []
    histories: list[ImageAudit] = []
    for work in sites:
        findings += work.findings()
        history = work.site.images
        if ask is not None:
            replayed = ask(work.site)
            history, findings = replayed.images, findings + replayed.findings
            replays.append(replayed)
        histories += history
    outputs = sorted(
        (output for work in sites for output in work.site.outputs),
        key=lambda output: (verdicts.ORDER[output.verdict], output.workdir, output.path),
    )
    severities = list(Severity)
    made = Audit(
        made_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        workdirs=tuple(work.site.workdir for work in sites),
        answer="",
        runs=tuple(run for work in sites for run in work.chosen),
        images=tuple(histories),
        outputs=tuple(outputs),
        findings=tuple(sorted(findings, key=lambda finding: severities.index(finding.severity))),
        edges=tuple(edge for work in sites for edge in work.edges),
        replay=Replayed.together(replays) if replays else None,
        seals=tuple(work.site.seals for work in sites if work.site.seals is not None),
        numbers={
            (work.site.workdir, run.id): number for work in sites for number, run in enumerate(work.site.runs, start=1)
        },
        notes=tuple(notes),
    )
    return replace(made, answer=answer(made))


def _sealed(workdir: str, runs: Sequence[Run], sealing: Sealing) -> SealAudit:
    """Seal the records of `runs` that no other names, if that is wanted; then look at all seals."""
    if sealing.key is not None:
        for run in to_seal(runs):
            seal.sign(run, sealing.key)
    allowed = sealing.allowed
    return seals(workdir, runs, lambda run: seal.check(run, allowed), is_checked=allowed is not None)


@dataclass(slots=True, kw_only=True)
class _Work:
    """One work directory as it is judged; `chosen` are its runs that the selection is about."""

    site: WorkDirectory
    chosen: Sequence[Run]
    edges: Sequence[Edge]
    selection: Selection

    @classmethod
    def of(
        cls,
        folder: Path,
        runs: Sequence[Run],
        metadata: Metadata,
        selection: Selection,
        *,
        sealing: Sealing,
        notes: list[str],
    ) -> "_Work":
        """Judge what lies in `folder`; what could not be looked at is added to `notes`."""
        own, foreign = whose(folder, runs, metadata)
        if (made_in := next((run.workdir for run in reversed(own) if run.workdir), "")) and not is_same_folder(
            made_in, folder
        ):
            notes.append(f"{folder} was moved or copied: its newest run was recorded in {made_in}")
        sealed = _sealed(str(folder), own, sealing)
        disowned = frozenset(seal.run for seal in sealed.seals if seal.state is SealState.BROKEN)
        removal, why = believed(folder, own, sealing.allowed)
        if removal is not None:
            notes.append(f"{describe(removal, by=why)}: what they said is not known any more")
        elif why:
            notes.append(why)
        judging = OutputJudge(
            folder=folder,
            runs=own,
            removal=removal,
            metadata=metadata,
            selection=selection,
            disowned=disowned,
            sealed=frozenset(sealed.vouched),
        )
        outputs = judging.outputs()
        chosen = selection.runs(own, outputs)
        site = WorkDirectory(
            workdir=str(folder),
            runs=own,
            foreign=foreign,
            broken=[(link.run, link.text) for link in judging.broken],
            outputs=outputs,
            images=conditions.histories(str(folder), own, outputs, judging.conditions),
            conditions=judging.conditions,
            changed=judging.changed,
            seals=sealed,
            committed=_committed_locks(folder, own),
        )
        notes += judging.notes()
        return cls(site=site, chosen=chosen, edges=_edges(str(folder), metadata, outputs), selection=selection)

    def findings(self) -> list[AuditFinding]:
        """Return the findings that the selection is about."""
        return self.selection.findings(findings.find(self.site), self.chosen, self.site)


def _committed_locks(folder: Path, runs: Sequence[Run]) -> frozenset[str]:
    """Return the SHA-256 of locks that are committed today, of those that were not when a run used them."""
    paths = {
        place(run.lock.path, recorded_in=run.workdir, workdir=folder)
        for run in runs
        if run.lock is not None and run.lock.committed is False
    }
    contents = (committed_content(path) for path in paths)
    return frozenset(hashlib.sha256(content).hexdigest() for content in contents if content is not None)


def _edges(workdir: str, metadata: Metadata, outputs: Sequence[OutputAudit]) -> tuple[Edge, ...]:
    rule_of = {path: made.rule for path, made in metadata.outputs.items()}
    rule_of.update({output.path: output.rule for output in outputs if output.rule})

    pairs = {
        (before, after)
        for path, made in metadata.outputs.items()
        if (after := rule_of[path])
        for name in made.inputs
        if (before := rule_of.get(owner(name, rule_of), "")) and before != after
    }
    return tuple(Edge(workdir=workdir, before=before, after=after) for before, after in sorted(pairs))
