"""The audit: joins run records, Snakemake's metadata and the files on this disk.

:func:`audit` gathers and looks, for one work directory after the other; what is concluded is decided elsewhere, on
values (:mod:`.outputs`, :mod:`.verdicts`, :mod:`.findings`, :mod:`.replay`). Nothing is written, locked or changed,
and without `ask` no network is used, so that a work directory can be audited while a workflow runs there.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.audit import findings, images, journal, verdicts
from snakemake_apptainer_freshness.audit.answer import answer
from snakemake_apptainer_freshness.audit.belonging import same, whose
from snakemake_apptainer_freshness.audit.findings import Site
from snakemake_apptainer_freshness.audit.metadata import Metadata
from snakemake_apptainer_freshness.audit.outputs import Judging
from snakemake_apptainer_freshness.audit.record import Run
from snakemake_apptainer_freshness.audit.replay import Asker, Replayed
from snakemake_apptainer_freshness.audit.results import Audit, Edge, Finding, ImageAudit, OutputAudit, Severity
from snakemake_apptainer_freshness.audit.selection import EVERYTHING, Selection
from snakemake_apptainer_freshness.errors import UsageError

_DEEPEST: Final = 64
"""So many folders above an input are looked for among the outputs."""
_HINT: Final = "records are made by runs with apptainer_freshness on; Snakemake's metadata alone proves nothing"


def audit(
    workdirs: Sequence[Path],
    *,
    read_metadata: Callable[[Path], Metadata],
    selection: Selection = EVERYTHING,
    ask: Asker | None = None,
) -> Audit:
    """What can be said of the outputs in `workdirs`, as far as they are in the `selection`.

    `read_metadata` reads Snakemake's own metadata (:func:`.engine.metadata.read`); `ask` asks registries, for a replay.

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
            sites.append(_Work.of(folder, runs, read_metadata(folder), selection, notes))
        else:
            notes.append(f"no run was recorded in {folder}")
    if not sites:
        raise UsageError(f"no run was recorded in {', '.join(map(str, folders))}", hint=_HINT)
    selection.check([work.site for work in sites])
    return _put_together(sites, ask, notes)


def _put_together(sites: "Sequence[_Work]", ask: Asker | None, notes: Sequence[str]) -> Audit:
    found: list[Finding] = []
    replays: list[Replayed] = []
    histories: list[ImageAudit] = []
    for work in sites:
        found += work.findings()
        history = work.site.images
        if ask is not None:
            replayed = ask(work.site)
            history, found = replayed.images, found + replayed.findings
            replays.append(replayed)
        histories += history
    outputs = sorted(
        (output for work in sites for output in work.site.outputs),
        key=lambda one: (verdicts.ORDER[one.verdict], one.workdir, one.path),
    )
    severities = list(Severity)
    made = Audit(
        made_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        workdirs=tuple(work.site.workdir for work in sites),
        answer="",
        runs=tuple(run for work in sites for run in work.chosen),
        images=tuple(histories),
        outputs=tuple(outputs),
        findings=tuple(sorted(found, key=lambda one: severities.index(one.severity))),
        edges=tuple(edge for work in sites for edge in work.edges),
        replay=Replayed.together(replays) if replays else None,
        notes=tuple(notes),
    )
    return replace(made, answer=answer(made))


@dataclass(slots=True, kw_only=True)
class _Work:
    """One work directory as it is judged; `chosen` are its runs that the selection is about."""

    site: Site
    chosen: Sequence[Run]
    edges: Sequence[Edge]
    selection: Selection

    @classmethod
    def of(
        cls, folder: Path, runs: Sequence[Run], metadata: Metadata, selection: Selection, notes: list[str]
    ) -> "_Work":
        """Judge what lies in `folder`; what could not be looked at is added to `notes`."""
        own, foreign = whose(folder, runs, metadata)
        if (made_in := next((run.workdir for run in reversed(own) if run.workdir), "")) and not same(made_in, folder):
            notes.append(f"{folder} was moved or copied: its newest run was recorded in {made_in}")
        judging = Judging(folder=folder, runs=own, metadata=metadata, selection=selection)
        outputs = judging.outputs()
        chosen = selection.runs(own, outputs)
        site = Site(
            workdir=str(folder),
            runs=own,
            foreign=foreign,
            broken=[(one.run, one.text) for one in judging.broken],
            outputs=outputs,
            images=images.histories(str(folder), own, outputs, judging.conditions),
            conditions=judging.conditions,
            changed=judging.changed,
        )
        notes += judging.notes()
        return cls(site=site, chosen=chosen, edges=_edges(str(folder), metadata, outputs), selection=selection)

    def findings(self) -> list[Finding]:
        """The findings that the selection is about."""
        return self.selection.findings(findings.find(self.site), self.chosen, self.site)


def _edges(workdir: str, metadata: Metadata, outputs: Sequence[OutputAudit]) -> tuple[Edge, ...]:
    rule_of = {path: made.rule for path, made in metadata.outputs.items()}
    rule_of.update({output.path: output.rule for output in outputs if output.rule})

    def made_by(name: str) -> str:
        """The rule that made `name`, or a folder that it lies in: what lies in there is no output of its own."""
        for _ in range(_DEEPEST):
            if not name or name in rule_of:
                break
            name = name.rpartition("/")[0]
        return rule_of.get(name, "")

    found = {
        (before, after)
        for path, made in metadata.outputs.items()
        if (after := rule_of[path])
        for name in made.inputs
        if (before := made_by(name)) and before != after
    }
    return tuple(Edge(workdir=workdir, before=before, after=after) for before, after in sorted(found))
