"""What is kept of where a run comes from, and what is not."""

import getpass
import hashlib
import json
import os
import sys
from types import SimpleNamespace

import pytest

from snakemake_apptainer_freshness.engine import origin
from snakemake_apptainer_freshness.settings import Options


@pytest.fixture
def snakefile(tmp_path):
    path = tmp_path / "Snakefile"
    path.write_text("rule all:\n")
    return path


def run_of(snakefile, config=None, options=None):
    deployment = SimpleNamespace(apptainer_args="")
    workflow = SimpleNamespace(config=config or {}, main_snakefile=str(snakefile), deployment_settings=deployment)
    return origin.run_of(
        workflow, name="20260101T000000.000000Z", started="", previous="", options=options or Options(), lock=None
    )


def test_a_configuration_is_kept_as_its_hash_alone(snakefile):
    config = {"samples": ["a", "b"], "password": "hush"}
    run = run_of(snakefile, config)
    assert (
        run.config_sha256
        == hashlib.sha256(json.dumps(config, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    )
    assert "hush" not in repr(run)


def test_the_order_of_a_configuration_does_not_matter(snakefile):
    assert run_of(snakefile, {"a": 1, "b": 2}).config_sha256 == run_of(snakefile, {"b": 2, "a": 1}).config_sha256


def test_a_configuration_that_is_no_json_has_no_hash(snakefile):
    circle = {}
    circle["self"] = circle
    assert run_of(snakefile, circle).config_sha256 == ""


def test_a_secret_on_the_command_line_is_taken_out(snakefile, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["snakemake", "--config", "api_token=hush", "cores=1"])
    assert "hush" not in repr(run_of(snakefile).command)


def test_the_snakefile_is_named_by_its_hash(snakefile):
    assert run_of(snakefile).source.sha256 == hashlib.sha256(snakefile.read_bytes()).hexdigest()


def test_a_snakefile_from_elsewhere_has_no_hash_and_shows_no_login(tmp_path):
    source = run_of("https://alice:hush@example.org/Snakefile").source
    assert source.sha256 == ""
    assert "hush" not in source.snakefile


def test_a_snakefile_that_is_a_device_is_not_read():
    assert run_of("/dev/zero").source.sha256 == ""


def test_the_user_is_a_number_where_the_system_has_no_name(snakefile, monkeypatch):
    def unknown():
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", unknown)
    assert run_of(snakefile).user == str(os.getuid())


def test_the_lock_is_named_by_its_hash(tmp_path):
    path = tmp_path / "containers.lock"
    assert origin.lock_used(path) == (None, None)
    path.write_bytes(b"version = 1\n")
    used, content = origin.lock_used(path)
    assert (used.sha256, content) == (hashlib.sha256(content).hexdigest(), b"version = 1\n")


def test_a_lock_that_is_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "containers.lock")
    assert origin.lock_used(tmp_path / "containers.lock") == (None, None)
