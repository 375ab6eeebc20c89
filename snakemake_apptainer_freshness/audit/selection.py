"""What an audit is asked about: all of it, or some runs, some outputs, the time since a day. Pure but for names.

The whole work directory is judged the same way whatever is asked: the pin of a chosen run may have moved since a run
that is not chosen. Then what is not about the chosen is left out.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.audit.findings import WorkDirectory
from snakemake_apptainer_freshness.audit.results import AuditFinding, FindingKind, OutputAudit
from snakemake_apptainer_freshness.audit.verdicts import seconds
from snakemake_apptainer_freshness.errors import UsageError
from snakemake_apptainer_freshness.record.run import OutputRecord, Run

_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is chosen.

    `run` is the identifier of a run or its beginning; `files` are paths as a person typed them, or folders; `since` is
    in seconds since the epoch.
    """

    run: str = ""
    files: tuple[str, ...] = ()
    since: float = 0.0

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self == EVERYTHING

    def outputs(self, known: Mapping[str, OutputRecord | None], folder: Path) -> dict[str, OutputRecord | None]:
        """Return those of the `known` outputs in `folder` that are chosen, and chosen files that are not known."""
        if not self.files:
            return dict(known)
        chosen: dict[str, OutputRecord | None] = {}
        for file in self.files:
            names = _names(file, folder)
            below = tuple(f"{name.rstrip('/')}/" for name in names)
            inside = {path: left for path, left in known.items() if path in names or path.startswith(below)}
            if not inside and (folder / names[-1]).is_file() and not names[-1].startswith(".."):
                inside = {names[-1]: None}
            chosen |= inside
        return chosen

    def keeps(self, output: OutputAudit) -> bool:
        """Return whether `output` is chosen by its run and its time."""
        if self.run and not (output.run and output.run.startswith(self.run)):
            return False
        return not self.since or seconds(output.made_at) >= self.since

    def runs(self, runs: Sequence[Run], outputs: Iterable[OutputAudit]) -> list[Run]:
        """Return the runs that are chosen: by their own name and time, and with chosen files those that made them."""
        makers = {output.run for output in outputs} if self.files else None
        return [
            run
            for run in runs
            if run.id.startswith(self.run)
            and (not self.since or seconds(run.started) >= self.since)
            and (makers is None or run.id in makers)
        ]

    def findings(
        self, findings: Iterable[AuditFinding], runs: Sequence[Run], site: WorkDirectory
    ) -> list[AuditFinding]:
        """Return those findings that are about a chosen output or run, or an image that one of them used."""
        if self.is_everything:
            return list(findings)
        about = {output.path for output in site.outputs} | {run.id for run in runs}
        used = {output.reference for output in site.outputs} | {image.reference for run in runs for image in run.images}
        return [
            finding
            for finding in findings
            if about.intersection(finding.subjects)
            or (finding.kind is FindingKind.BAD_IMAGE and used.intersection(finding.subjects))
        ]

    def check(self, sites: Sequence[WorkDirectory]) -> None:
        """Raise a UsageError where what is chosen is not there."""
        runs = [run.id for site in sites for run in site.runs]
        chosen = {run for run in runs if run.startswith(self.run)}
        if self.run and len(chosen) != 1:
            shown = ", ".join((sorted(chosen) or runs)[-_SHOWN:])
            problem = "several runs begin with" if chosen else "there is no run"
            raise UsageError(f"{problem} {self.run}", hint=f"the last ones are {shown}")
        if self.files and not any(site.outputs for site in sites):
            raise UsageError(
                f"no record and no metadata knows of {', '.join(self.files)}",
                hint="name an output as Snakemake does, or by its path from here; --run and --since leave others out",
            )


EVERYTHING: Final = Selection()


def _names(file: str, folder: Path) -> tuple[str, ...]:
    """Return what Snakemake may call `file`, which a person typed here."""
    absolute = os.path.abspath(file)  # noqa: PTH100  links are kept
    return (os.path.normpath(file), absolute, os.path.relpath(absolute, folder))


def since(text: str) -> float:
    """Return the time that a person's `text` says, in seconds since the epoch; without a zone it is this machine's.

    Raises
    ------
    UsageError
        where it is none, or has not come yet: nothing can have been made since.
    """
    try:
        time = datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"--since cannot be {text!r}", hint="write a day or a time, as in 2026-03-01 or 2026-03-01T08:00"
        ) from None
    if time > datetime.now(UTC):
        raise UsageError(
            f"--since cannot be {text!r}: that is still to come",
            hint=f"it is {datetime.now(UTC):%Y-%m-%d %H:%M} UTC now",
        )
    return time.timestamp()
