"""SIF files with PGP signatures inside: made, carried and checked by the real Apptainer."""

import re
import subprocess

import pytest

from tests.support import images
from tests.support.workflow import READS_MESSAGE


@pytest.fixture
def signed(workspace, repository):
    """A SIF file of one's own, and what to do with it."""
    return SignedSif(workspace, repository("sif"))


class SignedSif:
    def __init__(self, workspace, repository):
        self.workspace = workspace
        self.repository = repository
        self.path = workspace.folder / "own.sif"
        digest = images.push(images.tiny_image("hello"), repository.registry.host, repository.name, "source")
        self.apptainer("pull", str(self.path), repository.pinned(digest))
        self.fingerprint = self.new_key()

    def apptainer(self, *arguments):
        command = ["apptainer", *arguments]
        done = subprocess.run(command, env=self.workspace.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def new_key(self):
        who = ("--name", "Lab", "--email", "lab@lab.example", "--comment", "x", "--password", "")
        self.apptainer("key", "newpair", "--bit-length", "2048", *who, "--push=false")
        return re.findall(r"Fingerprint: +([0-9A-F]{40})", self.apptainer("key", "list"))[-1]

    def sign(self):
        self.apptainer("sign", str(self.path))

    def publish(self):
        """Push the file; gives the reference under which a workflow names it."""
        reference = f"oras://{self.repository.registry.host}/{self.repository.name}:1.0"
        self.apptainer("push", "--allow-unsigned", str(self.path), reference)
        return reference

    def demand(self, fingerprint):
        host = self.repository.registry.host
        self.workspace.write(
            "apptainer-freshness.toml", f'[policy.signed_by.images]\n"{host}" = {{fingerprint = "{fingerprint}"}}\n'
        )
        self.workspace.write("Snakefile", READS_MESSAGE.format(image=self.publish()))


def test_a_file_that_the_key_signed_runs_and_is_checked_once(workspace, signed):
    signed.sign()
    signed.demand(signed.fingerprint)
    workspace.snakemake(flag="true")
    assert workspace.read("message.txt") == "hello\n"

    (workspace.folder / "message.txt").unlink()
    keys = workspace.home / ".apptainer" / "keys"
    keys.rename(keys.with_name("keys-of-yesterday"))  # without them the program could not say it again
    workspace.snakemake(flag="frozen")
    assert workspace.read("message.txt") == "hello\n"


def test_a_file_that_is_not_signed_runs_no_job(workspace, signed):
    signed.demand(signed.fingerprint)
    result = workspace.snakemake(flag="true", fails=True)
    assert f"its SIF file has to be signed inside by PGP key {signed.fingerprint}: " in result.output
    assert "signature not found" in result.output
    assert "rule read" in result.output
    assert not workspace.exists("message.txt")


def test_a_file_that_another_key_of_the_users_keyring_signed_runs_no_job(workspace, signed):
    signed.sign()
    signed.demand("0123456789ABCDEF0123456789ABCDEF01234567")
    result = workspace.snakemake(flag="true", fails=True)
    assert f"it is signed by {signed.fingerprint}" in result.output
    assert not workspace.exists("message.txt")


def test_an_object_that_was_added_after_the_file_was_signed_runs_no_job(workspace, signed):
    signed.sign()
    (workspace.folder / "added").write_text("x")
    # An overlay, which would be mounted over the file system, in an object group of its own.
    adding = ("--datatype", "4", "--parttype", "4", "--partfs", "2", "--partarch", "2", "--groupid", "2")
    signed.apptainer("sif", "add", *adding, str(signed.path), str(workspace.folder / "added"))
    signed.demand(signed.fingerprint)
    result = workspace.snakemake(flag="true", fails=True)
    assert "its SIF file has to be signed inside by" in result.output
    assert not workspace.exists("message.txt")


def test_an_image_that_is_built_here_has_no_signature_inside(workspace, signed):
    digest = signed.repository.push("hello")
    signed.demand(signed.fingerprint)
    workspace.write("Snakefile", READS_MESSAGE.format(image=signed.repository.pinned(digest)))
    result = workspace.snakemake(flag="true", fails=True)
    assert "an image that is built on this machine has no signature inside" in result.output
