"""Commands that run no job apply the lock, and neither ask a registry nor write anything."""

import pytest


@pytest.fixture
def tool(tool):
    """The image was pushed."""
    tool.digest = tool.push("original")
    return tool


COMMANDS = [
    ["--summary"],
    ["--dag"],
    ["--list-changes", "code"],
    ["--touch"],
    ["--container-cleanup-images"],
    ["--report", "report.html"],
    ["--unlock"],
]


def test_they_ask_no_registry_and_leave_the_lock_as_it_is(tool, workspace):
    workspace.snakemake(flag="lock")
    before = workspace.files()["containers.lock"]
    tool.registry.clear()
    tool.push("updated")
    pushed = tool.requests()

    for command in COMMANDS:
        workspace.snakemake(*command, flag="update")
        assert tool.requests() == pushed, command
        assert workspace.files()["containers.lock"] == before, command


def test_the_clean_up_of_images_keeps_the_pinned_one(tool, workspace):
    workspace.snakemake(flag="lock")
    images = list((workspace.folder / ".snakemake" / "singularity").glob("*.simg"))
    workspace.snakemake("--container-cleanup-images", flag="lock")

    assert len(images) == 1
    assert images[0].exists()


def test_changes_of_the_software_are_told_by_the_pinned_reference(tool, workspace):
    workspace.snakemake(flag="lock")

    assert "message.txt" not in workspace.snakemake("--list-changes", "code", flag="lock").stdout
    assert "message.txt" in workspace.snakemake("--summary", flag="lock").stdout


@pytest.mark.parametrize("command", [["--lint"], ["--list-rules"]])
def test_lint_and_list_rules_do_nothing_of_ours(tool, workspace, command):
    result = workspace.snakemake(*command, flag="lokc", fails=command == ["--lint"])

    assert "apptainer_freshness" not in result.output
    assert not workspace.exists("containers.lock")


def test_a_reference_that_the_lock_lacks_is_left_as_it_is(tool, workspace):
    result = workspace.snakemake("--summary", flag="locked")

    assert "1 not in the lock" in result.ours[0]
