"""Seals are signatures of the real ssh-keygen: of these bytes, in our namespace, by an allowed signer."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.errors import LocalIOError, MissingProgram, UsageError
from snakemake_apptainer_freshness.record import seal
from snakemake_apptainer_freshness.record.journal import read_all
from snakemake_apptainer_freshness.record.run import Ending
from snakemake_apptainer_freshness.record.seal import NAMESPACE, SealState, check, seal_of, sign
from tests.support import journals, ssh


@pytest.fixture
def run(tmp_path):
    journals.write(tmp_path)
    return read_all(tmp_path)[0]


@pytest.fixture
def key(tmp_path):
    return ssh.key(tmp_path / "keys")


def test_a_seal_by_an_allowed_signer_is_good_and_says_who_it_was(run, key, tmp_path):
    sign(run, key)
    found = check(run, ssh.allowed(tmp_path, ada=key))

    assert (found.state, found.signer) == (SealState.GOOD, "ada")
    assert found.key.startswith("ED25519 key SHA256:")


def test_what_ssh_keygen_verifies_by_hand_is_a_seal(run, key, tmp_path):
    path = sign(run, key)
    command = ["ssh-keygen", "-Y", "verify", "-f", ssh.allowed(tmp_path, ada=key), "-I", "ada", "-n", NAMESPACE]
    with Path(run.file).open("rb") as record:
        subprocess.run([*command, "-s", path], stdin=record, check=True, stdout=subprocess.DEVNULL)


def test_without_allowed_signers_a_seal_is_unchecked(run, key):
    sign(run, key)

    assert check(run, None).state is SealState.UNCHECKED


def test_a_seal_by_somebody_else_is_a_strangers(run, key, tmp_path):
    sign(run, key)
    found = check(run, ssh.allowed(tmp_path, ada=ssh.key(tmp_path, "other")))

    assert (found.state, found.signer) == (SealState.STRANGER, "")


def test_a_record_without_a_seal_has_none(run):
    assert check(run, None) is None


def test_a_public_key_needs_an_agent_and_the_error_says_what_to_try(run, key):
    key.unlink()

    with pytest.raises(LocalIOError, match="cannot seal the record") as raised:
        sign(run, key.with_name(f"{key.name}.pub"))
    assert "agent" in raised.value.hint
    assert not seal_of(Path(run.file)).exists()


def test_a_run_that_goes_on_is_not_sealed(run, key):
    with pytest.raises(UsageError, match="is under way"):
        sign(replace(run, ending=Ending.RUNNING), key)


def test_a_record_that_is_none_is_not_sealed(run, key):
    with pytest.raises(UsageError, match="it is a folder"):
        sign(replace(run, started="", problem="it is a folder"), key)


def test_a_key_that_is_not_there(run, tmp_path):
    with pytest.raises(UsageError, match="is not a file"):
        sign(run, tmp_path / "none")


def test_the_first_key_of_the_home_folder_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UsageError, match="no SSH key"):
        seal.default_key()
    made = ssh.key(tmp_path / ".ssh")

    assert seal.default_key() == made


def test_where_there_is_no_ssh_keygen_it_is_named(run, key, monkeypatch):
    sign(run, key)
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(MissingProgram, match="ssh-keygen"):
        check(run, None)


def test_a_seal_that_is_a_fifo_is_not_waited_for(run):
    os.mkfifo(f"{run.file}.sig")

    assert check(run, None).state is SealState.BROKEN
