"""What scanners found stands beside the images that ran: joined by digest, and no verdict depends on it."""

from datetime import date

import pytest

from snakemake_apptainer_freshness.audit.results import ScannedBy, VulnerabilitySeverity
from snakemake_apptainer_freshness.audit.vulnerabilities import ignored, joined, reports
from snakemake_apptainer_freshness.errors import UsageError
from tests.support.audits import sample

TODAY = date(2026, 11, 25)
AUDIT = sample()
[IMAGE, *_] = AUDIT.images
DIGEST = IMAGE.sightings[-1].digest
NAME = IMAGE.reference.removeprefix("docker://")
OTHER = "sha256:" + "0" * 64


def trivy(*digests, name=NAME):
    """As ``trivy image --format json`` of version 0.58 writes it, shortened."""
    return {
        "SchemaVersion": 2,
        "ArtifactName": name,
        "ArtifactType": "container_image",
        "Metadata": {"ImageID": "sha256:" + "1" * 64, "RepoDigests": [f"quay.io/x@{one}" for one in digests]},
        "Results": [
            {
                "Target": "debian 12",
                "Class": "os-pkgs",
                "Vulnerabilities": [
                    {
                        "VulnerabilityID": "CVE-2026-2",
                        "PkgName": "zlib",
                        "InstalledVersion": "1.2",
                        "Severity": "LOW",
                    },
                    {
                        "VulnerabilityID": "CVE-2026-1",
                        "PkgName": "openssl",
                        "InstalledVersion": "3.0",
                        "FixedVersion": "3.1",
                        "Severity": "CRITICAL",
                    },
                ],
            },
            {"Target": "app", "Class": "lang-pkgs"},
        ],
    }


def grype(digest):
    """As ``grype -o json`` of version 0.87 writes it, shortened."""
    return {
        "matches": [
            {
                "vulnerability": {"id": "GHSA-1", "severity": "High", "fix": {"versions": ["2"], "state": "fixed"}},
                "relatedVulnerabilities": [{"id": "CVE-2026-3"}],
                "artifact": {"name": "requests", "version": "1", "type": "python"},
            }
        ],
        "source": {"type": "image", "target": {"userInput": NAME, "manifestDigest": digest, "repoDigests": []}},
        "descriptor": {"name": "grype"},
    }


def osv(name):
    """As ``osv-scanner scan image --format json`` of version 2 writes it, shortened."""
    return {
        "results": [
            {
                "source": {"path": name, "type": "artifact"},
                "packages": [
                    {
                        "package": {"name": "zlib", "version": "1.2", "ecosystem": "Debian:12"},
                        "vulnerabilities": [{"id": "DEBIAN-CVE-2026-2", "aliases": ["CVE-2026-2"]}],
                        "groups": [{"ids": ["DEBIAN-CVE-2026-2"], "max_severity": "7.5"}],
                    }
                ],
            }
        ]
    }


def join(*documents, accepted="", today=TODAY):
    scans = [scan for document in documents for scan in reports(document, source="report.json")]
    return joined(AUDIT, scans, ignored(accepted, source="ignore.toml"), today=today)


@pytest.mark.parametrize(
    ("document", "scanner", "found"),
    [
        (trivy(DIGEST), "trivy", [("CVE-2026-1", "critical", "openssl", "3.1"), ("CVE-2026-2", "low", "zlib", "")]),
        (grype(DIGEST), "grype", [("GHSA-1", "high", "requests", "2")]),
        (osv(f"{NAME.partition(':')[0]}@{DIGEST}"), "osv-scanner", [("DEBIAN-CVE-2026-2", "high", "zlib", "")]),
    ],
    ids=["trivy", "grype", "osv-scanner"],
)
def test_a_report_is_joined_by_the_digest_that_it_names_the_worst_first(document, scanner, found):
    results, unknown = join(document)

    assert unknown == []
    assert {(one.reference, one.digest, one.scanner, one.joined_by) for one in results} >= {
        (IMAGE.reference, DIGEST, scanner, ScannedBy.DIGEST)
    }
    assert [(one.id, one.severity, one.package, one.fixed) for one in results[0].vulnerabilities] == found


