"""Only what a run needs can stop it: images that are gone, in rules with and without a job, in each mode."""

import sys

import pytest

CLI = [sys.executable, "-c", "from snakemake_apptainer_freshness.cli import main; main()"]
WORKFLOW = """
    rule read:
        output: "message.txt"
        container: "{alive}"
        shell: "cat /message > {{output}}"

    rule other:
        output: "other.txt"
        container: "{gone}"
        shell: "cat /message > {{output}}"
    """
LATER = """
    checkpoint which:
        output: "which.txt"
        shell: "echo other.txt > {output}"

    rule last:
        input: lambda wildcards: open(checkpoints.which.get().output[0]).read().split()
        output: "last.txt"
        shell: "cat {input} > {output}"
    """


@pytest.fixture
def alive(repository):
    found = repository()
    found.push("original")
    return found


@pytest.fixture
def gone(alive, workspace):
    """The reference of an image that is in no registry, which the second rule names."""
    reference = alive.tagged("gone")
    workspace.write("Snakefile", WORKFLOW.format(alive=alive.reference, gone=reference))
    return reference


def stops_where_it_is_needed(workspace, gone, mode):
    """A run of all rules stops before any job, and changes no file."""
    (workspace.folder / "message.txt").unlink()
    before = workspace.files()["containers.lock"]
    result = workspace.snakemake("message.txt", "other.txt", flag=mode, fails=True)

    assert f"{gone} (rule other in {workspace.folder}/Snakefile, line 7): " in result.output
    assert "Traceback" not in result.output
    assert not workspace.exists("message.txt")
    assert workspace.files()["containers.lock"] == before


@pytest.mark.parametrize("mode", ["lock", "update"])
def test_an_image_that_is_gone_stops_only_the_run_that_needs_it(alive, gone, workspace, mode):
    result = workspace.snakemake("message.txt", flag=mode)

    assert workspace.read("message.txt") == "original\n"
    assert list(workspace.lock().entries) == [alive.reference]
    assert result.ours[0].endswith(f"(mode {mode}): 1 added, 1 not pinned")
    [line] = [line for line in result.ours if "not pinned, " in line]
    assert line.startswith(f"not pinned, no job needs it: {gone}: ")
    assert line.endswith("the registry has no tag of this name")
    stops_where_it_is_needed(workspace, gone, mode)


@pytest.mark.parametrize("mode", ["locked", "frozen"])
def test_what_the_lock_lacks_stops_only_the_run_that_needs_it(gone, workspace, mode):
    workspace.snakemake("message.txt", flag="lock")
    before = workspace.files()["containers.lock"]
    result = workspace.snakemake("message.txt", "--forceall", flag=mode)

    assert workspace.read("message.txt") == "original\n"
    assert workspace.files()["containers.lock"] == before
    lacks = f"not in containers.lock, and mode {mode} does not add to it"
    assert f"not pinned, no job needs it: {gone}: {lacks}" in result.ours
    stops_where_it_is_needed(workspace, gone, mode)


def test_an_update_leaves_the_pin_of_an_image_that_is_gone_and_not_needed_as_it_was(alive, workspace, repository):
    other = repository("other")
    old = other.push("other")
    workspace.write("Snakefile", WORKFLOW.format(alive=alive.reference, gone=other.reference))
    workspace.snakemake("message.txt", flag="lock")
    other.registry.untag(other.name, "1.0")
    new = alive.push("updated")
    result = workspace.snakemake("message.txt", flag="update")

    assert str(workspace.lock().get(other.reference).digest) == old
    assert str(workspace.lock().get(alive.reference).digest) == new
    assert any(line.startswith(f"not pinned, no job needs it: {other.reference}: ") for line in result.ours)


def test_a_reference_that_is_none_stops_no_run_that_does_not_need_it(alive, workspace):
    workspace.write("Snakefile", WORKFLOW.format(alive=alive.reference, gone="docker://NO/such name"))
    result = workspace.snakemake("message.txt", flag="lock")

    assert workspace.read("message.txt") == "original\n"
    assert any("no job needs it: docker://NO/such name: " in line for line in result.ours)


def test_a_tag_that_moved_stops_no_run_that_does_not_need_it(alive, workspace, repository):
    other = repository("other")
    other.push("other")
    workspace.write("Snakefile", WORKFLOW.format(alive=alive.reference, gone=other.reference))
    workspace.snakemake("message.txt", flag="lock")
    other.push("moved")
    result = workspace.snakemake("message.txt", "--forceall", flag="{on_moved: error}")

    assert workspace.read("message.txt") == "original\n"
    assert any(line.startswith(f"moved: {other.reference}") for line in result.ours)


def test_a_checkpoint_that_brings_a_job_with_an_image_that_is_gone_stops_the_run_there(alive, gone, workspace):
    workspace.write("Snakefile", WORKFLOW.format(alive=alive.reference, gone=gone) + LATER)
    result = workspace.snakemake("last.txt", flag="lock", fails=True)

    assert f"{gone} (rule other in " in result.output
    assert not workspace.exists("other.txt")
    assert not workspace.exists("last.txt")


def test_a_checkpoint_that_brings_a_job_whose_tag_moved_stops_the_run_there(alive, workspace, repository):
    other = repository("other")
    other.push("other")
    workspace.write("Snakefile", WORKFLOW.format(alive=alive.reference, gone=other.reference) + LATER)
    workspace.snakemake("message.txt", flag="lock")
    other.push("moved")
    result = workspace.snakemake("last.txt", flag="{on_moved: error, check_every: 0}", fails=True)

    assert "on_moved is error" in result.output
    assert workspace.exists("which.txt")
    assert not workspace.exists("other.txt")


def test_a_checkpoint_that_brings_a_tag_that_moved_away_from_an_image_that_runs_already_stops_the_run_there(
    alive, workspace
):
    other = alive.tagged("other")
    alive.push("original", tag="other")
    workspace.write("Snakefile", WORKFLOW.format(alive=alive.reference, gone=other) + LATER)
    workspace.snakemake("message.txt", flag="lock")
    assert len({entry.digest for entry in workspace.lock()}) == 1
    alive.push("moved", tag="other")
    result = workspace.snakemake(
        "message.txt", "last.txt", "--forceall", flag="{on_moved: error, check_every: 0}", fails=True
    )

    assert f"tags moved away from their pins: {other}" in result.output
    assert workspace.exists("which.txt")
    assert not workspace.exists("other.txt")


def test_holding_a_pull_request_to_the_lock_counts_what_no_job_needs(gone, workspace):
    result = workspace.run(*CLI, "lock", "--check", "--", "message.txt", fails=True)

    assert result.status == 1
    assert gone in result.output
