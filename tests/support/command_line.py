"""A folder with a lock and an image folder, in which the command line runs in this process; and its fixtures."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from snakemake_apptainer_freshness import cli
from snakemake_apptainer_freshness.actions import mounting
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from snakemake_apptainer_freshness.pin import Pin
from tests.support import pins
from tests.support.fake_apptainer import FakeApptainer
from tests.support.pins import entry_of


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document that was printed."""
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """The lines that a pipe gets, by their tabs."""
        return [line.split("\t") for line in self.out.splitlines()]


@dataclass(frozen=True, kw_only=True)
class Place:
    """`home` is the home folder, `folder` the workflow's, `prefix` Snakemake's image folder."""

    home: Path
    folder: Path
    fake: FakeApptainer
    capsys: pytest.CaptureFixture[str]

    @property
    def prefix(self) -> Path:
        """The image folder."""
        return self.folder / ".snakemake" / "singularity"

    @property
    def cache(self) -> Path:
        """Apptainer's cache."""
        return self.home / ".apptainer" / "cache"

    def lock(self, *wanted: Pin) -> None:
        """Write a lock of these pins."""
        (self.folder / "containers.lock").write_text(dumps(Lock.of(entry_of(pin) for pin in wanted)))

    def run(self, *arguments: object) -> Answer:
        """Run a command; it may fail, but by no exception."""
        status = cli.run([*map(str, arguments)])
        captured = self.capsys.readouterr()
        assert "Traceback" not in captured.err
        return Answer(status=status, out=captured.out, err=captured.err)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Place:
    """An empty place, whose Apptainer is a fake with no cache of its own."""
    fake = FakeApptainer(tmp_path / "fake")
    home, folder = tmp_path / "home", tmp_path / "workflow"
    home.mkdir()
    folder.mkdir()
    for name in ("APPTAINER_CACHEDIR", "APPTAINER_CONFIGDIR", "SINGULARITY_CACHEDIR", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    for name in (
        "XDG_RUNTIME_DIR",
        "REGISTRY_AUTH_FILE",
        "APPTAINER_AUTH_FILE",
        "SINGULARITY_AUTHFILE",
        "APPTAINER_TMPDIR",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", fake.environment["PATH"])
    monkeypatch.setenv("TMPDIR", str(fake.temporary))
    monkeypatch.setenv("APPTAINER_UNSQUASH", "1")
    monkeypatch.setattr(mounting, "SMALL", 0)  # where tests keep their files says nothing of this place
    monkeypatch.chdir(folder)
    return Place(home=home, folder=folder, fake=fake, capsys=capsys)


@pytest.fixture
def good(place: Place) -> Place:
    """A place whose lock names one image, which is there and recorded."""
    wanted = pins.pin()
    place.lock(wanted)
    image = pins.put(place.prefix, wanted)
    pins.record(image, wanted)
    return place


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Standard output is a terminal of 80 columns that knows colours."""

    class _Terminal:
        def isatty(self) -> bool:
            return True

    def switch() -> None:
        monkeypatch.setattr(type(sys.stdout), "isatty", _Terminal.isatty, raising=False)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.delenv("NO_COLOR", raising=False)

    return switch