def test_a_scan_of_another_image_under_the_same_tag_is_not_taken_for_it():
    assert join(trivy(OTHER)) == ((), [NAME])


def test_a_scan_that_names_no_digest_is_joined_by_its_name_and_says_so():
    results, unknown = join(osv(NAME))

    assert unknown == []
    assert {one.joined_by for one in results} == {ScannedBy.NAME}
    assert {one.reference for one in results} == {IMAGE.reference}


def test_the_manifest_of_an_image_joins_as_its_index_does():
    made = next(one for one in AUDIT.outputs if one.manifest and one.manifest != one.digest)
    results, _ = join(grype(made.manifest))

    assert (made.reference, made.digest) in {(one.reference, one.digest) for one in results}


def test_it_says_how_many_outputs_the_image_made():
    results, _ = join(trivy(DIGEST))

    assert results[0].outputs == sum((one.reference, one.digest) == (IMAGE.reference, DIGEST) for one in AUDIT.outputs)


ACCEPTED = '[[ignore]]\nid = "CVE-2026-3"\nreason = "opens no socket"\n'


@pytest.mark.parametrize(
    ("more", "is_accepted"),
    [
        ("", True),
        ('image = "*"', True),
        ('image = "*/other:*"', False),
        ('package = "requests"', True),
        ('package = "urllib3"', False),
        ("until = 2026-11-25", True),
        ("until = 2026-11-24", False),
    ],
)
def test_what_is_accepted_by_its_id_or_an_alias_is_counted_apart_until_its_last_day(more, is_accepted):
    results, _ = join(grype(DIGEST), accepted=ACCEPTED + more)

    assert (results[0].ignored, len(results[0].vulnerabilities)) == ((1, 0) if is_accepted else (0, 1))


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"matches": []},
        {"results": [{}]},
        {"ArtifactName": "x", "Results": [{"Vulnerabilities": [{"PkgName": "y"}]}]},
        {"ArtifactName": "x", "Results": [{"Vulnerabilities": [{"VulnerabilityID": 3}]}]},
        {"ArtifactName": "x", "Results": 7},
        {"ArtifactName": "x", "Metadata": 3},
        {"matches": [{"vulnerability": {}}], "source": {"target": {}}},
        {"matches": [3], "source": {"target": {}}},
        None,
    ],
)
def test_what_is_no_report_is_one_clear_error(document):
    with pytest.raises(UsageError, match=r"cannot use report\.json: it "):
        reports(document, source="report.json")


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "x = 1",
        "ignore = 3",
        "[[ignore]]\nid = 'CVE-1'",
        "[[ignore]]\nid = 'CVE-1'\nreason = ' '",
        "[[ignore]]\nid = 1\nreason = 'x'",
        "[[ignore]]\nid = 'CVE-1'\nreason = 'x'\nuntil = '2027-01-01'",
        "[[ignore]]\nid = 'CVE-1'\nreason = 'x'\nuntil = 2027-01-01T00:00:00Z",
        "[[ignore]]\nid = 'CVE-1'\nreason = 'x'\nimgae = '*'",
    ],
)
def test_a_file_of_what_is_accepted_is_read_strictly(text):
    with pytest.raises(UsageError, match=r"cannot use ignore\.toml"):
        ignored(text, source="ignore.toml")


@pytest.mark.parametrize(
    ("said", "severity"),
    [
        ("9.8", "critical"),
        ("7.0", "high"),
        ("5", "medium"),
        ("0.0", "negligible"),
        ("MODERATE", "medium"),
        ("?", "unknown"),
    ],
)
def test_a_score_and_another_word_are_severities_too(said, severity):
    document = osv(NAME)
    document["results"][0]["packages"][0]["groups"][0]["max_severity"] = said
    results, _ = join(document)

    assert results[0].vulnerabilities[0].severity is VulnerabilitySeverity(severity)
