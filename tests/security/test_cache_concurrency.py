"""Many runs on one image folder, and runs that are killed: one pull an image, and never half a file under its name."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time

import pytest

from snakemake_apptainer_freshness.actions.check import check, check_one
from snakemake_apptainer_freshness.actions.fetch import fetch
from snakemake_apptainer_freshness.common import locks
from snakemake_apptainer_freshness.common.locks import exclusive, lock_path
from snakemake_apptainer_freshness.errors import LocalIOError
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support.fake_apptainer import FakeApptainer, python
from tests.support.pins import pin, put

PINS = [pin(Digest(algorithm="sha256", hex=f"{number:064x}")) for number in range(3)]

RUN = """
import os, sys
from pathlib import Path
import filelock
from concurrent.futures import ThreadPoolExecutor
from snakemake_apptainer_freshness.actions.fetch import fetch
from snakemake_apptainer_freshness.image.digest import Digest
from tests.support.pins import pin
pins = [pin(Digest(algorithm="sha256", hex=f"{{number:064x}}")) for number in range(3)]
def run():
    results = fetch(pins, Path({prefix!r}), environment={environment!r})
    sys.exit(0 if all(result.fact.state.is_proven for result in results) else "\\n".join(map(str, results)))
children = []
if {runs} == 1:
    run()
for _ in range({runs}):
    children.append(os.fork())
    if not children[-1]:
        run()
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""
"""Some runs, as many processes, which begin in the same moment."""

SLOWLY = (
    'n=$(stat -c %s "$image"); head -c $((n / 2)) "$image" > "$destination"; sleep 0.2; cat "$image" > "$destination"'
)


@pytest.fixture
def fake(tmp_path):
    program = FakeApptainer(tmp_path / "fake")
    for each in PINS:
        program.serve(each)
    program.behave(SLOWLY)
    return program


@pytest.fixture
def prefix(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


def start(prefix, fake, runs: int = 1) -> subprocess.Popen[str]:
    code = RUN.format(prefix=str(prefix), environment=fake.environment, runs=runs)
    return subprocess.Popen(python(code), stderr=subprocess.PIPE, text=True)


class Reader:
    """A process that looks at the images all the time, and notes the state of each that is there."""

    def __init__(self, prefix) -> None:
        self._prefix = prefix
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.seen: set[str] = set()

    def _look(self) -> None:
        while not self._stop.is_set():
            for each in PINS:
                self.seen.add(check_one(each, image_path(self._prefix, each.url), remember=False).state.value)
            self._stop.wait(0.002)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


@pytest.mark.parametrize("runs", [2, 8, 30])
def test_runs_at_once_on_one_prefix(fake, prefix, runs):
    with Reader(prefix) as reader:
        process = start(prefix, fake, runs)
        errors = process.communicate(timeout=60)[1]
    assert (process.returncode, errors) == (0, "")
    assert sorted(fake.pulls) == sorted(each.url for each in PINS)
    assert reader.seen <= {"absent", "verified"}
    assert {fact.state for fact in check(PINS, prefix, full=True).values()} == {"verified"}
    assert not [path for path in prefix.iterdir() if ".lock" in path.name or ".partial" in path.name]


def test_kill_9_at_random_moments_then_a_normal_run(fake, prefix):
    chance = random.Random(4)
    with Reader(prefix) as reader:
        for _ in range(8):
            process = start(prefix, fake)
            time.sleep(0.15 + chance.random() * 0.9)
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            for path in prefix.glob("*.simg"):
                if chance.random() < 0.5:
                    path.unlink()  # so that there is something to do
        assert start(prefix, fake).communicate(timeout=60)[1] == ""
    assert reader.seen <= {"absent", "verified"}
    assert {fact.state for fact in check(PINS, prefix, full=True).values()} == {"verified"}
    time.sleep(0.5)  # programs of killed runs may still be writing to names of their own
    assert fetch(PINS, prefix, environment=fake.environment)[0].outcome == "kept"
    assert not list(prefix.glob(".*.lock"))


def test_a_lock_of_a_dead_process_is_broken_at_once(prefix, tmp_path):
    code = f"""
from pathlib import Path
from snakemake_apptainer_freshness.common.locks import exclusive
import os, signal
with exclusive(Path({str(tmp_path / "x")!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run(python(code), check=False).returncode == -signal.SIGKILL
    assert lock_path(tmp_path / "x").exists()
    started = time.monotonic()
    with exclusive(tmp_path / "x"):
        assert time.monotonic() - started < 2


def test_a_lock_of_a_living_process_is_not_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "DISK", DISK._replace(lock_patience=0.3, heartbeat=0.1))
    with exclusive(tmp_path / "x"):
        said: list[str] = []
        with (
            pytest.raises(LocalIOError, match="waited too long"),
            exclusive(tmp_path / "x", waiting=said.append, timeout=1),
        ):
            pytest.fail("two have the lock")
    assert said == [f"process {os.getpid()} on {os.uname().nodename}"]
    assert not lock_path(tmp_path / "x").exists()


def test_a_lock_of_another_host_is_broken_when_its_heartbeat_has_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "DISK", DISK._replace(lease=1.0, heartbeat=0.2))
    lock_path(tmp_path / "x").write_text(
        f"filelock/2\npid=1\nhost=elsewhere\nmode=lease\ntoken={'0' * 32}\nduration=1.0\n"
    )
    started = time.monotonic()
    with exclusive(tmp_path / "x", timeout=10):
        assert 0.9 < time.monotonic() - started < 5


def test_a_lock_that_is_rubbish_is_broken(tmp_path):
    lock_path(tmp_path / "x").write_text("rubbish")
    with exclusive(tmp_path / "x", timeout=10):
        pass


def test_two_runs_repair_one_bad_image_once(fake, prefix):
    put(prefix, PINS[0], b"garbage")
    process = start(prefix, fake, 4)
    assert (process.communicate(timeout=60)[1], process.returncode) == ("", 0)
    assert fake.pulls.count(PINS[0].url) == 1
    assert len(list(prefix.glob("*.quarantine-*"))) == 1
