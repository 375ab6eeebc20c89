"""Two workflows share an image folder: whatever one of them cleans up, the other's images stay."""

import json
import sys

import pytest

from tests.support.workflow import READS_MESSAGE, Workspace

CLI = [sys.executable, "-c", "from snakemake_apptainer_freshness.cli import main; main()"]


class Sharing:
    """A workflow that reads a message out of its image, in a folder that it shares."""

    def __init__(self, folder, name, repository):
        self.prefix = folder / "images"
        self.repository = repository(name)
        self.repository.push(f"{name}, old")
        self.workspace = Workspace(folder / name, folder / "home")
        self.workspace.write("Snakefile", READS_MESSAGE.format(image=self.repository.reference))

    def snakemake(self, *arguments, flag="lock", sdm=True):
        return self.workspace.snakemake("--apptainer-prefix", self.prefix, *arguments, flag=flag, sdm=sdm)

    def gc(self, *arguments, fails=False):
        answer = self.workspace.run(*CLI, "gc", "--prefix", self.prefix, "--json", *arguments, fails=fails)
        return json.loads(answer.stdout)

    @property
    def images(self):
        return {path.name for path in self.prefix.glob("*.simg")}


@pytest.fixture
def sharing(tmp_path, repository):
    return Sharing(tmp_path, "one", repository), Sharing(tmp_path, "two", repository)


def test_a_clean_up_takes_what_no_lock_needs_and_never_the_others_images(sharing):
    one, two = sharing
    two.snakemake()
    theirs = two.images
    one.snakemake()
    [old] = one.images - theirs
    assert one.gc("--yes")["waste"] == []

    one.repository.push("one, new")
    one.snakemake(flag="update")
    [new] = one.images - theirs - {old}
    found = one.gc(fails=True)["waste"]
    assert [(waste["what"], waste["path"]) for waste in found] == [("image", str(one.prefix / old))]

    result = one.snakemake("--container-cleanup-images")
    assert "apptainer-freshness: keeping an image that is not used here, since a lock needs it" in result.output
    assert one.images == theirs | {new}
    assert one.gc("--yes")["waste"] == []

    two.snakemake("--container-cleanup-images", sdm=False)
    assert two.images == theirs | {new}
    (two.workspace.folder / "message.txt").unlink()
    two.snakemake(flag="frozen")
    assert two.workspace.read("message.txt").strip() == "two, old"
