"""Bad input gets one clear error, no traceback, and nothing is written."""

import os
from pathlib import Path

import pytest

from tests.support.workflow import READS_MESSAGE


def refused(workspace, *arguments, **options):
    """Run Snakemake, which has to fail with one error of ours and without a trace; gives what it printed."""
    before = workspace.files()
    output = workspace.snakemake(*arguments, fails=True, **options).output
    after = workspace.files()

    assert output.count("ContainerFreshnessError:") == 1
    assert "Traceback" not in output
    assert 'File "' not in output
    assert after == before
    return output


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("{on_movd: warn}", "has no key 'on_movd' (did you mean 'on_moved'?)"),
        ("{mode: lokc}", "cannot be 'lokc' (did you mean 'lock'?)"),
        ("{rerun: sometimes}", "rerun cannot be 'sometimes'"),
        ("lokced", "cannot be 'lokced' (did you mean 'locked'?)"),
    ],
)
def test_an_unknown_key_or_value(tool, workspace, flag, said):
    output = refused(workspace, flag=flag)

    assert said in output


@pytest.mark.parametrize(
    "image",
    [
        "docker://Quay/Upper:1",
        "docker://q.io/a b",
        "docker://q.io/a:1;touch x",
        "docker://q.io/a@sha256:abc",
        "Docker://q.io/a",
    ],
)
def test_a_reference_that_does_not_parse_is_named_with_its_rule_and_line(workspace, image):
    workspace.write("Snakefile", READS_MESSAGE.format(image=image))
    output = refused(workspace, flag="lock")

    assert f"(rule read in {workspace.folder}/Snakefile, line 2)" in output


def test_every_bad_reference_is_told_at_once(workspace):
    workspace.write(
        "Snakefile",
        READS_MESSAGE.format(image="docker://Bad/One")
        + """
    rule other:
        output: "other.txt"
        container: "docker://bad/two:"
        shell: "touch {output}"
    """,
    )
    output = refused(workspace, "message.txt", "other.txt", flag="lock")

    assert "cannot pin 2 container images" in output
    assert "line 2" in output
    assert "line 7" in output


def test_a_tag_that_does_not_exist(tool, workspace):
    tool.push("original", tag="other")
    output = refused(workspace, flag="lock")

    assert tool.reference in output
    assert "not found" in output.lower() or "no tag" in output.lower() or "does not exist" in output.lower()


def test_a_lock_that_is_no_file_is_refused_before_it_is_opened(tool, workspace):
    os.mkfifo(workspace.folder / "containers.lock")
    output = workspace.snakemake(flag="lock", fails=True).output

    assert "containers.lock: it is a FIFO" in output
    assert "Traceback" not in output


def test_a_lock_that_is_damaged(tool, workspace):
    workspace.write("containers.lock", "version = 1\n[[image]]\nreference = 3\n")

    assert "image[1] lacks digest" in refused(workspace, flag="lock")


def test_a_read_only_lock_that_would_have_to_grow(tool, workspace):
    tool.push("original")
    workspace.write("containers.lock", "version = 1\n").chmod(0o444)

    said = refused(workspace, flag="lock")
    assert "cannot write the lock file" in said
    assert "added" not in said


def test_no_apptainer_on_path(tool, workspace):
    tool.push("original")
    path = os.pathsep.join(
        folder for folder in workspace.environment["PATH"].split(os.pathsep) if not Path(folder, "apptainer").exists()
    )
    output = workspace.snakemake(flag="lock", environment={"PATH": path}, fails=True).output

    assert "apptainer" in output
    assert "Traceback" not in output
    assert not workspace.exists("message.txt")


SITECUSTOMIZE = """
    import snakemake.api
    import snakemake.{module} as module
    del module.{owner}.{name}
    """


@pytest.mark.parametrize(
    ("module", "owner", "name"),
    [
        ("api", "WorkflowApi", "_get_workflow"),
        ("workflow", "Workflow", "_build_dag"),
        ("dag", "DAG", "update_container_imgs"),
        ("dag", "DAG", "pull_container_imgs"),
    ],
)
def test_a_snakemake_whose_seams_are_missing_says_which_versions_are_known(tool, workspace, module, owner, name):
    workspace.write("site/sitecustomize.py", SITECUSTOMIZE.format(module=module, owner=owner, name=name))
    surroundings = {"PYTHONPATH": str(workspace.folder / "site"), "SNAKEMAKE_APPTAINER_FRESHNESS": "lock"}
    output = workspace.snakemake(environment=surroundings, fails=True).output

    assert f"has no {owner}.{name}" in output
    assert "9.0 to 9.27" in output
    assert "Traceback" not in output
