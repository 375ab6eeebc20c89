"""The audit of real runs, with both of Snakemake's backends: what happened is found, and nothing else."""

import json
import sys

from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import pins

WORKFLOW = """
    rule all:
        input: "c/one.txt", "c/two.txt", "b/three.txt"

    rule read:
        output: "a/{{name}}.txt"
        container: "{tool}"
        shell: "cat /message > {{output}}"

    rule copy:
        input: "a/{{name}}.txt"
        output: "b/{{name}}.txt", temp("b/{{name}}.tmp")
        container: "{other}"
        shell: "cp {{input}} {{output[0]}}; touch {{output[1]}}"

    rule plain:
        input: "b/{{name}}.txt"
        output: "c/{{name}}.txt"
        shell: "cp {{input}} {{output}}"
    """


def audit(workspace, *arguments, fails=False):
    """The answer as JSON."""
    command = "from snakemake_apptainer_freshness.cli import main; main()"
    result = workspace.run(sys.executable, "-c", command, "audit", "--json", *arguments, fails=fails)
    return json.loads(result.stdout)


def verdicts(answer):
    return {one["path"]: one["verdict"] for one in answer["output"]}


def prepare(repository, workspace):
    """A workflow of two images, nothing of which was run."""
    tool, other = repository("tool"), repository("other")
    tool.push("original")
    other.push("copier")
    workspace.write("Snakefile", WORKFLOW.format(tool=tool.reference, other=other.reference))
    return tool, other


def test_the_audit_says_what_happened_and_nothing_else(repository, workspace):
    tool, other = prepare(repository, workspace)

    workspace.snakemake("c/one.txt", "b/three.txt", flag="true")
    sound = audit(workspace, "--replay")
    assert set(sound["count"].items()) >= {("proven", 6), ("no container", 1)}
    assert (sound["finding"], sound["replay"]["possible"]) == ([], True)

    tool.push("newer")
    workspace.snakemake("c/two.txt", flag="update")
    (workspace.folder / "b" / "three.txt").write_text("edited by hand")
    copier = workspace.lock().get(other.reference).pinned.text
    pins.flip_seven_bytes(image_path(workspace.folder / ".snakemake" / "singularity", copier))

    found = audit(workspace, fails=True)

    assert {one["kind"] for one in found["finding"]} == {"pin-moved", "mixed-digests", "output-changed", "bad-image"}
    assert verdicts(found) == {
        **{f"a/{name}.txt": "proven" for name in ("one", "two", "three")},
        **{f"b/{name}.txt": "bad image" for name in ("one", "two", "three")},
        **{f"b/{name}.tmp": "bad image" for name in ("one", "two", "three")},
        **{f"c/{name}.txt": "no container" for name in ("one", "two")},
    }
    changed = next(one for one in found["finding"] if one["kind"] == "output-changed")
    assert changed["subject"] == ["b/three.txt"]

    workspace.snakemake("c/one.txt", "--forcerun", "plain")
    assert verdicts(audit(workspace, fails=True))["c/one.txt"] == "no record"


def test_what_snakemakes_database_knows_is_read(repository, workspace):
    prepare(repository, workspace)
    workspace.snakemake("c/one.txt", "--persistence-backend", "db", flag="true")

    found = audit(workspace)

    assert (workspace.folder / ".snakemake" / "metadata.db").exists()
    assert {(edge["before"], edge["after"]) for edge in found["edge"]} == {("read", "copy"), ("copy", "plain")}
    assert found["finding"] == []
    assert not any("metadata" in note for note in found["note"])
