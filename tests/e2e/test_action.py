"""The GitHub Action: its own steps, run in a real clone with a real registry; only GitHub is stood in for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.workflow import READS_MESSAGE

ACTION = yaml.safe_load((Path(__file__).parents[2] / "action.yml").read_text())
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"] if "name" in step}
GH = '#!/bin/sh\nprintf \'%s\\n\' "$*" >> "$GH_LOG"\n[ "$2" != edit ] || [ -e "$GH_OPEN" ] || exit 1\n'
"""GitHub's own client: it writes down what it was asked, and knows an open pull request where the file is there."""


def git(folder, *arguments):
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


class Runner:
    """Runs the steps of the action in a clone of a repository, as the host would."""

    def __init__(self, workspace, folder):
        self.workspace = workspace
        self.remote = folder / "remote.git"
        self.temporary = folder / "temporary"
        self.log, self.open = folder / "gh.log", folder / "open"
        programs = folder / "bin"
        for made in (self.temporary, programs):
            made.mkdir()
        (programs / "gh").write_text(GH)
        (programs / "gh").chmod(0o755)
        self.outputs = folder / "outputs"
        self.environment = workspace.environment | {
            "PATH": f"{programs}:{Path(sys.executable).parent}:{workspace.environment['PATH']}",
            "RUNNER_TEMP": str(self.temporary),
            "GITHUB_OUTPUT": str(self.outputs),
            "GH_LOG": str(self.log),
            "GH_OPEN": str(self.open),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        }

    def publish(self):
        git(self.workspace.folder, "init", "--quiet", "--initial-branch=main")
        git(self.workspace.folder, "add", ".")
        git(self.workspace.folder, "commit", "--quiet", "--message", "a workflow")
        git(self.workspace.folder, "init", "--quiet", "--bare", str(self.remote))
        git(self.workspace.folder, "remote", "add", "origin", str(self.remote))

    def run(self, **inputs):
        """Both steps after the installation; the values of the action's inputs come from `inputs` or its defaults."""
        git(self.workspace.folder, "switch", "--quiet", "main")
        self.outputs.write_text("")
        values = {name: str(value.get("default", "")) for name, value in ACTION["inputs"].items()} | inputs
        for name in ("Upgrade the lock", "Propose it"):
            step = STEPS[name]
            given = {key: filled(text, values) for key, text in step["env"].items()}
            done = subprocess.run(
                [shutil.which("bash"), "-c", step["run"]],
                cwd=self.workspace.folder,
                env=self.environment | given,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        return self.outputs.read_text()

    @property
    def asked(self):
        return self.log.read_text().splitlines() if self.log.exists() else []


def filled(text, values):
    name = text.removeprefix("${{ inputs.").removesuffix(" }}")
    return values[name]


@pytest.fixture
def runner(workspace, tmp_path):
    return Runner(workspace, tmp_path)


def test_it_proposes_what_moved_with_its_text_and_nothing_where_nothing_moved(runner, repository, workspace):
    tool = repository()
    old = tool.push("original")
    workspace.write("Snakefile", READS_MESSAGE.format(image=tool.reference))
    workspace.write(".gitignore", ".snakemake/\n")
    subprocess.run(
        ["apptainer-freshness", "lock"], cwd=workspace.folder, env=runner.environment, check=True, capture_output=True
    )
    runner.publish()
    assert runner.run() == "changed=false\n"
    assert runner.asked == []

    new = tool.push("updated")
    assert runner.run() == "changed=true\n"
    body = (runner.temporary / "lock-changes.md").read_text()
    changed = git(runner.remote, "show", "--stat", "--format=%s", "apptainer-freshness/upgrade")
    assert f"| digest | `{old}` | `{new}` |" in body
    assert changed.startswith("Upgrade container images\n")
    assert "containers.lock" in changed
    assert "1 file changed" in changed
    assert [one.split()[1] for one in runner.asked] == ["edit", "create"]

    runner.open.touch()
    assert runner.run(images=tool.reference) == "changed=true\n"
    assert [one.split()[1] for one in runner.asked] == ["edit", "create", "edit"]


def test_what_an_input_says_is_no_code():
    for step in STEPS.values():
        assert "${{" not in step["run"]


def test_the_documents_name_every_input_and_no_other():
    text = (Path(__file__).parents[2] / "docs/pipelines.md").read_text()
    [table] = [part for part in text.split("\n\n") if part.startswith("| input |")]
    named = {name.strip("` ") for row in table.splitlines()[2:] for name in row.split("|")[1].split(",")}

    assert named == set(ACTION["inputs"])
