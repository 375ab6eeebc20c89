"""After ten years: the registry is gone, the cache is empty, and an archive alone makes the same outputs again."""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import bagit
import pytest

from tests.support import images
from tests.support.registry import RealRegistry
from tests.support.workflow import Workspace

WORKFLOW = Path(__file__).parents[2] / "workflows" / "audited"
RULES = ("count", "rank", "report")
CLI = [sys.executable, "-c", "from snakemake_apptainer_freshness.cli import main; main()"]
OUTPUTS = ("counts/1.txt", "counts/2.txt", "counts/3.txt", "ranking.txt", "report.txt")


@dataclass(frozen=True, kw_only=True)
class Archived:
    """The workspace that was archived, its `archive`, and what was said while that was written."""

    workspace: Workspace
    archive: Path
    said: str


@pytest.fixture(scope="module")
def archived(tmp_path_factory):
    """`workflows/audited`, run and archived; its registry is gone."""
    folder = tmp_path_factory.mktemp("archived")
    workspace = Workspace(folder / "workflow", folder / "home")
    shutil.copytree(WORKFLOW, workspace.folder, dirs_exist_ok=True)
    with RealRegistry(folder / "registry") as registry:
        named = {rule: f"docker://{registry.host}/audited/{rule}:1" for rule in RULES}
        for rule in RULES:
            images.push(images.multi_arch(images.tiny_image(rule), "s390x"), registry.host, f"audited/{rule}", "1")
        text = workspace.read("config.yaml")
        lines = [
            line if line.strip().partition(":")[0] not in named else f"  {line.strip().partition(':')[0]}: PLACE"
            for line in text.splitlines()
        ]
        for rule, reference in named.items():
            lines = [line.replace(f"{rule}: PLACE", f"{rule}: {reference}") for line in lines]
        workspace.write("config.yaml", "\n".join(lines).replace("/etc/os-release", "/message") + "\n")
        git(workspace, "init", "-q")
        workspace.run(*CLI, "lock")
        git(workspace, "add", ".")
        git(workspace, "commit", "-qm", "a")
        workspace.snakemake()
        said = workspace.run(*CLI, "audit", "--archive", folder / "archive")
    return Archived(workspace=workspace, archive=folder / "archive", said=said.stderr)


def git(workspace, *arguments):
    workspace.run("git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments)


def test_the_archive_alone_runs_the_workflow_again_and_gets_the_same_bytes(archived, tmp_path):
    shutil.copytree(archived.archive / "data", tmp_path / "again")
    again = Workspace(tmp_path / "again" / "project", tmp_path / "another home")  # and with it an empty cache
    assert not again.exists(".snakemake/singularity")

    loaded = again.run(*CLI, "bundle", "load", "../images")
    again.snakemake("--config", "apptainer_freshness=frozen")

    assert loaded.stdout.count("built from the layers") == len(RULES)
    for path in OUTPUTS:
        assert again.read(path) == archived.workspace.read(path)


def test_it_says_before_that_each_output_can_be_made_again(archived, tmp_path):
    elsewhere = Workspace(tmp_path, tmp_path / "home")
    said = json.loads(elsewhere.run(*CLI, "audit", "--replay", archived.archive, "--json").stdout)

    assert said["possible"] is True
    assert said["answer"] == "All 6 outputs could be made again from the archive alone."
    assert {one["path"] for one in said["output"]} == {*OUTPUTS, "paragraphs"}
    assert {one["why"] for one in said["output"]} == {
        "its rule needs no image",
        "all that its image is made of is here, and proven",
    }


def test_bundle_load_takes_the_archive_itself(archived, tmp_path):
    there = Workspace(tmp_path / "there", tmp_path / "home")
    there.run(*CLI, "bundle", "load", archived.archive)
    assert there.read("containers.lock") == archived.workspace.read("containers.lock")


def test_sizes_are_told_before_anything_is_written(archived):
    first = archived.said.splitlines()[0]
    assert first.startswith("archive: 3 images, ")
    assert "files, " in first


def test_the_published_validator_of_bags_finds_it_whole(archived):
    bag = bagit.Bag(str(archived.archive))
    bag.validate(processes=1)
    assert bag.info["Payload-Oxum"].endswith(f".{len(bag.payload_entries())}")


def test_sha256sum_finds_it_whole(archived):
    archived.workspace.run("sh", "-c", f"cd {archived.archive} && sha256sum --check --quiet manifest-sha256.txt")


def test_a_second_archive_asks_no_registry_and_writes_no_image_again(archived):
    blob = max((archived.archive / "data/images/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    before = blob.stat().st_ino
    said = archived.workspace.run(
        *CLI, "audit", "--archive", archived.archive, environment={"APPTAINER_CACHEDIR": "/x"}
    )

    assert "are there already" in said.stderr
    assert blob.stat().st_ino == before
    bagit.Bag(str(archived.archive)).validate(processes=1)
    assert [path.name for path in archived.archive.parent.iterdir() if path.name.startswith("archive")] == ["archive"]
