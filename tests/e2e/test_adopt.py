"""An old project is taken over: what plain Snakemake made is kept where it is proven. Real Snakemake and registry."""

import json
import shutil
import sys

from tests.support import images

RULES = """
    rule all:
        input: "same.txt", "real.txt", "gone.txt"
    """
RULE = """
    rule {name}:
        output: "{name}.txt"
        container: "{image}"
        shell: "cat /message > {{output}}"
    """
HERE = images.native_architecture()
ELSEWHERE = "arm64" if HERE == "amd64" else "amd64"


def freshness(workspace, *arguments, fails=False):
    command = "from snakemake_apptainer_freshness.cli import main; main()"
    return workspace.run(sys.executable, "-c", command, *arguments, fails=fails)


def standings(result):
    return {one["path"]: one["standing"] for one in json.loads(result.stdout)["output"]}


def rules_run(result):
    lines = result.output.splitlines()
    return sorted(line.split()[1].rstrip(":") for line in lines if line.startswith(("rule ", "localrule ")))


def test_a_project_is_adopted_and_later_only_what_another_image_made_runs_again(repository, workspace):
    tools = {name: repository(name) for name in ("same", "real", "gone")}
    content = images.tiny_image("same")
    images.push(images.multi_arch(content, ELSEWHERE), tools["same"].registry.host, tools["same"].name, "1.0")
    tools["real"].push("real")
    tools["gone"].push("gone")
    workspace.write("Snakefile", RULES + "".join(RULE.format(name=n, image=t.reference) for n, t in tools.items()))
    workspace.snakemake()
    tools["gone"].push("gone, and pushed anew")
    freshness(workspace, "lock")
    before = workspace.metadata("same.txt")

    adopted = freshness(workspace, "adopt", "--json", fails=True)
    assert (adopted.status, standings(adopted)) == (
        1,
        {"same.txt": "proven", "real.txt": "proven", "gone.txt": "other"},
    )

    shutil.rmtree(workspace.folder / ".snakemake" / "singularity")
    first = workspace.snakemake(flag="true")
    assert rules_run(first) == ["all", "gone"]
    assert "reason: Software environment definition has changed since last execution" in first.output
    assert "same image: 2 outputs stay although the image has another name now" in first.ours
    [why] = [line for line in first.ours if line.startswith("unproven: ")]
    assert why.startswith(f"unproven: {tools['gone'].reference} (rule gone): its image is no longer in ")
    assert why.endswith("it runs again; prove what can be proven with: apptainer-freshness adopt")
    assert workspace.metadata("same.txt") == before
    assert workspace.read("gone.txt") == "gone, and pushed anew\n"

    index = images.multi_arch(content, ELSEWHERE, "s390x")
    images.push(index, tools["same"].registry.host, tools["same"].name, "1.0")
    tools["real"].push("real, and pushed anew")
    second = workspace.snakemake(flag="update")
    assert rules_run(second) == ["all", "real"]
    assert workspace.read("real.txt") == "real, and pushed anew\n"


CHECKPOINT = """
    def made(wildcards):
        with open(checkpoints.choose.get().output[0]) as file:
            return [f"{{name}}.txt" for name in file.read().split()]

    rule all:
        input: made

    checkpoint choose:
        output: "names"
        container: "{other}"
        shell: "echo later > {{output}}"

    rule read:
        output: "{{name}}.txt"
        container: "{image}"
        shell: "cat /message > {{output}}"
    """


def test_what_a_finished_checkpoint_brought_is_kept(repository, workspace):
    tool, other = repository(), repository("other")
    tool.push("original")
    other.push("other")
    workspace.write("Snakefile", CHECKPOINT.format(image=tool.reference, other=other.reference))
    workspace.snakemake()
    freshness(workspace, "lock")
    adopted = freshness(workspace, "adopt", "--json")
    assert standings(adopted) == {"names": "proven", "later.txt": "proven"}

    kept = workspace.snakemake(flag="lock")
    assert rules_run(kept) == []
    assert "same image: 2 outputs stay although the image has another name now" in kept.ours
