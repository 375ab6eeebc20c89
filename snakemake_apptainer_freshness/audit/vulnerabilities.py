"""What vulnerability scanners wrote, joined to the images of an audit. Pure; no verdict and no finding is changed.

A verdict says which image made an output, and that stays true whatever is found in the image later. So what a scanner
says stands beside: for each image that ran, what was found in it, and how many outputs it made.

A report is joined by a digest: the index's or the manifest's, which trivy and grype write down and a scan of a pinned
name has in the name. One that names no digest is joined by the name of the image alone, and the answer says so: the tag
may have pointed elsewhere when it was scanned. Formats: trivy (schema version 2), grype, osv-scanner; all JSON.

What was looked at and accepted stands in a file of TOML, ``[[ignore]]`` with ``id`` and ``reason``, and perhaps
``image`` (a shell pattern on the reference), ``package`` and ``until`` (a day). It is counted, never hidden.
"""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from snakemake_apptainer_freshness.audit.results import (
    Audit,
    ImageVulnerabilities,
    ScannedBy,
    Vulnerability,
    VulnerabilitySeverity,
)
from snakemake_apptainer_freshness.common.tables import Damaged, Table, read_toml
from snakemake_apptainer_freshness.errors import FreshnessError, UsageError
from snakemake_apptainer_freshness.image.reference import Reference, parse
from snakemake_apptainer_freshness.image.scheme import Scheme

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_WORDS: Final = {"moderate": VulnerabilitySeverity.MEDIUM, "important": VulnerabilitySeverity.HIGH}
"""Severities that some databases call otherwise."""
_SCORES: Final = (
    (9.0, VulnerabilitySeverity.CRITICAL),
    (7.0, VulnerabilitySeverity.HIGH),
    (4.0, VulnerabilitySeverity.MEDIUM),
    (0.1, VulnerabilitySeverity.LOW),
)
"""From which score on (CVSS 3.1, section 5)."""
_IGNORE_OPTIONAL: Final = frozenset({"image", "package", "until"})
_IGNORE_KEYS: Final = frozenset({"id", "reason"}) | _IGNORE_OPTIONAL


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanReport:
    """What one scan found: the `name` of what was scanned, and the `digests` that the scanner wrote down for it."""

    scanner: str
    name: str
    digests: frozenset[str]
    vulnerabilities: tuple[Vulnerability, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoredVulnerability:
    """One vulnerability that was looked at and accepted, in images whose reference matches; `until` is the last day."""

    id: str
    reason: str
    image: str = "*"
    package: str = ""
    until: date | None = None

    def covers(self, vulnerability: Vulnerability, reference: str, today: date) -> bool:
        """Return whether it accepts `vulnerability` in the image of `reference` on the day `today`."""
        is_it = self.id in (vulnerability.id, *vulnerability.aliases) and self.package in ("", vulnerability.package)
        return is_it and not self.is_over(today) and fnmatch.fnmatchcase(reference, self.image)

    def is_over(self, today: date) -> bool:
        """Return whether its last day is past."""
        return self.until is not None and today > self.until


def reports(document: object, *, source: str) -> list[ScanReport]:
    """Return the scans in a JSON `document` of trivy, grype or osv-scanner; `source` names it in the error.

    Raises
    ------
    UsageError
        where it is none of these.
    """
    try:
        match document:
            case {"ArtifactName": str(name)} if isinstance(document, dict):
                return [_trivy(name, document)]
            case {"matches": list(matches), "source": {"target": target}}:
                return [_grype(matches, target)]
            case {"results": list(results)}:
                return [_osv(result) for result in results]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(source, f"it lacks what such a report has ({type(error).__name__}: {error})") from None
    raise _unreadable(source, "it is no JSON report of trivy, grype or osv-scanner")


def ignored(text: str, *, source: str) -> list[IgnoredVulnerability]:
    """Return the accepted vulnerabilities in the TOML `text` of the file `source`.

    Raises
    ------
    UsageError
        where it is not TOML, or has an entry without an id or a reason, an unknown key, or a value of a wrong type.
    """
    try:
        table = Table(read_toml(text), frozenset({"ignore"}), optional=("ignore",))
        return [_ignored(row) for row in table.children("ignore", _IGNORE_KEYS, optional=_IGNORE_OPTIONAL)]
    except Damaged as error:
        raise _unreadable(source, str(error)) from None


def _ignored(row: Table) -> IgnoredVulnerability:
    return IgnoredVulnerability(
        until=row.day("until") if "until" in row.values else None,
        **{key: row.words(key) for key in row.values if key != "until"},
    )


def joined(
    audit: Audit, scans: Iterable[ScanReport], accepted: Sequence[IgnoredVulnerability], *, today: date
) -> tuple[tuple[ImageVulnerabilities, ...], list[str]]:
    """Return what `scans` found in each image that ran, and the names of scans of no such image, each once.

    `accepted` is counted apart; on `today` it may be so no more.
    """
    images = dict(_images(audit))
    in_images: list[ImageVulnerabilities] = []
    unknown: dict[str, None] = {}
    for scan in scans:
        matches = [(key, by) for key, digests in images.items() if (by := _joins(scan, key[1], digests)) is not None]
        if not matches:
            unknown[scan.name] = None
        in_images += [_of_image(scan, key, by, audit=audit, accepted=accepted, today=today) for key, by in matches]
    in_images.sort(key=lambda scan: (scan.workdir, scan.reference, scan.digest, scan.scanner))
    return tuple(in_images), list(unknown)


def images_of(audit: Audit) -> list[tuple[str, str]]:
    """Return the reference and the digest of each image that ran; the digest is empty where it has none."""
    named = [(image.reference, sighting.digest) for image in audit.images for sighting in image.sightings]
    named += [(output.reference, output.digest) for output in audit.outputs if output.reference]
    return sorted(set(named))


def _images(audit: Audit) -> Iterator[tuple[tuple[str, str, str], frozenset[str]]]:
    """Return each image that ran, with the digests that name it: of its index, and of its manifest."""
    seen = [(image.workdir, image.reference, sighting.digest) for image in audit.images for sighting in image.sightings]
    known = {key: {key[2]} for key in seen if key[2]}
    for output in audit.outputs:
        if output.reference and output.digest:
            key = (output.workdir, output.reference, output.digest)
            known.setdefault(key, {output.digest}).update({output.manifest} - {""})
    return ((key, frozenset(digests)) for key, digests in known.items())


def _joins(scan: ScanReport, reference: str, digests: frozenset[str]) -> ScannedBy | None:
    if scan.digests:
        return ScannedBy.DIGEST if scan.digests & digests else None
    meant = _meant(scan.name)
    return ScannedBy.NAME if meant is not None and meant == _meant(reference) else None


def _meant(name: str) -> Reference | None:
    try:
        return parse(name if "://" in name else f"{Scheme.DOCKER}://{name}")
    except FreshnessError:  # a file or a folder was scanned
        return None


def _of_image(
    scan: ScanReport,
    key: tuple[str, str, str],
    by: ScannedBy,
    *,
    audit: Audit,
    accepted: Sequence[IgnoredVulnerability],
    today: date,
) -> ImageVulnerabilities:
    workdir, reference, digest = key
    is_accepted = [
        any(rule.covers(vulnerability, reference, today) for rule in accepted) for vulnerability in scan.vulnerabilities
    ]
    worst_first = list(VulnerabilitySeverity)
    kept = [
        vulnerability for vulnerability, covered in zip(scan.vulnerabilities, is_accepted, strict=True) if not covered
    ]
    return ImageVulnerabilities(
        workdir=workdir,
        reference=reference,
        digest=digest,
        scanner=scan.scanner,
        joined_by=by,
        vulnerabilities=tuple(
            sorted(
                kept,
                key=lambda vulnerability: (
                    worst_first.index(vulnerability.severity),
                    vulnerability.id,
                    vulnerability.package,
                ),
            )
        ),
        ignored=sum(is_accepted),
        outputs=sum((output.workdir, output.reference, output.digest) == key for output in audit.outputs),
    )


# --- What scanners write ---------------------------------------------------------------------------------------------


def _trivy(name: str, report: Mapping[str, Any]) -> ScanReport:
    metadata = report.get("Metadata") or {}
    vulnerabilities = [
        _vulnerability(
            vulnerability["VulnerabilityID"],
            package=vulnerability.get("PkgName", ""),
            version=vulnerability.get("InstalledVersion", ""),
            fixed=vulnerability.get("FixedVersion", ""),
            severity=_severity(vulnerability.get("Severity", "")),
        )
        for result in report.get("Results") or []
        for vulnerability in result.get("Vulnerabilities") or []
    ]
    names = [name, *(metadata.get("RepoDigests") or [])]
    return ScanReport(scanner="trivy", name=name, digests=_digests(names), vulnerabilities=_unique(vulnerabilities))


def _grype(matches: list[Any], target: Any) -> ScanReport:
    named = target if isinstance(target, dict) else {"userInput": target}
    vulnerabilities = [
        _vulnerability(
            match["vulnerability"]["id"],
            package=match["artifact"]["name"],
            version=match["artifact"].get("version", ""),
            fixed=", ".join((match["vulnerability"].get("fix") or {}).get("versions") or []),
            severity=_severity(match["vulnerability"].get("severity", "")),
            aliases=[other["id"] for other in match.get("relatedVulnerabilities") or []],
        )
        for match in matches
    ]
    name = str(named.get("userInput", ""))
    names = [name, str(named.get("manifestDigest") or ""), *(named.get("repoDigests") or [])]
    return ScanReport(scanner="grype", name=name, digests=_digests(names), vulnerabilities=_unique(vulnerabilities))


def _osv(result: Mapping[str, Any]) -> ScanReport:
    vulnerabilities = []
    for package in result["packages"]:
        scores = {
            known: group.get("max_severity", "") for group in package.get("groups") or [] for known in group["ids"]
        }
        for vulnerability in package.get("vulnerabilities") or []:
            word = (vulnerability.get("database_specific") or {}).get("severity") or scores.get(vulnerability["id"], "")
            vulnerabilities.append(
                _vulnerability(
                    vulnerability["id"],
                    package=package["package"]["name"],
                    version=package["package"].get("version", ""),
                    severity=_severity(str(word)),
                    aliases=vulnerability.get("aliases") or [],
                )
            )
    name = str(result["source"]["path"])
    return ScanReport(
        scanner="osv-scanner", name=name, digests=_digests([name]), vulnerabilities=_unique(vulnerabilities)
    )


def _vulnerability(
    identifier: str,
    *,
    package: str,
    version: str,
    severity: VulnerabilitySeverity,
    fixed: str = "",
    aliases: Iterable[str] = (),
) -> Vulnerability:
    texts = [identifier, package, version, fixed, *aliases]
    if not identifier or not all(isinstance(text, str) for text in texts):
        raise TypeError("an id, a package or a version is no text")
    return Vulnerability(
        id=identifier, package=package, version=version, fixed=fixed, severity=severity, aliases=tuple(texts[4:])
    )


def _unique(vulnerabilities: Iterable[Vulnerability]) -> tuple[Vulnerability, ...]:
    return tuple(dict.fromkeys(vulnerabilities))


def _digests(names: Iterable[str]) -> frozenset[str]:
    return frozenset(digest for name in names for digest in _DIGEST.findall(name))


def _severity(word: str) -> VulnerabilitySeverity:
    """Return what a scanner's word, or its CVSS score, says."""
    word = word.strip().lower()
    if word in VulnerabilitySeverity.__members__.values():
        return VulnerabilitySeverity(word)
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", word):
        return next((severity for least, severity in _SCORES if float(word) >= least), VulnerabilitySeverity.NEGLIGIBLE)
    return _WORDS.get(word, VulnerabilitySeverity.UNKNOWN)


def _unreadable(source: str, problem: str) -> UsageError:
    return UsageError(f"cannot use {source}: {problem}", hint="write it anew with the scanner, or leave it out")
