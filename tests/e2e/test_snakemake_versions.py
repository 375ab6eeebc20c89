"""One scenario that each supported Snakemake has to pass; ``make matrix`` runs it through all of the matrix.

The first words of each test, before the colon, name the step in docs/hook.md.
"""

import json
import os
import re
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.engine.seams import SEAMS
from tests.support import snakemakes
from tests.support.clusters import TagMover, make_cluster, write_slow_workflow
from tests.support.workflow import READS_MESSAGE, Workspace

ENVIRONMENTS = os.environ.get("SNAKEMAKE_ENVIRONMENTS", snakemakes.OLDEST).split()
"""By default the oldest alone: the newest is the one that all other tests run on."""
WITH_FUNCTIONS = (9, 5)
"""Since then a container directive may have wildcards, or be a function."""
TRIGGERS = ("--rerun-triggers", "code", "input", "mtime", "params", "software-env")
"""Snakemake's default; that of 9.0, whose command line takes words for members of an enum, makes nothing again."""

pytestmark = pytest.mark.parametrize("name", ENVIRONMENTS)


@pytest.fixture
def python(name):
    return snakemakes.python(name)


@pytest.fixture
def workspace(name, tmp_path, python):
    made = Workspace(tmp_path / "workflow", tmp_path / "home", python)
    made.environment |= snakemakes.variables(name, made.environment["PATH"])
    return made


@pytest.fixture
def tool(repository):
    made = repository()
    made.digest = made.push("original")
    return made


@pytest.fixture
def reads(tool, workspace):
    """A workflow of one rule."""
    workspace.write("Snakefile", READS_MESSAGE.format(image=tool.reference))
    return workspace


def url_of(workspace, output="message.txt"):
    return workspace.metadata(output)["container_img_url"]


def release(version):
    return tuple(map(int, version.split(".")[:2]))


def test_names(name, python, workspace):
    """names: each name of Snakemake that is touched is there since the version that the table says"""
    script = Path(snakemakes.__file__).with_name("seam_check.py")
    answer = json.loads(workspace.run(str(python), str(script)).stdout)

    assert answer["version"] == snakemakes.version(name)
    assert answer["has"] == {seam.name: release(answer["version"]) >= release(seam.since) for seam in SEAMS}


def test_adopt(name, reads, tool):
    """off, adopt: nothing is pinned, said or written; with the flag nothing is made again that the same image made"""
    plain = reads.snakemake()
    assert (url_of(reads), reads.read("message.txt")) == (tool.reference, "original\n")
    assert plain.ours == []
    assert not reads.exists("containers.lock")

    before = reads.metadata("message.txt")
    reads.freshness("lock")
    reads.freshness("adopt")
    kept = reads.snakemake(*TRIGGERS, flag="lock")
    assert "same image: 1 output stays although the image has another name now" in kept.ours
    assert reads.metadata("message.txt") == before


def test_directives(name, workspace, tool, repository):
    """directives: of a rule, global, none, of an included file, of a module; from 9.5 on wildcards and functions"""
    other = repository("other")
    digest = other.push("other")
    rule = 'rule {name}:\n    output: "{name}.txt"\n{image}    shell: "cat /message > {{output}}"\n\n'
    container = '    container: "{}"\n'
    names = ["static", "shared", "included", "module_inner", "bare"]
    parts = [
        f'container: "{other.reference}"\n\n',
        "rule all:\n    input: TARGETS\n\n",
        rule.format(name="static", image=container.format(tool.reference)),
        rule.format(name="shared", image=""),
        'rule bare:\n    output: "bare.txt"\n    container: None\n    shell: "echo outside > {output}"\n\n',
        'include: "more.smk"\n\n',
        'module inner:\n    snakefile: "inner.smk"\n\nuse rule * from inner as module_*\n',
    ]
    if release(snakemakes.version(name)) >= WITH_FUNCTIONS:
        names += ["9.wild", "function"]
        assert tool.push("original", tag="9") == tool.digest
        wild = tool.tagged("{tag}")
        parts += [
            rule.format(name="wild", image=container.format(wild)).replace("wild.txt", "{tag}.wild.txt"),
            rule.format(name="function", image=f'    container: lambda wildcards: "{tool.reference}"\n'),
        ]
    targets = f"TARGETS = {[f'{name}.txt' for name in names]}\n"
    workspace.write("more.smk", rule.format(name="included", image=container.format(tool.reference)))
    inner = rule.format(name="inner", image=container.format(tool.reference)).replace("inner.txt", "module_inner.txt")
    workspace.write("inner.smk", inner)
    workspace.write("Snakefile", targets + "".join(parts))
    workspace.snakemake(flag="lock")

    urls = {name: url_of(workspace, f"{name}.txt") for name in names}
    expected = {name: tool.pinned(tool.digest) for name in names} | {"shared": other.pinned(digest), "bare": None}
    assert urls == expected
    assert {name: workspace.read(f"{name}.txt") for name in ("static", "shared", "bare")} == {
        "static": "original\n", "shared": "other\n", "bare": "outside\n"
    }  # fmt: skip


