"""What a scanner is told, and what is made of its end; with a small program in place of trivy."""

import json
import os
import sys

import pytest

from snakemake_apptainer_freshness.actions import scan as module
from snakemake_apptainer_freshness.actions.scan import find_scanner, name_to_scan, scan
from snakemake_apptainer_freshness.common.environment import OFFLINE
from snakemake_apptainer_freshness.errors import MissingProgram, Offline, SourceError
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.settings import SCANS

NAME = f"quay.io/team/tool@sha256:{'1' * 64}"
TELL = "import json, os, sys; print(json.dumps([sys.argv[1:], os.listdir('.'), sys.stdin.read(), dict(os.environ)]))"


@pytest.fixture
def trivy(tmp_path):
    """Makes a program that runs `code`."""

    def make(code):
        program = tmp_path / "bin" / "trivy"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!{sys.executable} -S\n{code}\n")
        program.chmod(0o755)
        return program

    return make


def scanned(program, environ=None):
    return scan(program, NAME, Platform.parse("linux/arm64"), environ or {"PATH": os.defpath})


def test_it_is_told_the_digest_the_platform_and_to_ask_the_registry(trivy):
    arguments, *_ = json.loads(scanned(trivy(TELL)))

    assert arguments[0] == "image"
    assert arguments[-2:] == ["--", NAME]
    for option, value in (("--platform", "linux/arm64"), ("--image-src", "remote"), ("--format", "json")):
        assert arguments[arguments.index(option) + 1] == value


def test_it_runs_in_an_empty_folder_without_input_in_the_environment_that_was_given(trivy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OURS", "x")
    (tmp_path / ".trivyignore").write_text("CVE-2026-1\n")
    _, files, given, environ = json.loads(scanned(trivy(TELL), {"PATH": os.defpath, "TRIVY_USERNAME": "me"}))

    assert (files, given) == ([], "")
    assert environ["TRIVY_USERNAME"] == "me"
    assert "OURS" not in environ


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit('first\\nFATAL: no such image\\n\\n')", "ended with status 1: FATAL: no such image"),
        ("import sys; sys.exit(3)", "ended with status 3: it said nothing"),
    ],
)
def test_a_scanner_that_fails_is_quoted(trivy, code, said):
    with pytest.raises(SourceError, match=said) as failed:
        scanned(trivy(code))
    assert NAME in failed.value.message
    assert failed.value.hint == f"run it by hand: trivy image {NAME}"


def test_a_scanner_without_an_end_is_given_up(trivy, monkeypatch):
    monkeypatch.setattr(module, "SCANS", SCANS._replace(timeout=0.2))
    with pytest.raises(SourceError, match="more than 0 seconds"):
        scanned(trivy("import time; time.sleep(60)"))


def test_a_report_without_an_end_is_not_read(trivy, monkeypatch):
    monkeypatch.setattr(module, "SCANS", SCANS._replace(report_size=10))
    assert scanned(trivy("print('x' * 9)")) == b"x" * 9 + b"\n"
    with pytest.raises(SourceError, match="more than 10 bytes"):
        scanned(trivy("print('x' * 10)"))


def test_a_program_that_does_not_start_is_told(tmp_path):
    with pytest.raises(SourceError, match="No such file"):
        scanned(tmp_path / "none")


def test_the_scanner_is_the_one_on_the_path(trivy):
    program = trivy("pass")
    assert find_scanner({"PATH": str(program.parent)}) == program
    with pytest.raises(MissingProgram, match="no trivy on PATH"):
        find_scanner({"PATH": "/nowhere"})


def test_without_a_network_there_is_no_scan(trivy):
    with pytest.raises(Offline):
        find_scanner({"PATH": str(trivy("pass").parent), OFFLINE: "1"})


@pytest.mark.parametrize(
    ("reference", "digest", "name"),
    [
        ("docker://ubuntu:24.04", f"sha256:{'1' * 64}", f"docker.io/library/ubuntu@sha256:{'1' * 64}"),
        ("oras://quay.io/team/tool:1", f"sha256:{'1' * 64}", None),
        ("docker://quay.io/team/tool:1", "", None),
        ("docker://--output=/etc/x", f"sha256:{'1' * 64}", None),
        ("image.sif", f"sha256:{'1' * 64}", None),
    ],
)
def test_only_what_a_digest_names_in_a_registry_is_scanned(reference, digest, name):
    assert name_to_scan(reference, digest) == name
