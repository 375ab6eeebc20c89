"""A name in a shared folder that moves a terminal's cursor, hides a line or makes one up.

Each test is the attack that its name says. Whatever a verb prints for a person, at a terminal or into a pipe, has
neither escape sequences of others nor lines of theirs.
"""

import json
import re
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.common.files import HOST
from snakemake_apptainer_freshness.engine.messages import Line, log_line
from snakemake_apptainer_freshness.record.journal import folder_of
from snakemake_apptainer_freshness.store import records
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import journals, pins
from tests.support.command_line import good, place, terminal

__all__ = ["good", "place", "terminal"]

EVIL = "\x1b]0;owned\x07\x1b[2J\u202egpj\nerror: all is well\t\u061c"
FOREIGN = re.compile(r"[\x07\u061c\u202e]|\x1b\]|\x1b\[2J")
"""What no output may have; colours and progress bars of our own are fine."""


@pytest.fixture
def shared(good):
    """A place with names and contents that another user made."""
    wanted = pins.pin()
    image = image_path(good.prefix, wanted.url)
    for name in (
        f"{image.name}.partial-{HOST}-{2**22 + 1}-00000000{EVIL}",
        f"{image.name}.quarantine-{EVIL}",
        f".freshness-{EVIL}",
        f"{EVIL}.simg",
    ):
        (good.prefix / name).write_bytes(b"x")
    other = good.prefix / f"{'0' * 32}.simg"
    other.write_bytes(b"x")
    known = json.loads(pins.plant_record(image, wanted).read_bytes())
    records.path_of(other).write_text(json.dumps({**known, "image": other.name, "reference": f"docker://{EVIL}"}))
    run = replace(journals.numbered(1), workdir=str(good.folder))
    (good.folder / "a.txt").write_bytes(b"abc")
    journals.write(good.folder, run)
    record = folder_of(good.folder) / f"{run.id}.json"
    record.write_text(
        record.read_text()
        .replace('"user":"me"', f'"user":{json.dumps(EVIL)}')
        .replace('"rule":"a"', f'"rule":{json.dumps(EVIL)}')
    )
    return good


VERBS = [
    ("gc",),
    ("gc", "--yes"),
    ("doctor",),
    ("verify",),
    ("status", "--offline"),
    ("audit",),
]


def checked(answer):
    shown = answer.out + answer.err
    assert FOREIGN.search(shown) is None
    assert not any(line.startswith("error: all is well") for line in shown.splitlines())
    return answer


@pytest.mark.parametrize("arguments", VERBS, ids=" ".join)
def test_name_with_control_characters_in_a_pipe(shared, arguments):
    checked(shared.run(*arguments))


@pytest.mark.parametrize("arguments", VERBS, ids=" ".join)
def test_name_with_control_characters_at_a_terminal(shared, terminal, arguments):
    terminal()
    checked(shared.run(*arguments))


def test_name_with_control_characters_of_a_file_that_cannot_be_deleted(shared, monkeypatch):
    from snakemake_apptainer_freshness.actions import gc

    def refused(_folder, name):
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(gc, "remove_at", refused)
    answer = checked(shared.run("gc", "--yes"))
    assert "cannot delete" in answer.err


def test_name_with_control_characters_in_a_line_of_a_run(caplog):
    log_line(Line(text=f"  corrupt: {EVIL}", problem=True))
    assert all(FOREIGN.search(record.getMessage()) is None for record in caplog.records)
