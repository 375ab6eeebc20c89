"""The image file that a job runs is what the pin names, or nothing runs. Real Snakemake, Apptainer and registry."""

import threading
import time

import pytest

from snakemake_apptainer_freshness.apptainer import sif


@pytest.fixture
def tool(tool):
    """The image was pushed."""
    tool.digest = tool.push("original")
    return tool


def image(workspace):
    """The one image file in Snakemake's folder."""
    folder = workspace.folder / ".snakemake" / "singularity"
    [found] = [path for path in folder.glob("*.simg") if not path.is_symlink()]  # a run names it by its tag as well
    return found


def damage(path):
    """Change bytes that no program reads (the header's UUID): only a hash can tell."""
    with path.open("r+b") as file:
        file.seek(50)
        bytes_there = file.read(7)
        file.seek(50)
        file.write(bytes(byte ^ 0xFF for byte in bytes_there))


def test_the_image_that_ran_says_of_itself_that_it_was_pulled_by_the_pinned_digest(tool, workspace):
    workspace.snakemake(flag="lock")

    assert str(sif.read(image(workspace)).pulled_digest) == tool.digest


def test_an_entry_of_apptainers_cache_that_was_built_from_the_tag_is_not_what_runs(tool, workspace):
    workspace.run("apptainer", "run", tool.reference)
    workspace.snakemake(flag="lock")

    assert str(sif.read(image(workspace)).pulled_digest) == tool.digest
    assert workspace.read("message.txt") == "original\n"


def test_an_image_that_was_altered_is_moved_aside_and_fetched_anew(tool, workspace):
    workspace.snakemake(flag="lock")
    good = image(workspace).read_bytes()
    damage(image(workspace))
    result = workspace.snakemake("--forceall", flag="lock")

    assert "is altered" in result.output
    assert "moved aside" in result.output
    assert len(image(workspace).read_bytes()) == len(good)
    assert len(list(image(workspace).parent.glob("*.quarantine-*"))) == 1
    assert workspace.read("message.txt") == "original\n"


@pytest.mark.parametrize("harm", ["truncated", "emptied", "altered"])
def test_on_unverified_error_stops_before_any_job(tool, workspace, harm):
    workspace.snakemake(flag="lock")
    (workspace.folder / "message.txt").unlink()
    path = image(workspace)
    {
        "truncated": lambda: path.write_bytes(path.read_bytes()[:-4096]),
        "emptied": lambda: path.write_bytes(b""),
        "altered": lambda: damage(path),
    }[harm]()
    result = workspace.snakemake(flag="{on_unverified: error}", fails=True)

    assert str(path) in result.output
    assert ("altered" if harm == "altered" else "corrupt") in result.output
    assert not workspace.exists("message.txt")
    assert "Traceback" not in result.output


def test_on_unverified_warn_runs_and_says_so(tool, workspace):
    workspace.snakemake(flag="lock")
    damage(image(workspace))
    result = workspace.snakemake("--forceall", flag="{on_unverified: warn}")

    assert "running an unproven image" in result.output
    assert "altered" in result.output


def test_a_frozen_run_needs_no_registry(tmp_path, workspace):
    from tests.support.registry import RealRegistry
    from tests.support.repositories import Repository

    with RealRegistry(tmp_path / "registry") as registry:
        tool = Repository(registry, "a/tool")
        tool.push("original")
        workspace.write(
            "Snakefile",
            f"""
            rule read:
                output: "message.txt"
                container: "{tool.reference}"
                shell: "cat /message > {{output}}"
            """,
        )
        workspace.snakemake(flag="lock")
        registry.stop()
        workspace.snakemake("--forceall", flag="frozen")

    assert workspace.read("message.txt") == "original\n"


@pytest.mark.parametrize("state", ["absent", "altered"])
def test_a_frozen_run_fetches_nothing(tool, workspace, state):
    workspace.snakemake(flag="lock")
    image(workspace).unlink() if state == "absent" else damage(image(workspace))
    tool.registry.clear()
    result = workspace.snakemake("--forceall", flag="frozen", fails=True)

    assert f"is {state}" in result.output
    assert "mode frozen fetches nothing" in result.output
    assert tool.requests() == []


def test_a_file_swapped_between_its_proof_and_the_start_of_a_job_does_not_run(repository, workspace):
    tool = repository()
    tool.push("original")
    workspace.write(
        "Snakefile",
        f"""
        rule second:
            input: "first.txt"
            output: "second.txt"
            container: "{tool.reference}"
            shell: "cat /message > {{output}}"

        rule first:
            output: "first.txt"
            shell: "touch waiting; while [ ! -e go ]; do sleep 0.1; done; touch {{output}}"
        """,
    )

    def swap():
        deadline = time.monotonic() + 120
        while not workspace.exists("waiting") and time.monotonic() < deadline:
            time.sleep(0.05)
        path = image(workspace)
        path.rename(path.with_suffix(".kept"))
        path.write_bytes(path.with_suffix(".kept").read_bytes())
        damage(path)
        (workspace.folder / "go").touch()

    thread = threading.Thread(target=swap, daemon=True)
    thread.start()
    result = workspace.snakemake(flag="lock", fails=True)
    thread.join()

    assert "will not run the image" in result.output
    assert not workspace.exists("second.txt")
    assert "Traceback" not in result.output


def test_a_sif_file_of_this_machine_is_held_to_its_content(tool, workspace):
    workspace.run("apptainer", "pull", "tool.sif", tool.reference)
    workspace.write(
        "Snakefile",
        """
        rule read:
            output: "message.txt"
            container: "tool.sif"
            shell: "cat /message > {output}"
        """,
    )
    workspace.snakemake(flag="lock")
    assert workspace.read("message.txt") == "original\n"
    damage(workspace.folder / "tool.sif")
    result = workspace.snakemake("--forceall", flag="lock", fails=True)

    assert "tool.sif is stale" in result.output
    assert "accept it as it is now" in result.output
    workspace.snakemake("--forceall", flag="update")
    assert workspace.read("message.txt") == "original\n"


def test_a_sandbox_folder_cannot_be_pinned_and_runs_with_a_warning(tool, workspace):
    workspace.run("apptainer", "build", "--sandbox", "box", tool.reference)
    workspace.write(
        "Snakefile",
        """
        rule read:
            output: "message.txt"
            container: "box"
            shell: "cat /message > {output}"
        """,
    )
    result = workspace.snakemake(flag="lock")

    assert workspace.read("message.txt") == "original\n"
    assert "1 unpinnable" in result.ours[0]
    assert result.ours[1].startswith("unpinnable: box: ")
    assert (
        "on_unpinnable"
        not in workspace.snakemake("--forceall", flag="{on_unpinnable: ignore}").output.partition("Building")[2]
    )
    assert "cannot pin" in workspace.snakemake("--forceall", flag="{on_unpinnable: error}", fails=True).output


def test_two_runs_at_once_on_one_prefix_pull_once(tool, workspace, tmp_path):
    from tests.support.workflow import Workspace

    others = [Workspace(tmp_path / f"run{n}", workspace.home) for n in range(3)]
    for other in others:
        other.write("Snakefile", workspace.read("Snakefile"))
    prefix = tmp_path / "images"
    results = []

    def run(where):
        results.append(where.snakemake("--apptainer-prefix", str(prefix), flag="lock"))

    threads = [threading.Thread(target=run, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [other.read("message.txt") for other in others] == ["original\n"] * 3
    assert sum("Pulling singularity image" in result.output for result in results) == 1
