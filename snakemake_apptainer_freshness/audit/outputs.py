"""Judging the outputs of one work directory: who made each, what it is now, and what follows.

Who made an output is the last job of ours that finished it. A later job that did not finish may have left anything in
its place, so that only an untouched file is still what the earlier job made. What is just being made is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from snakemake_apptainer_freshness.audit import conditions, verdicts
from snakemake_apptainer_freshness.audit.affected import affected, upstream
from snakemake_apptainer_freshness.audit.covered import covered
from snakemake_apptainer_freshness.audit.disk import OutputStatus, look
from snakemake_apptainer_freshness.audit.results import OutputAudit, OutputVerdict
from snakemake_apptainer_freshness.audit.selection import Selection
from snakemake_apptainer_freshness.audit.verdicts import ImageCondition, Maker, VerdictWithReason
from snakemake_apptainer_freshness.common.text import be, counted
from snakemake_apptainer_freshness.errors import redact
from snakemake_apptainer_freshness.record.metadata import MadeBy, Metadata
from snakemake_apptainer_freshness.record.pruning import Break, Removal, chain
from snakemake_apptainer_freshness.record.run import Ending, ImageRecord, JobRecord, JobResult, OutputRecord, Run


@dataclass(slots=True, kw_only=True)
class OutputJudge:
    """Judges each output of one work directory; `changed` has those that changed since and how."""

    folder: Path
    runs: Sequence[Run]
    metadata: Metadata
    selection: Selection
    removal: Removal | None = None
    """Which records of this folder were removed, as far as that is believed."""
    broken: Sequence[Break] = ()
    disowned: frozenset[str] = frozenset()
    """Runs whose record has a seal that is not its own."""
    sealed: frozenset[str] = frozenset()
    """Runs whose record a seal of an allowed signer vouches for."""
    conditions: Mapping[str, ImageCondition] = field(default_factory=dict)
    changed: dict[str, str] = field(default_factory=dict)
    _images: Mapping[str, Mapping[str, ImageRecord]] = field(default_factory=dict)
    _doubted: frozenset[str] = frozenset()
    _covered: Mapping[tuple[str, str], str] = field(default_factory=dict)
    _proven: frozenset[tuple[str, str]] = frozenset()
    _known: dict[tuple[str, str, str, str], VerdictWithReason] = field(default_factory=dict)
    _being_made: int = 0
    _elsewhere: int = 0
    _unseen: list[str] = field(default_factory=list)

    def outputs(self) -> list[OutputAudit]:
        """Return all outputs that are chosen, each with its verdict."""
        self.conditions = conditions.conditions(self.folder, self.runs)
        self._proven = conditions.proven(self.runs)
        self._covered = covered(self.runs, self.conditions)
        self.broken = chain(self.runs, self.removal)
        self._doubted = doubted(self.runs, self.broken) | self.disowned
        self._images = {run.id: {image.pinned: image for image in run.images} for run in self.runs}
        makers, open_jobs = makers_of(self.runs)
        wanted: dict[str, OutputRecord | None] = dict.fromkeys(self.metadata.outputs)
        wanted.update(dict.fromkeys(open_jobs))
        wanted.update({path: maker.left for path, maker in makers.items()})
        chosen = self.selection.outputs(wanted, self.folder)
        inputs = {path: made.inputs for path, made in self.metadata.outputs.items()}
        before = upstream(chosen, inputs) - chosen.keys()  # what a chosen output was made of is judged for its sake
        judged = {**chosen, **{path: wanted.get(path) for path in before}}
        seen = look(self.folder, judged)
        judged_outputs = (self._judge(path, seen[path], makers.get(path), open_jobs.get(path)) for path in judged)
        outputs = [output for output in judged_outputs if output is not None]
        ways = affected(outputs)
        return [
            replace(output, affected_by=ways[output.path]) if output.path in ways else output
            for output in outputs
            if output.path in chosen and self.selection.keeps(output)
        ]

    def notes(self) -> list[str]:
        """Return what could not be looked at."""
        texts = []
        where = f" in {self.folder}"
        if not self.metadata.found:
            texts.append(f"Snakemake's own metadata is not there{where}: what ran without us is not seen")
        if bad := self.metadata.unreadable:
            texts.append(f"{counted(bad, 'record')} of Snakemake's metadata cannot be read{where}, such as {bad[0]}")
        if self._being_made:
            texts.append(f"{counted(self._being_made, 'output')} {be(self._being_made)} being made{where}: left out")
        if self._elsewhere:
            texts.append(f"{counted(self._elsewhere, 'output')} in remote storage {be(self._elsewhere)} not looked at")
        if self._unseen:
            texts.append(f"{counted(self._unseen, 'output')} could not be looked at{where}, such as {self._unseen[0]}")
        if unknown := [run for run in self.runs if run.lock is not None and run.lock.committed is None]:
            texts.append(f"whether the lock was committed is not known of {counted(unknown, 'run')}{where}")
        return texts

    def _judge(
        self, path: str, seen: OutputStatus, maker: Maker | None, open_job: tuple[Run, JobRecord] | None
    ) -> OutputAudit | None:
        """Return the verdict on one output; None where there is none to judge, or it is just being made."""
        how = verdicts.changed(maker.left, seen) if maker else ""
        self._elsewhere += seen.elsewhere
        if seen.problem:
            self._unseen.append(path)
        if open_job is not None and (maker is None or how or not seen.exists):
            if open_job[0].ending is Ending.RUNNING:
                self._being_made += 1
                return None
            if maker is None or how:
                return self._of_open_job(path, seen, *open_job)
        if maker is None:
            return self._without_us(path, seen, again=False) if seen.exists else None
        if how and verdicts.made_again(maker, self.metadata.outputs.get(path)):
            return self._without_us(path, seen, again=True)
        return self._of_maker(path, seen, maker, how)

    def _of_maker(self, path: str, seen: OutputStatus, maker: Maker, how: str) -> OutputAudit:
        """Return an output that `maker` made; `how` it changed since."""
        job = maker.job
        image = self._images[maker.run.id].get(job.image)
        verdict, why = self._by_image(maker, image)
        if how:
            self.changed[path] = how
            verdict, why = verdicts.worst((verdict, why), (OutputVerdict.CHANGED, how))
        if seen.problem:
            why += f"; the output could not be looked at: {seen.problem}"
        made = self.metadata.outputs.get(path)
        return OutputAudit(
            workdir=str(self.folder),
            path=path,
            verdict=verdict,
            why=why,
            rule=job.rule,
            exists=seen.exists,
            size=seen.size,
            run=maker.run.id,
            job=job,
            reference=job.reference,
            pinned=job.image,
            digest=image.digest if image else "",
            manifest=image.manifest if image else "",
            sif_sha256=image.sha256 if image else "",
            made_at=job.ended,
            host=job.host,
            inputs=made.inputs if made else (),
        )

    def _by_image(self, maker: Maker, image: ImageRecord | None) -> VerdictWithReason:
        """Return what the image says of all that jobs like this one made in this run; thought through once."""
        run, job = maker.run, maker.job
        key = (run.id, job.image, job.disk, job.reference)
        if key not in self._known:
            now = self.conditions.get(job.image)
            over = self._covered.get((run.id, job.image), "")
            believed = run.id not in self._doubted
            vouched = run.id in self.sealed or (run.id, job.image) in self._proven
            judged = verdicts.by_image(maker, image, now, believed=believed, vouched=vouched, covered=over)
            self._known[key] = judged
        return self._known[key]

    def _without_us(self, path: str, seen: OutputStatus, *, again: bool) -> OutputAudit:
        """Return an output that a run without a record made, as far as Snakemake's metadata knows it."""
        made = self.metadata.outputs.get(path)
        if made is not None and "?" in made.container:  # an address that may be signed
            made = replace(made, container=redact(made.container))
        verdict, why = verdicts.without_us(made, again=again)
        if path in self.metadata.incomplete:
            why += "; its job was started, and Snakemake does not know that it ended"
        made = made or MadeBy(rule="")
        return OutputAudit(
            workdir=str(self.folder),
            path=path,
            verdict=verdict,
            why=why,
            rule=made.rule,
            exists=seen.exists,
            size=seen.size,
            reference=made.container,
            pinned=made.container,
            digest=verdicts.digest_in(made.container),
            made_at=_time(made.ended),
            inputs=made.inputs,
        )

    def _of_open_job(self, path: str, seen: OutputStatus, run: Run, job: JobRecord) -> OutputAudit | None:
        """Return an output whose last job of ours did not finish: a later one without us may have."""
        if not seen.exists:
            return None
        made = self.metadata.outputs.get(path)
        if made is not None and path not in self.metadata.incomplete and made.started > verdicts.seconds(job.started):
            return self._without_us(path, seen, again=True)
        ended = "failed" if job.result is JobResult.FAILED else "has no end in its record"
        return OutputAudit(
            workdir=str(self.folder),
            path=path,
            verdict=OutputVerdict.NO_RECORD,
            why=f"the last job that was to make it, in run {run.id}, {ended}: nothing says what this file is",
            rule=job.rule,
            exists=True,
            size=seen.size,
            inputs=made.inputs if made else (),
        )


def makers_of(runs: Sequence[Run]) -> tuple[dict[str, Maker], dict[str, tuple[Run, JobRecord]]]:
    """Return the job that finished each output last, and which outputs had a later job that did not finish."""
    makers: dict[str, Maker] = {}
    open_jobs: dict[str, tuple[Run, JobRecord]] = {}
    for run in runs:
        for job in run.jobs:
            for left in job.outputs:
                if job.result is JobResult.FINISHED:
                    makers[left.path] = Maker(run=run, job=job, left=left)
                    open_jobs.pop(left.path, None)
                else:
                    open_jobs[left.path] = (run, job)
    return makers, open_jobs


def doubted(runs: Sequence[Run], broken: Sequence[Break]) -> frozenset[str]:
    """Return the runs whose record is not the one that the next run knew; the newest is not doubted."""
    vouched = {run.previous for run in runs}
    before = dict(zip((run.id for run in runs[1:]), runs, strict=False))
    runs_before = (before[link.run] for link in broken if link.run in before)
    return frozenset(run.id for run in runs_before if run.sha256 not in vouched)


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds > 0 else ""
    except (ValueError, OverflowError, OSError):
        return ""
