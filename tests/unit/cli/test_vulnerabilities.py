"""``audit --vulnerabilities``: what a scanner found, in each form of the answer, and bad input."""

import json

import jsonschema
import pytest

from snakemake_apptainer_freshness.audit.render.json import SCHEMA
from tests.support import records


@pytest.fixture
def scanned(place):
    """A folder with one run of one proven image, and a report of trivy on it."""
    image = records.image(place.folder)
    left = [records.output(place.folder, path) for path in ("a.txt", "b.txt")]
    jobs = [records.job(number, "count", one, ran=image) for number, one in enumerate(left)]
    records.write(place.folder, records.run(place.folder, 1, *jobs, images=(image,)))
    found = [{"VulnerabilityID": f"CVE-2026-{n}", "PkgName": "openssl", "Severity": "CRITICAL"} for n in range(12)]
    report = {
        "ArtifactName": image.pinned.removeprefix("docker://"),
        "Metadata": {},
        "Results": [{"Vulnerabilities": found}],
    }
    (place.folder / "trivy.json").write_text(json.dumps(report))
    return place


def test_it_stands_beside_the_image_and_changes_neither_verdict_nor_exit_status(scanned):
    without, answer = scanned.run("audit"), scanned.run("audit", "--vulnerabilities", "trivy.json")
    rows = [row for row in answer.rows if row[0] == "vulnerability"]

    assert answer.status == without.status
    assert [row for row in answer.rows if row not in rows] == without.rows
    assert len(rows) == 12
    assert rows[0][1:4] == ["critical", "CVE-2026-0", "openssl"]
    assert rows[0][-2:] == ["trivy", "digest"]


def test_the_document_has_it_and_fits_its_schema(scanned):
    document = scanned.run("audit", "--json", "--vulnerabilities", "trivy.json").json

    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    assert (document["vulnerability"][0]["outputs"], len(document["vulnerability"][0]["found"])) == (2, 12)
    assert scanned.run("audit", "--json").json["vulnerability"] == []


def test_the_page_has_it(scanned):
    scanned.run("audit", "--vulnerabilities", "trivy.json", "--html", "page.html")

    assert "Each of them: 12 vulnerabilities" in (scanned.folder / "page.html").read_text()


def test_a_person_is_shown_how_many_and_the_worst(scanned, terminal):
    terminal()
    out = scanned.run("audit", "--vulnerabilities", "trivy.json").out

    assert "12 critical" in out
    assert "made 2 outputs; trivy" in out
    assert "… and 2 more" in out


def test_what_is_accepted_is_counted_and_what_is_accepted_no_more_is_a_note(scanned):
    rule = '[[ignore]]\nid = "CVE-2026-{}"\nreason = "looked at"\n'
    (scanned.folder / "ok.toml").write_text(rule.format(1) + rule.format(2) + "until = 2020-01-01\n")
    answer = scanned.run("audit", "--vulnerabilities", "trivy.json", "--ignore-file", "ok.toml")

    assert [row[:2] for row in answer.rows if row[0] == "ignored"] == [["ignored", "1"]]
    assert "CVE-2026-2 is not accepted any more since 2020-01-01" in answer.err


def test_a_scan_of_what_never_ran_is_a_note(scanned):
    (scanned.folder / "other.json").write_text('{"ArtifactName": "quay.io/team/never:1"}')
    answer = scanned.run("audit", "--vulnerabilities", "other.json")

    assert "quay.io/team/never:1 was scanned, and no recorded run ran that image" in answer.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ignore-file", "ok.toml"], "--ignore-file says what of --vulnerabilities is accepted"),
        (["--vulnerabilities", "gone.json"], "there is no file gone.json"),
        (["--vulnerabilities", "."], "there is no file ."),
        (["--vulnerabilities", "text"], "it is not JSON"),
        (["--vulnerabilities", "deep"], "it is not JSON"),
        (["--vulnerabilities", "bytes"], "it is not UTF-8"),
        (["--vulnerabilities", "trivy.json", "--ignore-file", "text"], "it is not TOML"),
    ],
)
def test_bad_input_is_one_clear_error(scanned, arguments, said):
    (scanned.folder / "text").write_text("no such thing")
    (scanned.folder / "deep").write_text("[" * 100_000)
    (scanned.folder / "bytes").write_bytes(b"\xff\xfe")
    answer = scanned.run("audit", *arguments)

    assert (answer.status, answer.out) == (2, "")
    assert said in answer.err
