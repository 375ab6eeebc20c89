"""docs/tour.md is true: each of its commands is run, and what it shows is what they print.

The images lie in a real registry on this machine, onto which ``registries.conf`` maps ``quay.io``: for our client and
for Apptainer alike.
"""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.support import images
from tests.support.registry import RealRegistry
from tests.support.workflow import Workspace

TOUR = Path(__file__).parents[2] / "docs" / "tour.md"
EVENTS = re.compile(r"^```(\w+)\n(.*?)^```$|<!-- (.*?) -->", re.MULTILINE | re.DOTALL)


class Tourist:
    """Does what the page says, in order."""

    def __init__(self, folder, registry):
        self.registry = registry
        self.home = folder / "home"
        self.here = Workspace(folder / "project", self.home)
        self.first = self.here
        configuration = self.home / ".config" / "containers" / "registries.conf"
        configuration.parent.mkdir(parents=True)
        configuration.write_text(
            f'[[registry]]\nprefix = "quay.io"\nlocation = "quay.io"\n'
            f'[[registry.mirror]]\nlocation = "{registry.host}"\ninsecure = true\n'
        )
        self.push("align", "1.0", "aligned")
        self.push("report", "2", "reported")

    def push(self, name, tag, message):
        images.push(images.tiny_image(message), self.registry.host, f"team/{name}", tag)

    def file(self, block):
        first, _, _ = block.partition("\n")
        self.here.write(first.removeprefix("# "), block)

    def console(self, block):
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            self.run(shlex.split(command), shown.splitlines())

    def run(self, command, shown):
        fails = "[exit status 1]" in shown
        program = [sys.executable, "-m", "snakemake"] if command[0] == "snakemake" else [self.program(command[0])]
        result = self.here.run(*program, *command[1:], fails=fails)
        for line in shown:
            if not line.startswith("[exit status"):
                pattern = ".*".join(re.escape(part) for part in line.split("…"))
                assert re.search(pattern, result.output), f"{command} did not print {line!r}:\n{result.output}"

    def program(self, name):
        return str(Path(sys.executable).with_name(name))

    def move_the_tag(self):
        self.push("report", "2", "reported anew")

    def go_elsewhere(self):
        self.registry.stop()
        there = Workspace(self.first.folder.parent / "elsewhere", self.first.folder.parent / "other-home")
        for name in ("Snakefile", "config.yaml", "project.bundle"):
            shutil.copy(self.first.folder / name, there.folder)
        self.here = there


@pytest.fixture
def tourist(tmp_path):
    with RealRegistry(tmp_path / "registry") as registry:
        yield Tourist(tmp_path, registry)


def test_every_command_of_the_tour_does_what_the_tour_says(tourist):
    for language, block, event in EVENTS.findall(TOUR.read_text()):
        match language or event:
            case "snakemake" | "yaml":
                tourist.file(block)
            case "console":
                tourist.console(block)
            case "the tag moves":
                before = tourist.here.read("report.txt")
                tourist.move_the_tag()
            case "elsewhere":
                agreed = tourist.here.read("report.txt")
                tourist.go_elsewhere()

    assert before == "aligned\nreported\n"
    assert agreed == "aligned\nreported anew\n"
    assert tourist.here.folder != tourist.first.folder
    assert tourist.here.read("report.txt") == agreed
