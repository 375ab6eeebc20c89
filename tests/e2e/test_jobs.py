"""Jobs run what the main process pinned: they ask no registry, and write no lock."""

import sys

import pytest

from tests.support.clusters import TagMover, make_cluster, write_slow_workflow
from tests.support.pins import run_as


@pytest.fixture
def cluster(workspace):
    return make_cluster(workspace)


def test_a_tag_that_moves_while_a_cluster_runs_changes_no_job_and_no_job_asks_a_registry(
    repository, workspace, cluster
):
    tool = repository()
    digest = tool.push("original")
    write_slow_workflow(workspace, tool.reference)
    mover = TagMover(tool, workspace)
    workspace.snakemake(*cluster, flag="lock")
    mover.join()

    assert [workspace.read(f"{n}.txt") for n in range(3)] == ["original\n"] * 3
    assert {workspace.metadata(f"{n}.txt")["container_img_url"] for n in range(3)} == {tool.pinned(digest)}
    assert tool.our_questions() == ["GET"]


def test_the_pins_reach_jobs_of_a_workflow_whose_flag_is_in_the_environment_alone(repository, workspace, cluster):
    tool = repository()
    tool.push("original")
    write_slow_workflow(workspace, tool.reference, jobs=1)
    mover = TagMover(tool, workspace)
    workspace.snakemake(*cluster, environment={"SNAKEMAKE_APPTAINER_FRESHNESS": "lock"})
    mover.join()

    assert workspace.read("0.txt") == "original\n"


def test_a_flag_turned_off_in_the_main_process_is_off_in_its_jobs(repository, workspace, cluster):
    tool = repository()
    tool.push("original")
    workspace.write("config.yaml", "apptainer_freshness: true\n")
    workspace.write(
        "Snakefile",
        f"""
        configfile: "config.yaml"

        rule read:
            output: "message.txt"
            container: "{tool.reference}"
            shell: "cat /message > {{output}}"
        """,
    )
    workspace.snakemake(*cluster, environment={"SNAKEMAKE_APPTAINER_FRESHNESS": "off"})

    assert workspace.metadata("message.txt")["container_img_url"] == tool.reference


def test_a_job_that_got_no_pins_does_not_run(repository, workspace):
    tool = repository()
    tool.push("original")
    write_slow_workflow(workspace, tool.reference)
    result = workspace.snakemake("--mode", "subprocess", "first.txt", flag="lock", fails=True)

    assert "got no pins from the main process" in result.output
    assert tool.our_requests() == []


def test_a_container_function_that_changes_its_mind_is_refused_in_the_job(repository, workspace):
    from snakemake_apptainer_freshness.engine.handover import Handover, encode
    from snakemake_apptainer_freshness.settings import Mode, OnUnverified

    tool = repository()
    write_slow_workflow(workspace, tool.reference)
    digest = "sha256:" + "a" * 64
    table = {"docker://q.io/x:1": run_as("docker://q.io/x:1", f"docker://q.io/x@{digest}", digest)}
    pins = encode(Handover(pins=table, mode=Mode.LOCK, on_unverified=OnUnverified.REPAIR))
    result = workspace.snakemake(
        "--mode", "subprocess", "first.txt", "--config", f"apptainer_freshness_pins={pins}", fails=True
    )

    assert f"the main process of this run pinned no image {tool.reference}" in result.output


def test_a_job_without_a_shared_file_system_gets_its_pins(repository, workspace, cluster, tmp_path):
    tool = repository()
    digest = tool.push("original")
    workspace.write(
        "Snakefile",
        f"""
        rule read:
            output: "message.txt"
            container: "{tool.reference}"
            shell: "cat /message > {{output}}"
        """,
    )
    workspace.snakemake(
        *cluster, "--shared-fs-usage", "persistence", "input-output", "sources", "source-cache", flag="lock"
    )

    assert workspace.metadata("message.txt")["container_img_url"] == tool.pinned(digest)
    assert tool.our_questions() == ["GET"]


def test_jobs_make_nothing_again_that_the_main_process_keeps_by_a_database_of_metadata(repository, workspace, cluster):
    tool = repository()
    tool.push("original")
    workspace.write(
        "Snakefile",
        f"""
        rule step:
            input: lambda wildcards: f"{{int(wildcards.n) - 1}}.txt"
            output: "{{n,[1-9]}}.txt"
            container: "{tool.reference}"
            shell: "echo {{wildcards.n}} >> ran; cat /message > {{output}}"
        """,
    )
    workspace.write("0.txt", "")
    database = ("2.txt", "--persistence-backend", "db")
    workspace.snakemake(*database)
    for verb in ("lock", "adopt"):
        command = "from snakemake_apptainer_freshness.cli import main; main()"
        workspace.run(sys.executable, "-c", command, verb, "--", *database)
    (workspace.folder / "2.txt").unlink()
    kept = workspace.snakemake(*database, *cluster, flag="true")

    assert "same image: 1 output stays although the image has another name now" in kept.ours
    assert workspace.read("ran") == "1\n2\n2\n"
