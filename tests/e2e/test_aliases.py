"""What looks for an image under Snakemake's own name of its tag finds the proven one, as long as the run lasts."""

import hashlib

import pytest

LOOKS = """
    import hashlib, os, subprocess

    def labels_of(reference):
        path = ".snakemake/singularity/" + hashlib.md5(reference.encode()).hexdigest() + ".simg"
        if not os.path.isfile(path):
            return "no image"
        return subprocess.check_output(["apptainer", "inspect", path], text=True)

    onstart:
        with open("labels.txt", "w") as file:
            file.write(labels_of("{image}"))

    rule read:
        output: "message.txt"
        container: "{image}"
        shell: "cat /message > {{output}}"
    """
"""As workflows of hydra-genetics find the versions of their tools for a report."""


@pytest.fixture
def tool(repository, workspace):
    made = repository()
    made.digest = made.push("original", labels={"tool": "1.2"})
    workspace.write("Snakefile", LOOKS.format(image=made.reference))
    return made


@pytest.fixture
def image(tool, workspace):
    """Where plain Snakemake has the image of the tag."""
    name = hashlib.md5(tool.reference.encode()).hexdigest() + ".simg"
    return workspace.folder / ".snakemake" / "singularity" / name


def test_a_workflow_that_looks_for_labels_finds_them_with_the_flag(tool, workspace, image):
    workspace.snakemake(flag="lock")
    labels = workspace.read("labels.txt")

    assert "tool: 1.2" in labels
    assert tool.digest in labels
    assert not image.is_symlink()


def test_a_later_run_without_the_flag_pulls_the_tag(tool, workspace, image):
    workspace.snakemake(flag="lock")
    tool.push("updated")
    workspace.snakemake("--forceall")

    assert workspace.read("message.txt") == "updated\n"
    assert image.is_file()


def test_what_a_killed_run_left_is_kept_by_a_clean_up_and_taken_back_by_the_next_run(tool, workspace, image):
    workspace.snakemake(flag="lock")
    [pinned] = image.parent.glob("*.simg")
    image.symlink_to(pinned.name)
    gone = image.with_name(f"{'0' * 32}.simg")
    gone.symlink_to(f"{'1' * 32}.simg")
    workspace.snakemake("--container-cleanup-images", flag="lock")
    assert set(image.parent.glob("*.simg")) == {pinned, image}

    workspace.snakemake("--forceall", flag="lock")
    assert set(image.parent.glob("*.simg")) == {pinned}


def test_what_plain_snakemake_pulled_before_stays_and_is_what_is_found(tool, workspace, image):
    workspace.snakemake()
    before = image.stat()
    workspace.snakemake("--forceall", flag="lock")

    assert image.stat() == before
