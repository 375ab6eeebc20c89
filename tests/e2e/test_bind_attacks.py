"""Attacks with a bind: the image is the one that the lock names, and what runs is something else.

Each test is the attack that its name says.
"""

import json
import sys

from snakemake_apptainer_freshness.record.journal import read_all
from tests.support.workflow import READS_MESSAGE


def audit(workspace, *, fails):
    command = "from snakemake_apptainer_freshness.cli import main; main()"
    document = json.loads(workspace.run(sys.executable, "-c", command, "audit", "--json", fails=fails).stdout)
    return {output["path"]: (output["verdict"], output["why"]) for output in document["output"]}


def test_bind_over_the_tool_by_a_profile_that_came_with_the_workflow(repository, workspace):
    tool = repository()
    tool.push("original")
    workspace.write("Snakefile", READS_MESSAGE.format(image=tool.reference))
    workspace.write("evil", "evil\n")
    workspace.write(
        "profiles/default/config.yaml",
        f'apptainer-args: "--bind {workspace.folder}/evil:/message --bind {workspace.folder}/evil:/scratch/x"\n',
    )
    told = workspace.snakemake(flag="lock", environment={"APPTAINERENV_PREPEND_PATH": "/nowhere"}).ours
    assert workspace.read("message.txt") == "evil\n"
    assert "note: APPTAINERENV_PREPEND_PATH puts /nowhere over all images: what is made then is not proven" in told

    verdict, why = audit(workspace, fails=True)["message.txt"]
    (run,) = read_all(workspace.folder)

    assert verdict == "unproven"
    assert f"--bind bound {workspace.folder}/evil over /message of the image" in why
    assert "/scratch" not in why
    assert all((run.machine.system, run.machine.kernel, run.machine.architecture, run.machine.cpu))


def test_bind_of_data_where_the_image_has_nothing_leaves_a_proven_output_proven(repository, workspace):
    tool = repository()
    tool.push("original")
    workspace.write("Snakefile", READS_MESSAGE.format(image=tool.reference))
    workspace.snakemake(flag="lock", environment={"APPTAINER_BIND": f"{workspace.folder}:/scratch"})

    assert audit(workspace, fails=False)["message.txt"][0] == "proven"
    assert read_all(workspace.folder)[0].runtime.environment["APPTAINER_BIND"] == f"{workspace.folder}:/scratch"
