"""A cluster of one machine, and a workflow whose tag moves while it runs there."""

import sys
import threading
import time
from pathlib import Path
from typing import Final, Protocol

from tests.support.workflow import Workspace

CLUSTER: Final = (
    "--executor", "cluster-generic", "--cluster-generic-submit-cmd", "./submit", "--jobs", "3", "--latency-wait", "10",
    "--seconds-between-status-checks", "0",
)  # fmt: skip
_WAIT: Final = 120  # seconds, for the first job to start


def make_cluster(workspace: Workspace, python: Path | str = sys.executable) -> tuple[str, ...]:
    """Write a submit command that starts jobs with an environment of their own; what Snakemake needs to use it."""
    submit = workspace.write(
        "submit",
        f"""\
        #!/bin/sh
        env -i PATH="{Path(python).parent}:$PATH" HOME="$HOME" PYTHONPATH="$PYTHONPATH" APPTAINER_NOHTTPS=1 \\
            APPTAINER_USERNS="$APPTAINER_USERNS" APPTAINER_UNSQUASH="$APPTAINER_UNSQUASH" \\
            sh "$1" > /dev/null 2>> cluster.log < /dev/null &
        echo $!
        """,
    )
    submit.chmod(0o755)
    return CLUSTER


def write_slow_workflow(workspace: Workspace, reference: str, jobs: int = 3) -> None:
    """Write a workflow of `jobs` jobs behind one that waits for a file ``go``."""
    workspace.write(
        "Snakefile",
        f"""
        rule all:
            input: [f"{{n}}.txt" for n in range({jobs})]

        rule first:
            output: "first.txt"
            container: "{reference}"
            shell: "touch waiting; while [ ! -e go ]; do sleep 0.1; done; cat /message > {{output}}"

        rule later:
            input: "first.txt"
            output: "{{n}}.txt"
            container: "{reference}"
            shell: "cat /message > {{output}}"
        """,
    )


class Pushes(Protocol):
    """What has a tag that a push moves."""

    def push(self, message: str) -> str:
        """Push an image whose ``/message`` says `message`; gives its digest."""


class TagMover(threading.Thread):
    """Moves the tag of a repository while the first job of the slow workflow waits, and then lets that go on."""

    def __init__(self, repository: Pushes, workspace: Workspace) -> None:
        super().__init__(daemon=True)
        self.repository = repository
        self.workspace = workspace
        self.start()

    def run(self) -> None:
        """Wait for the job, push, and let it go on."""
        deadline = time.monotonic() + _WAIT
        while not self.workspace.exists("waiting") and time.monotonic() < deadline:
            time.sleep(0.05)
        self.repository.push("updated")
        (self.workspace.folder / "go").touch()
