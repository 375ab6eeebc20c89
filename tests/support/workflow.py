"""A folder with a workflow in it, and a Snakemake that runs it with the real programs.

The home folder, and with it Apptainer's cache and every login, is the workspace's own.
"""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from snakemake_apptainer_freshness.actions.lock_io import read_lock
from snakemake_apptainer_freshness.lockfile import Lock
from tests.support import programs, warm

TIMEOUT = 180

READS_MESSAGE = """
    rule read:
        output: "message.txt"
        container: "{image}"
        shell: "cat /message > {{output}}"
    """
"""A workflow of one rule, which writes down the message of `image`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a command ended: its exit status, and what it printed on both channels."""

    status: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Both channels: Snakemake logs to standard error, and in a dry run to standard output."""
        return self.stderr + self.stdout

    @property
    def ours(self) -> list[str]:
        """What this project's plugin said: each summary, and the indented lines that follow it."""
        found: list[str] = []
        following = False
        for line in self.output.splitlines():
            following = line.startswith("apptainer-freshness: ") or (following and line.startswith("  "))
            if following and not line.startswith("apptainer-freshness: still "):  # a slow machine waits for more
                found.append(line.strip())
        return found


class Workspace:
    """A folder with a workflow; `home` is the home folder of whatever runs in it, `python` has the Snakemake."""

    warm: ClassVar[bool] = False
    """Whether a Python is forked from one that has large libraries loaded; the tests of pytest are run so."""

    def __init__(self, folder: Path, home: Path, python: Path | str = sys.executable) -> None:
        self.python = str(python)
        self.folder = folder
        self.home = home
        folder.mkdir(parents=True, exist_ok=True)
        home.mkdir(parents=True, exist_ok=True)
        self.environment = programs.environment(home) | {"APPTAINER_NOHTTPS": "1", "PYTHONUNBUFFERED": "1"}

    def write(self, name: str, text: str) -> Path:
        """Write a file of the workflow; common leading white space is taken away."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def read(self, name: str) -> str:
        """What a file of the workspace says."""
        return (self.folder / name).read_text()

    def exists(self, name: str) -> bool:
        """Whether there is such a file or folder."""
        return (self.folder / name).exists()

    def snakemake(
        self,
        *arguments: str,
        flag: str | None = None,
        sdm: bool = True,
        fails: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> Result:
        """Run Snakemake here; `flag` is given by ``--config``. Its exit status has to say whether it `fails`."""
        command = [self.python, "-m", "snakemake", *self.snakemake_arguments(sdm=sdm), *arguments]
        if flag is not None:
            command += ["--config", f"apptainer_freshness={flag}"]
        return self.run(*command, fails=fails, environment=environment)

    def snakemake_arguments(self, *, sdm: bool = True) -> list[str]:
        """What every call of Snakemake needs here."""
        return ["--cores", "2", "--nocolor", *(["--use-apptainer"] if sdm else [])]

    def freshness(self, *arguments: str, fails: bool = False) -> Result:
        """Run our command line here."""
        program = "from snakemake_apptainer_freshness.cli import main; main()"
        return self.run(self.python, "-c", program, *arguments, fails=fails)

    def run(self, *command: str, fails: bool = False, environment: Mapping[str, str] | None = None) -> Result:
        """Run `command` here."""
        words, env = [*map(str, command)], self.environment | dict(environment or {})
        if self.warm and words[0] == self.python and words[1] in ("-m", "-c"):
            result = warm.run(words, cwd=self.folder, env=env, timeout=TIMEOUT)
        else:
            result = subprocess.run(
                words, cwd=self.folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=TIMEOUT, check=False,
            )  # fmt: skip
        if bool(result.returncode) is not fails:
            expected = "to fail" if fails else "to succeed"
            raise AssertionError(f"expected {command} {expected}:\n{result.stdout}\n{result.stderr}")
        return Result(status=result.returncode, stdout=result.stdout, stderr=result.stderr)

    def lock(self, name: str = "containers.lock") -> Lock:
        """The lock file."""
        return read_lock(self.folder / name)

    def metadata(self, output: str) -> dict[str, object]:
        """What Snakemake recorded about an output file."""
        import base64

        name = base64.b64encode(output.encode()).decode()
        return dict(json.loads((self.folder / ".snakemake" / "metadata" / name).read_text()))

    def files(self) -> dict[str, bytes]:
        """Every file below the folder, Snakemake's own logs left out."""
        found = {}
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder, name)
                relative = str(path.relative_to(self.folder))
                if not relative.startswith((".snakemake/log", ".snakemake/iocache")):
                    found[relative] = path.read_bytes()
        return found
