"""Findings that people have looked at and answer for: a reviewed file, ``audit.toml``, that names them.

::

    version = 1

    [[acknowledged]]
    finding = "mixed-digests"
    subject = "results/*.txt"      # an output, a reference or a run; * and ? stand for any text and any character
    reason = "sample 7 was made again after the upgrade, and compared"
    who = "ada@site.org"
    until = 2027-03-01             # the last day on which it counts

An acknowledged finding is shown with who acknowledged it, until when and why; it is never hidden, and no longer makes
the exit status 1. A finding about outputs is acknowledged where each of them is, another where one of its subjects is.

A work directory can come from another person, and so can a file in it: the file counts only where the person who asks
names it. Pure but for reading it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.audit.results import Acknowledgement, Audit, AuditFinding, FindingKind
from snakemake_apptainer_freshness.common.files import NotAFile, opened_target
from snakemake_apptainer_freshness.common.tables import Table, read_toml
from snakemake_apptainer_freshness.common.text import counted
from snakemake_apptainer_freshness.errors import LocalIOError, UsageError
from snakemake_apptainer_freshness.settings import RECORDS

_VERSION: Final = 1
_KEYS: Final = frozenset({"finding", "subject", "reason", "who", "until"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AcknowledgedFinding:
    """One entry of the file: a kind of finding about what `subject` matches."""

    finding: FindingKind
    subject: str
    acknowledgement: Acknowledgement

    def matches(self, subject: str) -> bool:
        """Return whether it speaks of `subject`."""
        return subject == self.subject or fnmatchcase(subject, self.subject)


def load(path: Path) -> tuple[AcknowledgedFinding, ...]:
    """Read the file at `path`.

    Raises
    ------
    UsageError
        where it is not TOML, lacks a key, or has one with a value that cannot be.
    LocalIOError
        where it cannot be read.
    """
    try:
        with opened_target(path) as file:
            content = file.read(RECORDS.lock_size + 1)
    except (OSError, NotAFile) as error:
        raise LocalIOError(f"cannot read the acknowledgements {path}: {error}", hint="name another file") from error
    if len(content) > RECORDS.lock_size:
        raise UsageError(f"the acknowledgements {path} have over {RECORDS.lock_size} bytes", hint="name another file")
    return parse(content, str(path))


def parse(content: bytes, source: str) -> tuple[AcknowledgedFinding, ...]:
    """Parse the bytes of a file that is called `source`; errors as of :func:`load`."""
    try:
        document = Table.versioned(read_toml(content.decode()), _VERSION, frozenset({"acknowledged"}))
        return tuple(_entry(row) for row in document.children("acknowledged", _KEYS))
    except ValueError as error:  # Damaged, or not UTF-8
        raise UsageError(f"{source}: {error}", hint="mend it; docs/audit.md has an example") from None


def _entry(row: Table) -> AcknowledgedFinding:
    return AcknowledgedFinding(
        finding=row.member("finding", FindingKind),
        subject=row.words("subject"),
        acknowledgement=Acknowledgement(
            reason=row.words("reason").strip(), who=row.words("who").strip(), until=row.day("until").isoformat()
        ),
    )


def acknowledged(audit: Audit, entries: Sequence[AcknowledgedFinding]) -> Audit:
    """Return `audit` with its findings as `entries` acknowledge them on the day that it was made.

    Entries that have ended, and those that speak of nothing that was found, are told in its notes.
    """
    today = audit.made_at[:10]
    current = [entry for entry in entries if entry.acknowledgement.until >= today]
    ended = [entry for entry in entries if entry.acknowledgement.until < today]
    outputs = {(output.workdir, output.path) for output in audit.outputs}
    findings = [replace(finding, acknowledged=_answer(finding, current, outputs)) for finding in audit.findings]
    unused = [entry for entry in current if not _speaks(entry, audit.findings)]
    notes = [
        f"the acknowledgement of {entry.finding} for {entry.subject} by {entry.acknowledgement.who} ended on "
        f"{entry.acknowledgement.until}"
        for entry in ended
        if _speaks(entry, audit.findings)
    ]
    if unused:
        notes.append(
            f"{counted(unused, 'acknowledgement')} {'speaks' if len(unused) == 1 else 'speak'} of nothing that was "
            f"found, such as {unused[0].finding} for {unused[0].subject}"
        )
    return replace(audit, findings=tuple(findings), notes=(*audit.notes, *notes))


def _answer(
    finding: AuditFinding, entries: Iterable[AcknowledgedFinding], outputs: set[tuple[str, str]]
) -> Acknowledgement | None:
    """Return who acknowledged `finding`: of several the acknowledgement that ends first."""
    fitting = [entry for entry in entries if entry.finding is finding.kind]
    about = [subject for subject in finding.subjects if (finding.workdir, subject) in outputs]
    by_subject = [[entry for entry in fitting if entry.matches(subject)] for subject in about or finding.subjects]
    if not (all(by_subject) if about else any(by_subject)):
        return None
    used = [entry.acknowledgement for matching in by_subject for entry in matching[:1]]
    return min(used, key=lambda acknowledgement: acknowledgement.until)


def _speaks(entry: AcknowledgedFinding, findings: Iterable[AuditFinding]) -> bool:
    return any(finding.kind is entry.finding and any(map(entry.matches, finding.subjects)) for finding in findings)
