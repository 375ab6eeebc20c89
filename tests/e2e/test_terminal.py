"""A run in a real terminal of 120 columns: what Snakemake prints is whole, and no progress stays behind.

The terminal is a pseudo-terminal with a terminal emulator (pyte) behind it: what is looked at is what stands in the
scroll-back and on the screen when the run is over, as a person would see it.
"""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pyte
import pytest

COLUMNS, ROWS = 120, 30
DRAWN = re.compile(r"\x1b7.*?\x1b8", re.DOTALL)
"""What is written where the cursor is then led back from: the bottom line."""
TAKES = re.compile(r"\x1bD\x1b\[A(?=\x1b7)")
"""Makes room for the bottom line."""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
IMAGES = 6


class Terminal:
    """A terminal in which one command was run; `raw` is what was written to it."""

    def __init__(self, command, folder, environment):
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment | {"TERM": "xterm-256color"},
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)
        self.raw = b"".join(iter(lambda: _read(leader), b"")).decode()
        os.close(leader)
        self.status = process.wait()

    @property
    def lines(self):
        """What a person sees, from the first line of the scroll-back to the last of the screen."""
        screen = pyte.HistoryScreen(COLUMNS, ROWS, history=10_000, ratio=0.5)
        pyte.Stream(screen).feed(self.raw)
        above = ["".join(row[column].data for column in range(COLUMNS)) for row in screen.history.top]
        return [line.rstrip() for line in (*above, *screen.display)]

    @property
    def printed(self):
        """What the lines would be if nothing had been drawn."""
        plain = COLOUR.sub("", DRAWN.sub("", TAKES.sub("", self.raw))).replace("\r\n", "\n")
        assert "\x1b" not in plain
        return [
            line[start : start + COLUMNS].rstrip()
            for line in plain.split("\n")
            for start in range(0, max(len(line), 1), COLUMNS)
        ]


def _read(leader):
    try:
        return os.read(leader, 65536)
    except OSError:  # the last one that had the terminal open is gone
        return b""


@pytest.fixture
def run(repository, workspace):
    """A run that fetches some images, in a terminal."""
    tools = [repository(f"tool{number}") for number in range(IMAGES)]
    for number, tool in enumerate(tools):
        tool.push(f"message {number}")
    rules = "\n".join(
        f'rule r{number}:\n    output: "{number}.txt"\n    container: "{tool.reference}"\n'
        '    shell: "cat /message > {output}; echo printed by a job"\n'
        for number, tool in enumerate(tools)
    )
    targets = f'rule all:\n    input: [f"{{n}}.txt" for n in range({IMAGES})]\n\n'
    (workspace.folder / "Snakefile").write_text(targets + rules)
    command = [
        sys.executable,
        "-m",
        "snakemake",
        *workspace.snakemake_arguments(),
        "--config",
        "apptainer_freshness=lock",
    ]
    return Terminal(command, workspace.folder, workspace.environment)


def without_empty(lines):
    return [line for line in lines if line]


def test_progress_tears_no_line_of_snakemake_and_leaves_nothing_behind(run):
    assert run.status == 0
    assert f"fetching {IMAGES} images" in run.raw  # it was drawn
    assert without_empty(run.lines) == without_empty(run.printed)

    told = "\n".join(run.lines)
    assert f"fetching {IMAGES} images" not in told
    assert "[#" not in told
    pulling = [line for line in run.lines if "Pulling singularity image" in line]
    assert len(pulling) == IMAGES
    assert all(line.startswith("Pulling singularity image docker://") for line in pulling)
    assert told.count("printed by a job") >= IMAGES
