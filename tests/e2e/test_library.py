"""A site's library of images: used where they lie once they are proven, and never written to.

With the real Snakemake, Apptainer and registry; the library is a read-only mount for whatever runs.
"""

from __future__ import annotations

import json
import sys

import pytest

from tests.support.clusters import make_cluster
from tests.support.mounts import with_read_only
from tests.support.workflow import READS_MESSAGE, Workspace

VARIABLE = "SNAKEMAKE_APPTAINER_FRESHNESS_IMAGES"
CLI = (sys.executable, "-c", "from snakemake_apptainer_freshness.cli import main; main()")


class Site:
    """A library that another account filled with Apptainer alone, and a user's workflow."""

    def __init__(self, folder, repository):
        self.library = folder / "library"
        (self.library / "tools").mkdir(parents=True)
        self.facility = Workspace(folder / "facility", folder / "home of the facility")
        self.workspace = Workspace(folder / "workflow", folder / "home")
        self.workspace.environment[VARIABLE] = str(self.library)
        self.tool = repository("tool")
        self.digest = self.tool.push("original")
        self.workspace.write("Snakefile", READS_MESSAGE.format(image=self.tool.reference))

    def serve(self, reference, name, *, sandbox=False):
        """Put the image of `reference` into the library under `name`."""
        path = self.library / "tools" / name
        how = ("build", "--sandbox") if sandbox else ("pull",)
        self.facility.run("apptainer", *how, path, reference)
        return path

    def snakemake(self, *arguments, flag="lock", fails=False):
        """Run the workflow, for which the library is a read-only mount."""
        command = [sys.executable, "-m", "snakemake", *self.workspace.snakemake_arguments(), *arguments]
        command += ["--config", f"apptainer_freshness={flag}"]
        return self.workspace.run(*with_read_only(self.library), *command, fails=fails)

    def cli(self, *arguments, fails=False):
        """Run our command line, for which the library is a read-only mount."""
        return self.workspace.run(*with_read_only(self.library), *CLI, *arguments, fails=fails)

    @property
    def fetched(self):
        """The images in Snakemake's own folder."""
        folder = self.workspace.folder / ".snakemake" / "singularity"
        return [path for path in folder.glob("*.simg") if not path.is_symlink()]

    def state(self):
        """What is in the library, with the times that writing would change."""
        return {
            path: (path.lstat().st_mtime_ns, path.lstat().st_ctime_ns, path.lstat().st_size)
            for path in [self.library, *self.library.rglob("*")]
        }


@pytest.fixture
def site(tmp_path, repository):
    return Site(tmp_path, repository)


def test_an_image_under_any_name_is_compared_once_and_used_in_place(site):
    image = site.serve(site.tool.pinned(site.digest), "whatever,it=is+called:1")
    before = site.state()
    first = site.snakemake()
    assert site.workspace.read("message.txt") == "original\n"
    assert f"used in place, {image}: proven by comparison with its layers" in first.output
    assert "Pulling" not in first.output

    again = site.snakemake("--forceall", flag="frozen")
    assert "comparing" not in again.output
    assert site.fetched == []
    assert site.state() == before

    audited = json.loads(site.workspace.freshness("audit", "--json").stdout)
    assert [output["verdict"] for output in audited["output"]] == ["proven"], audited["output"]
    [row] = json.loads(site.cli("verify", "--json").stdout)["image"][:1]
    assert (row["state"], row["path"]) == ("verified", str(image))


def test_an_image_that_was_pulled_by_its_tag_is_compared_with_what_the_tag_is_pinned_to(site):
    image = site.serve(site.tool.reference, "tool_1.0.sif")
    assert f"used in place, {image}" in site.snakemake().output
    assert site.fetched == []


def test_a_sandbox_folder_is_proven_and_used_like_a_sif(site):
    box = site.serve(site.tool.pinned(site.digest), "box", sandbox=True)
    before = site.state()
    assert f"used in place, {box}: proven by comparison" in site.snakemake().output
    assert site.workspace.read("message.txt") == "original\n"
    (box / "message").write_text("swapped\n")
    after = site.state()
    result = site.snakemake("--forceall")
    assert site.workspace.read("message.txt") == "original\n"
    assert len(site.fetched) == 1
    assert "used in place" not in result.output
    assert (before.keys(), site.state()) == (after.keys(), after)


def test_another_image_in_the_place_of_one_that_was_proven_is_not_run(site):
    image = site.serve(site.tool.pinned(site.digest), "tool.sif")
    site.snakemake()
    site.tool.push("swapped", tag="2.0")
    image.unlink()
    site.serve(site.tool.tagged("2.0"), "tool.sif")
    refused = site.snakemake("--forceall", flag="frozen", fails=True)
    assert "not proven to be what the lock names" in refused.output
    site.snakemake("--forceall")
    assert site.workspace.read("message.txt") == "original\n"
    assert len(site.fetched) == 1


def test_seven_bytes_that_change_in_the_library_between_two_jobs_stop_the_second(site):
    image = site.serve(site.tool.pinned(site.digest), "tool.sif")
    site.workspace.write(
        "Snakefile",
        f"""
        rule second:
            input: "first.txt"
            output: "second.txt"
            container: "{site.tool.reference}"
            shell: "cat /message > {{output}}"

        rule swap:
            input: "message.txt"
            output: "first.txt"
            run:
                with open("{image}", "r+b") as file:
                    file.seek(50)
                    file.write(b"swapped")
                open(output[0], "w").close()

        rule first:
            output: "message.txt"
            container: "{site.tool.reference}"
            shell: "cat /message > {{output}}"
        """,
    )
    result = site.workspace.snakemake(flag="lock", fails=True)  # the facility itself, which may write
    assert site.workspace.read("message.txt") == "original\n"
    assert f"will not run the image of {site.tool.reference}" in result.output
    assert not site.workspace.exists("second.txt")


def test_jobs_of_a_cluster_use_what_the_configuration_of_the_workflow_names(site):
    image = site.serve(site.tool.pinned(site.digest), "tool.sif")
    del site.workspace.environment[VARIABLE]
    site.workspace.write("config.yaml", f"apptainer_freshness:\n  images: [{site.library}]\n")
    result = site.workspace.snakemake("--configfile", "config.yaml", *make_cluster(site.workspace))
    assert f"used in place, {image}" in result.output
    assert site.workspace.read("message.txt") == "original\n"
    assert site.fetched == []


def test_pull_uses_what_is_there_and_copies_it_where_that_is_asked_for(site):
    image = site.serve(site.tool.pinned(site.digest), "tool.sif")
    before = site.state()
    site.cli("lock")
    [found] = json.loads(site.cli("pull", "--json").stdout)["image"]
    assert (found["action"], found["state"], found["path"]) == ("in_library", "verified", str(image))
    assert "verified" in site.cli("status").stdout
    assert site.fetched == []
    [copied] = json.loads(site.cli("pull", "--copy", "--json").stdout)["image"]
    assert (copied["action"], copied["state"]) == ("copied", "verified")
    assert [path.read_bytes() for path in site.fetched] == [image.read_bytes()]
    assert site.state() == before
    assert site.fetched[0].stat().st_nlink == 1
