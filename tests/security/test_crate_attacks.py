"""A record was perhaps written by another user: what it names does not get into a crate that is published.

Each test is the attack that its name says.
"""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.errors import UsageError
from tests.support import audits, crates

KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\n"


@pytest.fixture
def audit(tmp_path):
    return crates.at(audits.sample(), tmp_path / "project")


@pytest.fixture
def key(tmp_path, monkeypatch):
    """A private key in the home of the user who makes the crate."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = tmp_path / "home" / ".ssh" / "id_rsa"
    path.parent.mkdir(parents=True)
    path.write_bytes(KEY)
    return path


def changed(audit, **changes):
    """The runs of `audit`, each with the same changes of its record."""
    return replace(audit, runs=tuple(replace(run, **changes) for run in audit.runs))


def bytes_in(folder):
    return [path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()]


def test_crate_that_asks_for_ssh_id_rsa_as_its_snakefile(audit, key, tmp_path):
    source = replace(audit.runs[0].source, snakefile=str(key), sha256=hashlib.sha256(KEY).hexdigest())
    with pytest.raises(UsageError, match="outside of the work directory"):
        crates.write(changed(audit, source=source), tmp_path / "crate")
    assert not (tmp_path / "crate").exists()


def test_crate_that_asks_for_ssh_id_rsa_as_its_lock(audit, key, tmp_path):
    lock = replace(audit.runs[0].lock, path=str(key), sha256=hashlib.sha256(KEY).hexdigest())
    crates.write(changed(audit, lock=lock), tmp_path / "crate")
    assert KEY not in bytes_in(tmp_path / "crate")


def test_crate_that_asks_for_ssh_id_rsa_by_a_path_that_leads_out(audit, key, tmp_path):
    workdir = Path(audit.workdirs[0])
    lock = replace(audit.runs[0].lock, path=f"{workdir}/../home/.ssh/id_rsa", sha256=hashlib.sha256(KEY).hexdigest())
    crates.write(changed(audit, lock=lock), tmp_path / "crate")
    assert KEY not in bytes_in(tmp_path / "crate")


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_crate_that_asks_for_ssh_id_rsa_by_a_symbolic_link(audit, key, tmp_path, linked):
    link = Path(audit.workdirs[0], "link")
    link.symlink_to(key if linked == "file" else key.parent)
    named = link if linked == "file" else link / key.name
    lock = replace(audit.runs[0].lock, path=str(named), sha256=hashlib.sha256(KEY).hexdigest())
    crates.write(changed(audit, lock=lock), tmp_path / "crate")
    assert KEY not in bytes_in(tmp_path / "crate")


def test_crate_that_asks_for_a_file_of_the_project_that_no_record_has_the_hash_of(audit, tmp_path):
    private = Path(audit.workdirs[0], "config", "database.yaml")
    private.parent.mkdir()
    private.write_text("password: hunter2\n")
    lock = replace(audit.runs[0].lock, path=str(private), sha256="0" * 64)
    crates.write(changed(audit, lock=lock), tmp_path / "crate")
    assert b"password: hunter2\n" not in bytes_in(tmp_path / "crate")


@pytest.mark.parametrize("name", ["ro-crate-metadata.json", "ro-crate-preview.html"])
def test_crate_that_replaces_its_metadata(audit, tmp_path, name):
    forged = Path(audit.workdirs[0], "forged", name)
    forged.parent.mkdir()
    forged.write_bytes(b"{}")
    lock = replace(audit.runs[0].lock, path=str(forged), sha256=hashlib.sha256(b"{}").hexdigest())
    crates.write(changed(audit, lock=lock), tmp_path / "crate")
    graph = json.loads((tmp_path / "crate" / "ro-crate-metadata.json").read_text())["@graph"]
    assert next(one for one in graph if one["@id"] == "./")["description"] == audit.answer


def test_crate_whose_snakefile_is_called_like_its_metadata(audit, tmp_path):
    forged = Path(audit.workdirs[0], "ro-crate-metadata.json")
    forged.write_bytes(b"{}")
    source = replace(audit.runs[0].source, snakefile=str(forged), sha256=hashlib.sha256(b"{}").hexdigest())
    crates.write(changed(audit, source=source), tmp_path / "crate")
    assert (tmp_path / "crate" / "Snakefile").read_bytes() == b"{}"
    assert audit.answer in (tmp_path / "crate" / "ro-crate-metadata.json").read_text()


@pytest.mark.parametrize("special", ["fifo", "device"])
def test_crate_that_waits_for_a_fifo_or_reads_a_device_without_end(audit, tmp_path, special):
    at = Path(audit.workdirs[0], "Snakefile")
    os.mkfifo(at) if special == "fifo" else at.symlink_to("/dev/zero")
    source = replace(audit.runs[0].source, snakefile=str(at), sha256="0" * 64)
    with pytest.raises(UsageError, match="crate"):
        crates.write(changed(audit, source=source), tmp_path / "crate")


def test_crate_of_records_with_what_no_document_can_hold(audit, tmp_path):
    image = replace(audit.runs[0].images[0], reference="docker://q.io/\ud800", path="not/absolute\udfff")
    left = replace(audit.runs[0].jobs[0].outputs[0], path="out/\ud800")
    job = replace(audit.runs[0].jobs[0], rule="a\ud800b", wildcards={"x": "\udc00"}, outputs=(left,))
    crates.write(changed(audit, images=(image,), jobs=(job,), user="\ud8ff"), tmp_path / "crate")
    assert json.loads((tmp_path / "crate" / "ro-crate-metadata.json").read_text())["@graph"]
