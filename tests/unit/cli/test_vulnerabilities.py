"""``audit --vulnerabilities``: what a scanner found, in each form of the answer, and bad input."""

import json
import re
import sys

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
    assert re.search(r"sha256:[0-9a-f]{12} *\n +made 2 outputs; trivy", out)
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
        (["--vulnerabilities", "trivy.json", "--ignore-file", "text"], "not valid TOML"),
    ],
)
def test_bad_input_is_one_clear_error(scanned, arguments, said):
    (scanned.folder / "text").write_text("no such thing")
    (scanned.folder / "deep").write_text("[" * 100_000)
    (scanned.folder / "bytes").write_bytes(b"\xff\xfe")
    answer = scanned.run("audit", *arguments)

    assert (answer.status, answer.out) == (2, "")
    assert said in answer.err


def as_trivy_writes_it(name):
    """What trivy 0.59.1 wrote of an image of the test registry with one package, shortened by what is not read."""
    found = {
        "VulnerabilityID": "CVE-2026-1",
        "PkgID": "openssl@3.0.1",
        "PkgName": "openssl",
        "PkgIdentifier": {"PURL": "pkg:deb/debian/openssl@3.0.1?arch=amd64&distro=debian-12"},
        "InstalledVersion": "3.0.1",
        "FixedVersion": "3.0.9",
        "Status": "fixed",
        "SeveritySource": "debian",
        "Title": "a hole",
        "Severity": "HIGH",
    }
    target = {"Target": f"{name} (debian 12)", "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": [found]}
    return {
        "SchemaVersion": 2,
        "CreatedAt": "2026-11-28T17:54:37.991661852Z",
        "ArtifactName": name,
        "ArtifactType": "container_image",
        "Metadata": {"ImageID": f"sha256:{'4' * 64}", "RepoDigests": [name], "ImageConfig": {"os": "linux"}},
        "Results": [target],
    }


@pytest.fixture
def on_path(scanned, monkeypatch):
    """Puts a small program called trivy on PATH: it writes down how it was called and where, and then runs `code`."""

    def put(code):
        program = scanned.home / "bin" / "trivy"
        program.parent.mkdir()
        called = scanned.home / "called.json"
        program.write_text(
            f"#!{sys.executable}\nimport json, os, pathlib, sys\nname = sys.argv[-1]\n"
            f"pathlib.Path({str(called)!r}).write_text(json.dumps([sys.argv[1:], os.listdir()]))\n{code}\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent))
        return called

    return put


@pytest.fixture
def trivy(on_path):
    text = json.dumps(as_trivy_writes_it("NAME"))
    return on_path(f"print({text!r}.replace('NAME', name))")


def test_a_scan_names_each_image_by_its_digest_and_is_joined_by_it(scanned, trivy):
    answer = scanned.run("audit", "--scan", "--json")
    arguments, _ = json.loads(trivy.read_text())
    [found] = answer.json["vulnerability"]

    assert arguments[0] == "image"
    assert arguments[-2:] == ["--", f"quay.io/team/tool@{found['digest']}"]
    assert (found["scanner"], found["joined_by"], found["found"][0]["fixed"]) == ("trivy", "digest", "3.0.9")
    assert answer.status == scanned.run("audit").status


def test_an_ignore_file_planted_in_the_work_directory_hides_nothing(scanned, trivy, monkeypatch):
    (scanned.folder / ".trivyignore").write_text("CVE-2026-1\n")
    monkeypatch.chdir(scanned.folder)

    assert "CVE-2026-1" in scanned.run("audit", "--scan").out
    assert json.loads(trivy.read_text())[1] == []


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("sys.exit('2026 FATAL no database')", "trivy ended with status 1: 2026 FATAL no database"),
        ("sys.exit(7)", "trivy ended with status 7: it said nothing"),
        ("print('no report')", "it is not JSON"),
        ("print('{}')", "it is no JSON report"),
    ],
)
def test_what_cannot_be_scanned_is_told_and_the_rest_is_answered(scanned, on_path, code, said):
    on_path(code)
    without, answer = scanned.run("audit"), scanned.run("audit", "--scan")

    assert answer.status == 3
    assert answer.rows == without.rows
    assert said in answer.err


def test_a_scanner_that_takes_too_long_or_writes_too_much_is_told(scanned, on_path, monkeypatch):
    from snakemake_apptainer_freshness.actions import scan

    on_path("print('x' * 100, flush=True)\nimport time; time.sleep(float(os.environ['NAP']))")
    monkeypatch.setattr(scan, "SCANS", scan.SCANS._replace(report_size=99, timeout=1.0))
    monkeypatch.setenv("NAP", "0")
    assert "its report has more than 99 bytes" in scanned.run("audit", "--scan").err
    monkeypatch.setenv("NAP", "60")
    assert "it took more than 1 seconds" in scanned.run("audit", "--scan").err


def test_without_the_scanner_or_a_network_it_is_one_error_before_anything_is_looked_at(scanned, trivy, monkeypatch):
    offline = scanned.run("audit", "--scan", "--offline")
    monkeypatch.setenv("PATH", "/nowhere")
    missing = scanned.run("audit", "--scan")

    assert (offline.status, offline.out) == (3, "")
    assert "cannot scan images without a network" in offline.err
    assert (missing.status, missing.out) == (2, "")
    assert "there is no trivy on PATH" in missing.err
    assert not trivy.exists()