def test_checkpoint(name, workspace, tool):
    """checkpoint: jobs that a checkpoint brings run the pinned image"""
    workspace.write(
        "Snakefile",
        f"""
        def made(wildcards):
            with open(checkpoints.choose.get().output[0]) as file:
                return [f"{{name}}.txt" for name in file.read().split()]

        rule all:
            input: made

        checkpoint choose:
            output: "names"
            shell: "echo later > {{output}}"

        rule read:
            output: "{{name}}.txt"
            container: "{tool.reference}"
            shell: "cat /message > {{output}}"
        """,
    )
    workspace.snakemake(flag="lock")

    assert (url_of(workspace, "later.txt"), workspace.read("later.txt")) == (tool.pinned(tool.digest), "original\n")


def test_modes(name, reads, tool):
    """modes: a dry run writes nothing, update moves a pin, locked adds none, frozen asks no registry"""
    before = set(reads.files())
    dry = reads.snakemake("--dry-run", flag="lock")
    assert f"would be added: {tool.reference} → {tool.digest[:19]}" in dry.ours
    assert {path for path in reads.files() if not path.startswith(".snakemake")} == before

    reads.snakemake(flag="lock")
    updated = tool.push("updated")
    assert "1 moved" in reads.snakemake(flag="lock").ours[0]
    reads.snakemake(*TRIGGERS, flag="update")
    assert (url_of(reads), reads.read("message.txt")) == (tool.pinned(updated), "updated\n")

    tool.registry.clear()
    reads.snakemake("--forceall", flag="frozen")
    assert tool.our_requests() == []
    reads.write("Snakefile", READS_MESSAGE.format(image=tool.tagged("other")))
    assert "mode locked does not add to it" in reads.snakemake(flag="locked", fails=True).output


def test_cluster(name, workspace, tool, python):
    """cluster: jobs run the pins of the main process although the tag moves meanwhile, and ask no registry"""
    write_slow_workflow(workspace, tool.reference, jobs=2)
    mover = TagMover(tool, workspace)
    workspace.snakemake(*make_cluster(workspace, python), flag="lock")
    mover.join()

    assert [workspace.read(f"{n}.txt") for n in range(2)] == ["original\n"] * 2
    assert {url_of(workspace, f"{n}.txt") for n in range(2)} == {tool.pinned(tool.digest)}
    assert tool.our_questions() == ["GET"]


def test_unshared(name, reads, tool, python):
    """unshared: without a shared image folder a job fetches by the digest, and proves, for itself"""
    usage = ("--shared-fs-usage", "persistence", "input-output", "sources", "source-cache")
    reads.snakemake(*make_cluster(reads, python), *usage, flag="lock")

    assert (url_of(reads), reads.read("message.txt")) == (tool.pinned(tool.digest), "original\n")


def test_afterwards(name, reads, tool):
    """afterwards: audit, report, summary and clean-up of images, as the pins say"""
    reads.snakemake(flag="lock")
    images = reads.folder / ".snakemake" / "singularity"
    before = {path.name for path in images.glob("*.simg")}
    answer = json.loads(reads.freshness("audit", "--json").stdout)
    reads.snakemake("--report-apptainer-freshness-path", "page.html", "--reporter", "apptainer-freshness")
    (images / f"{'0' * 32}.simg").touch()
    reads.snakemake("--container-cleanup-images", flag="lock")

    assert [one["verdict"] for one in answer["output"]] == ["proven"]
    assert tool.digest in reads.read("page.html")
    assert re.search("message.txt.*ok", reads.snakemake("--summary", flag="lock").stdout)
    assert {path.name for path in images.glob("*.simg")} == before


def test_python(name, reads, tool, python):
    """Python: install() and Snakemake's API do what the command line does"""
    reads.write(
        "run.py",
        """
        import pathlib
        import snakemake_apptainer_freshness
        from snakemake.api import SnakemakeApi
        from snakemake.settings import types

        snakemake_apptainer_freshness.install()
        with SnakemakeApi(types.OutputSettings()) as api:
            workflow = api.workflow(
                resource_settings=types.ResourceSettings(cores=1),
                config_settings=types.ConfigSettings(config={"apptainer_freshness": "lock"}),
                deployment_settings=types.DeploymentSettings(deployment_method={types.DeploymentMethod.APPTAINER}),
                snakefile=pathlib.Path("Snakefile"),
            )
            workflow.dag().execute_workflow()
        """,
    )
    reads.run(str(python), "run.py")

    assert (url_of(reads), reads.read("message.txt")) == (tool.pinned(tool.digest), "original\n")
    assert tool.reference in reads.lock().entries
