"""A clone that brings an image file, its record and whatever else: it runs what the lock names, or nothing.

Each test is the attack that its name says. The image's label claims the pinned digest, and its content is another's.
"""

import json
import shutil
import sys

import pytest

from snakemake_apptainer_freshness.common.environment import CHECK_EVERY
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store.prefix import INDEX, image_path
from tests.support.pins import plant_record
from tests.support.workflow import READS_MESSAGE, Workspace

CLI = [sys.executable, "-c", "from snakemake_apptainer_freshness.cli import main; main()"]


class Clone:
    """A workflow with an honest lock; `image` is where the evil image lies in what a victim clones."""

    def __init__(self, tool, folder):
        self.tool = tool
        self.digest = tool.push("original")
        evil = tool.push("evil", tag="evil")
        mallory = Workspace(folder / "mallory", folder / "home of mallory")
        mallory.write("Snakefile", READS_MESSAGE.format(image=tool.reference))
        mallory.snakemake(flag="lock")
        mallory.run("apptainer", "pull", "evil.sif", tool.pinned(evil))
        self.workspace = Workspace(folder / "victim", folder / "home of the victim")
        for name in ("Snakefile", "containers.lock"):
            shutil.copy(mallory.folder / name, self.workspace.folder)
        pinned = parse(tool.pinned(self.digest))
        digest = Digest.parse(self.digest)
        self.pin = Pin.held_to(pinned=pinned, reference=parse(tool.reference), digest=digest)
        self.image = image_path(self.workspace.folder / ".snakemake" / "singularity", self.pin.url)
        self.image.parent.mkdir(parents=True)
        content = (mallory.folder / "evil.sif").read_bytes()
        assert content.count(evil.encode()) >= 2
        self.image.write_bytes(content.replace(evil.encode(), self.digest.encode()))
        self.image.chmod(0o755)
        plant_record(self.image, self.pin)
        (self.image.parent / INDEX).write_text(json.dumps({"version": 1, "images": {}}))
        # a state folder in the clone is not the user's
        shutil.copytree(mallory.home / ".local" / "state", self.workspace.folder / ".local" / "state")

    def verify(self, *arguments):
        """What ``verify`` says of the image."""
        answer = self.workspace.run(*CLI, "verify", *arguments, "--json", fails=True)
        return json.loads(answer.stdout)["image"][0]["state"]


@pytest.fixture
def clone(repository, tmp_path):
    return Clone(repository(), tmp_path)


@pytest.mark.parametrize("mode", ["lock", "update", "locked"])
def test_planted_image_and_record_in_a_clone_where_images_can_be_fetched(clone, mode):
    assert clone.verify() == "bound"
    result = clone.workspace.snakemake(flag=mode)

    assert clone.workspace.read("message.txt") == "original\n"
    assert "moved aside" in result.output
    assert "it is not what" in result.output


@pytest.mark.parametrize("flag", ["frozen", "{mode: frozen, on_unverified: warn}", "{on_unverified: error}"])
def test_planted_image_and_record_in_a_clone_where_nothing_may_be_fetched(clone, flag):
    result = clone.workspace.snakemake(flag=flag, fails=True)

    assert not clone.workspace.exists("message.txt")
    assert "is not proven to be what the lock names" in result.output


def test_forged_label_is_found_out_by_verify_deep(clone):
    assert clone.verify("--deep") == "stale"
    assert clone.verify() == "stale"


def test_an_honest_image_of_another_user_is_proven_once_and_then_known(clone):
    """An image that came with a clone, and is what its label says, is compared with its layers and not fetched."""
    other = Workspace(clone.workspace.folder.parent / "other", clone.workspace.folder.parent / "other home")
    other.run("apptainer", "pull", "--force", clone.image, clone.pin.url)
    result = clone.workspace.snakemake(flag="lock")
    again = clone.workspace.snakemake("--forceall", flag="frozen")

    assert "proven by comparison with its layers" in result.output
    assert "Pulling singularity image" not in result.output
    assert "comparing" not in again.output
    assert clone.workspace.read("message.txt") == "original\n"


def test_answers_that_come_with_a_work_directory_are_not_read(repository, workspace):
    tool = repository()
    tool.push("original")
    workspace.write("Snakefile", READS_MESSAGE.format(image=tool.reference))
    remembering = {CHECK_EVERY: "15m"}
    workspace.snakemake(flag="lock", environment=remembering)
    honest = workspace.home / ".local/state/apptainer-freshness/answers"
    for place in (".snakemake/apptainer-freshness", ".local/state/apptainer-freshness", "apptainer-freshness"):
        shutil.copytree(honest, workspace.folder / place / "answers", dirs_exist_ok=True)
    shutil.rmtree(honest)
    tool.push("updated")
    assert ": 1 moved" in workspace.snakemake("--forceall", flag="lock", environment=remembering).ours[0]
