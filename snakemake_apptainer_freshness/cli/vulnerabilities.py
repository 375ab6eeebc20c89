"""``audit --vulnerabilities`` and ``--scan``: reports of scanners that are read or made, and how they are shown."""

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from snakemake_apptainer_freshness.cli import output
from snakemake_apptainer_freshness.errors import LocalIOError, SourceError, UsageError
from snakemake_apptainer_freshness.settings import SCANS

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.audit.results import Audit, ImageVulnerabilities
    from snakemake_apptainer_freshness.audit.vulnerabilities import IgnoredVulnerability, ScanReport

_SHOWN: Final = 10
"""Vulnerabilities of an image that a terminal is shown; a pipe gets all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned:
    """What scanners wrote, and what of it is accepted; `scanner` is the one to run now, None where none is.

    `failed` says that some image could not be scanned.
    """

    scans: "Sequence[ScanReport]" = ()
    accepted: "Sequence[IgnoredVulnerability]" = ()
    scanner: Path | None = None
    failed: bool = False


def read_scans(files: Sequence[Path], accepted: Path | None, *, now: bool) -> Scanned:
    """Return the reports in `files`, what the file `accepted` says of them, and the scanner to run `now`.

    Raises
    ------
    UsageError
        where a file is no report, `accepted` is given alone or wrong, or there is no scanner; LocalIOError where a file
        cannot be read.
    """
    if not files and not now:
        if accepted is not None:
            raise UsageError("--ignore-file says what of --vulnerabilities is accepted", hint="add a scanner's report")
        return Scanned()
    from snakemake_apptainer_freshness.actions.scan import find_scanner
    from snakemake_apptainer_freshness.audit.vulnerabilities import ignored, reports

    return Scanned(
        scanner=find_scanner(os.environ) if now else None,
        scans=[scan for file in files for scan in reports(_json(file), source=str(file))],
        accepted=[] if accepted is None else ignored(_text(accepted), source=str(accepted)),
    )


def with_scans(audit: "Audit", scanned: Scanned) -> Scanned:
    """Return `scanned` with what its scanner finds in each image that ran; what it cannot scan is told."""
    if scanned.scanner is None:
        return scanned
    from snakemake_apptainer_freshness.actions.scan import name_to_scan, scan
    from snakemake_apptainer_freshness.audit.vulnerabilities import images_of, reports
    from snakemake_apptainer_freshness.common.progress import ProgressBars
    from snakemake_apptainer_freshness.image.platform import Platform

    made, failed, names = [*scanned.scans], False, dict.fromkeys(images_of(audit))
    for name in dict.fromkeys(name for image in names if (name := name_to_scan(*image)) is not None):
        with ProgressBars() as bars:
            bars.begin(f"scanning {name}")
            try:
                content = scan(scanned.scanner, name, Platform.here(), os.environ)
                made += reports(_parsed(content.decode(errors="replace"), f"the report on {name}"), source=name)
            except (SourceError, UsageError) as error:
                failed = True
                problem = error.message
            else:
                continue
        output.note(f"note: {problem}")
    for reference, digest in names:
        if name_to_scan(reference, digest) is None:
            output.note(f"note: {reference} is not scanned: trivy can be given no digest of it")
    return replace(scanned, scans=made, failed=failed)


def with_vulnerabilities(audit: "Audit", scanned: Scanned) -> "Audit":
    """Return `audit` with what was found in the images that ran; what could not be joined is a note."""
    if not scanned.scans:
        return audit
    from snakemake_apptainer_freshness.audit.vulnerabilities import joined

    today = datetime.now(UTC).date()
    scans, unknown = joined(audit, scanned.scans, scanned.accepted, today=today)
    notes = [f"{name} was scanned, and no recorded run ran that image" for name in unknown]
    notes += [
        f"{entry.id} is not accepted any more since {entry.until}" for entry in scanned.accepted if entry.is_over(today)
    ]
    return replace(audit, vulnerabilities=scans, notes=(*audit.notes, *notes))


def _json(file: Path) -> object:
    return _parsed(_text(file), str(file))


def _parsed(text: str, source: str) -> object:
    try:
        document: object = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(
            f"cannot use {source}: it is not JSON", hint="write it with the scanner's JSON format"
        ) from None
    return document


def _text(file: Path) -> str:
    try:
        if not file.is_file():
            raise UsageError(f"there is no file {file}", hint="check its path")
        if file.stat().st_size > SCANS.report_size:
            raise UsageError(
                f"cannot use {file}: larger than {SCANS.report_size} bytes", hint="scan fewer images at once"
            )
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"cannot use {file}: it is not UTF-8", hint="write it anew with the scanner") from None
    except OSError as error:
        raise LocalIOError(f"cannot read {file}: {error.strerror}", hint="check its permissions") from error


def show(audit: "Audit") -> None:
    """Print what was found in each image: a terminal is shown counts and the worst, a pipe gets a row each."""
    if output.at_terminal(sys.stdout):
        rows = [(_counts(scan), _summary(scan)) for scan in audit.vulnerabilities]
        if rows:
            output.line()
        output.table(("vulnerabilities", "image"), rows)
        return
    for scan in audit.vulnerabilities:
        for each in scan.vulnerabilities:
            cells = (each.severity.value, each.id, each.package, each.version, each.fixed, scan.reference, scan.digest)
            output.row(("vulnerability", *cells, scan.scanner, scan.joined_by.value))
        if scan.ignored:
            output.row(("ignored", str(scan.ignored), scan.reference, scan.digest, scan.scanner))


def _counts(scan: "ImageVulnerabilities") -> str:
    counts = Counter(each.severity.value for each in scan.vulnerabilities)
    return "\n".join(f"{count} {word}" for word, count in counts.items()) or "none"


def _summary(scan: "ImageVulnerabilities") -> str:
    from snakemake_apptainer_freshness.common.text import short

    how = "" if scan.joined_by.value == "digest" else ", joined by its name alone: the tag may have pointed elsewhere"
    accepted = f", {scan.ignored} accepted" if scan.ignored else ""
    digest = f"  {short(scan.digest)}\n" if scan.digest else ""
    head = f"{scan.reference}\n{digest}  made {output.counted(scan.outputs, 'output')}; {scan.scanner}{how}{accepted}"
    worst = [
        f"  {each.id} {each.package} {each.version}{f' (fixed in {each.fixed})' if each.fixed else ''}"
        for each in scan.vulnerabilities[:_SHOWN]
    ]
    more = [f"  … and {len(scan.vulnerabilities) - _SHOWN:,} more"] if len(scan.vulnerabilities) > _SHOWN else []
    return "\n".join([head, *worst, *more])
