"""Carried in a bundle to where there is no registry, a workflow gives the same output."""

import sys

from tests.support import images
from tests.support.registry import RealRegistry
from tests.support.workflow import READS_MESSAGE, Workspace

CLI = [sys.executable, "-c", "from snakemake_apptainer_freshness.cli import main; main()"]


def test_a_bundle_runs_in_an_empty_folder_after_the_registry_is_gone(tmp_path):
    here = Workspace(tmp_path / "here", tmp_path / "home")
    there = Workspace(tmp_path / "there", tmp_path / "another home")
    with RealRegistry(tmp_path / "registry") as registry:
        images.push(images.tiny_image("carried"), registry.host, "team/tool", "1.0")
        snakefile = READS_MESSAGE.format(image=f"docker://{registry.host}/team/tool:1.0")
        here.write("Snakefile", snakefile)
        here.snakemake(flag="lock")
        here.run(*CLI, "bundle", "save", tmp_path / "all.tar")

    there.write("Snakefile", snakefile)
    there.run(*CLI, "bundle", "load", tmp_path / "all.tar")
    there.snakemake(flag="frozen")

    assert there.read("message.txt") == here.read("message.txt")
    assert there.read("containers.lock") == here.read("containers.lock")
