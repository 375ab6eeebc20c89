"""The next Snakemake, whose containers are plugins, runs workflows by ours. Run by hand, not by ``make test``.

No package of it is published, so ``NEXT_SNAKEMAKE`` names the interpreter of an environment that has its development
branch and this package:

    NEXT_SNAKEMAKE=…/bin/python python -m pytest tests/e2e/next_snakemake.py
"""

import os
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support.workflow import READS_MESSAGE, Workspace

PYTHON = os.environ["NEXT_SNAKEMAKE"]
IMAGES = ".snakemake/software/deployments/container"


class NextWorkspace(Workspace):
    """A workspace whose Snakemake has plugins for containers."""

    def snakemake_arguments(self, *, sdm=True):
        plugin = ["--sdm", "apptainer-freshness", "--sdm-apptainer-freshness-args=--userns"]
        return ["--cores", "2", "--nocolor", *(plugin if sdm else [])]


@pytest.fixture
def workspace(tmp_path):
    made = NextWorkspace(tmp_path / "workflow", tmp_path / "home", PYTHON)
    made.environment["PATH"] = f"{Path(PYTHON).parent}:{made.environment['PATH']}"
    return made


@pytest.fixture
def tool(repository, workspace):
    made = repository()
    made.digest = made.push("original")
    workspace.write("Snakefile", READS_MESSAGE.format(image=made.reference))
    return made


def test_every_kind_of_directive_runs_the_image_of_the_lock(tool, workspace):
    workspace.write(
        "Snakefile",
        f"""
        rule all:
            input: "directive.txt", "function.txt", "software.txt", "wildcard.1.0.txt"
        rule directive:
            output: "directive.txt"
            container: "{tool.reference}"
            shell: "cat /message > {{output}}"
        rule function:
            output: "function.txt"
            container: lambda wildcards: "{tool.reference}"
            shell: "cat /message > {{output}}"
        rule software:
            output: "software.txt"
            software: container(image_uri="{tool.reference}")
            shell: "cat /message > {{output}}"
        rule wildcard:
            output: "wildcard.{{tag}}.txt"
            container: "{tool.reference.removesuffix("1.0")}{{tag}}"
            shell: "cat /message > {{output}}"
        """,
    )
    workspace.snakemake()
    for name in ("directive", "function", "software", "wildcard.1.0"):
        assert workspace.read(f"{name}.txt") == "original\n"
    assert str(workspace.lock().entries[tool.reference].digest) == tool.digest
    assert image_path(workspace.folder / IMAGES, tool.pinned(tool.digest)).exists()


def test_what_ran_is_recorded_with_its_digest(tool, workspace):
    workspace.snakemake()
    record = workspace.metadata("message.txt")
    assert tool.digest in str(record["software"])
    audited = workspace.freshness("audit", "--json").stdout
    assert tool.digest in audited


def test_a_second_run_has_nothing_to_do_and_another_digest_makes_it_run_again(tool, workspace):
    workspace.snakemake()
    assert "Nothing to be done" in workspace.snakemake().output
    tool.push("moved")
    result = workspace.snakemake()
    assert "moved: " in result.output
    assert workspace.read("message.txt") == "original\n"
    workspace.snakemake(flag="update")
    assert workspace.read("message.txt") == "moved\n"


def test_a_job_in_a_process_of_its_own_gets_its_pin(tool, workspace):
    cluster = ["--executor", "cluster-generic", "--cluster-generic-submit-cmd", "sh"]
    workspace.snakemake(*cluster, "--jobs", "1")
    assert workspace.read("message.txt") == "original\n"


def test_a_planted_image_in_the_deployment_prefix_is_not_run(tool, repository, workspace):
    other = repository()
    planted = NextWorkspace(workspace.folder.parent / "planted", workspace.home, PYTHON)
    planted.environment["PATH"] = workspace.environment["PATH"]
    planted.write("Snakefile", READS_MESSAGE.format(image=other.reference))
    digest = other.push("planted")
    planted.snakemake()
    place = image_path(workspace.folder / IMAGES, tool.pinned(tool.digest))
    place.parent.mkdir(parents=True)
    place.write_bytes(image_path(planted.folder / IMAGES, other.pinned(digest)).read_bytes())
    workspace.snakemake()
    assert workspace.read("message.txt") == "original\n"


def test_an_image_that_another_job_replaces_is_not_run(tool, workspace):
    workspace.write(
        "Snakefile",
        f"""
        rule read:
            output: "message.txt"
            input: "ready.txt"
            container: "{tool.reference}"
            shell: "cat /message > {{output}}"
        rule attack:
            output: "ready.txt"
            shell: "echo >> {IMAGES}/*.simg; touch {{output}}"
        """,
    )
    output = workspace.snakemake(fails=True).output
    assert "will not run the image" in output
    assert f"verify --repair --prefix {workspace.folder / IMAGES}" in output
    assert not workspace.exists("message.txt")


def test_the_flag_with_another_plugin_for_containers_stops_the_run(tool, workspace):
    result = workspace.snakemake("--sdm", "container", sdm=False, flag="lock", fails=True)
    assert "--sdm container would run the containers of this workflow without a proof" in result.output
    assert not workspace.exists("message.txt")


def test_the_flag_turned_off_with_our_plugin_stops_the_run(tool, workspace):
    assert "apptainer_freshness is off" in workspace.snakemake(flag="off", fails=True).output


def test_without_the_flag_and_the_plugin_nothing_is_different(tool, workspace):
    workspace.write("Snakefile", "rule a:\n    output: 'message.txt'\n    shell: 'echo plain > {output}'\n")
    assert not workspace.snakemake(sdm=False).ours
    assert workspace.read("message.txt") == "plain\n"


def test_a_dry_run_writes_nothing(tool, workspace):
    result = workspace.snakemake("--dry-run")
    assert "1 image would be pinned" in result.output or "1 image pinned" in result.output
    assert not workspace.exists("containers.lock")
    assert not list((workspace.folder / IMAGES).glob("*.simg"))


def test_a_source_without_a_digest_is_refused(tool, workspace):
    workspace.write("Snakefile", READS_MESSAGE.format(image="shub://team/tool"))
    assert "it cannot be proven" in workspace.snakemake(fails=True).output


def test_our_command_locks_a_workflow(tool, workspace):
    workspace.freshness("lock")
    assert str(workspace.lock().entries[tool.reference].digest) == tool.digest
