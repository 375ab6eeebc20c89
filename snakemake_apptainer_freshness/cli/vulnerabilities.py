"""``audit --vulnerabilities``: the reports of scanners that are read, and how what they found is shown."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from snakemake_apptainer_freshness.cli import output
from snakemake_apptainer_freshness.errors import LocalIOError, UsageError

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.audit.results import Audit, ImageVulnerabilities
    from snakemake_apptainer_freshness.audit.vulnerabilities import IgnoredVulnerability, ScanReport

_LARGEST: Final = 256 * 1024 * 1024
"""Bytes of a report: large images have some tens of megabytes."""
_SHOWN: Final = 10
"""Vulnerabilities of an image that a terminal is shown; a pipe gets all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned:
    """What scanners wrote, and what of it is accepted."""

    scans: "Sequence[ScanReport]" = ()
    accepted: "Sequence[IgnoredVulnerability]" = ()


def read_scans(files: Sequence[Path], accepted: Path | None) -> Scanned:
    """Return the reports in `files`, and what the file `accepted` says of them.

    Raises
    ------
    UsageError
        where a file is no report, or `accepted` is given alone or wrong; LocalIOError where one cannot be read.
    """
    if not files:
        if accepted is not None:
            raise UsageError("--ignore-file says what of --vulnerabilities is accepted", hint="add a scanner's report")
        return Scanned()
    from snakemake_apptainer_freshness.audit.vulnerabilities import ignored, reports

    return Scanned(
        scans=[scan for file in files for scan in reports(_json(file), source=str(file))],
        accepted=[] if accepted is None else ignored(_text(accepted), source=str(accepted)),
    )


def with_vulnerabilities(audit: "Audit", scanned: Scanned) -> "Audit":
    """Return `audit` with what was found in the images that ran; what could not be joined is a note."""
    if not scanned.scans:
        return audit
    from snakemake_apptainer_freshness.audit.vulnerabilities import joined

    today = datetime.now(UTC).date()
    found, unknown = joined(audit, scanned.scans, scanned.accepted, today=today)
    notes = [f"{name} was scanned, and no recorded run ran that image" for name in unknown]
    notes += [f"{one.id} is not accepted any more since {one.until}" for one in scanned.accepted if one.is_over(today)]
    return replace(audit, vulnerabilities=found, notes=(*audit.notes, *notes))


def _json(file: Path) -> object:
    try:
        document: object = json.loads(_text(file))
    except (ValueError, RecursionError):
        raise UsageError(f"cannot use {file}: it is not JSON", hint="write it with the scanner's JSON format") from None
    return document


def _text(file: Path) -> str:
    try:
        if not file.is_file():
            raise UsageError(f"there is no file {file}", hint="check its path")
        if file.stat().st_size > _LARGEST:
            raise UsageError(f"cannot use {file}: larger than {_LARGEST} bytes", hint="scan fewer images at once")
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"cannot use {file}: it is not UTF-8", hint="write it anew with the scanner") from None
    except OSError as error:
        raise LocalIOError(f"cannot read {file}: {error.strerror}", hint="check its permissions") from error


def show(audit: "Audit") -> None:
    """Print what was found in each image: a terminal is shown counts and the worst, a pipe gets a row each."""
    if output.at_terminal(sys.stdout):
        rows = [(_counts(one), _told(one)) for one in audit.vulnerabilities]
        if rows:
            output.line()
        output.table(("vulnerabilities", "image"), rows)
        return
    for one in audit.vulnerabilities:
        for each in one.found:
            cells = (each.severity.value, each.id, each.package, each.version, each.fixed, one.reference, one.digest)
            output.row(("vulnerability", *cells, one.scanner, one.joined_by.value))
        if one.ignored:
            output.row(("ignored", str(one.ignored), one.reference, one.digest, one.scanner))


def _counts(one: "ImageVulnerabilities") -> str:
    counts = Counter(each.severity.value for each in one.found)
    return "\n".join(f"{count} {word}" for word, count in counts.items()) or "none"


def _told(one: "ImageVulnerabilities") -> str:
    how = "" if one.joined_by.value == "digest" else ", joined by its name alone: the tag may have pointed elsewhere"
    accepted = f", {one.ignored} accepted" if one.ignored else ""
    head = f"{one.reference}\n  made {output.counted(one.outputs, 'output')}; {one.scanner}{how}{accepted}"
    worst = [
        f"  {each.id} {each.package} {each.version}{f' (fixed in {each.fixed})' if each.fixed else ''}"
        for each in one.found[:_SHOWN]
    ]
    more = [f"  … and {len(one.found) - _SHOWN:,} more"] if len(one.found) > _SHOWN else []
    return "\n".join([head, *worst, *more])
