"""Fetching: every pin gets an image that is proven to be what it names."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from dataclasses import replace
from hashlib import sha256

import pytest

from snakemake_apptainer_freshness.actions.check import check
from snakemake_apptainer_freshness.actions.fetch import default_jobs, fetch
from snakemake_apptainer_freshness.common.files import HOST
from snakemake_apptainer_freshness.common.locks import exclusive
from snakemake_apptainer_freshness.errors import LocalIOError, MissingProgram, NotFound, PullFailed, UnprovenImage
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import places, pull
from snakemake_apptainer_freshness.store.prefix import ItemKind, image_path, survey
from tests.support import sifs
from tests.support.fake_apptainer import COPY, FakeApptainer, python
from tests.support.pins import DIGEST, REPOSITORY, pin, put, record


@pytest.fixture
def fake(tmp_path):
    return FakeApptainer(tmp_path / "fake")


@pytest.fixture
def prefix(tmp_path):
    return tmp_path / "images"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(pull, "DISK", DISK._replace(pull_backoff=0.01, race_backoff=0.01))


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


def numbered(number: int):
    return pin(replace(DIGEST, hex=f"{number:064x}"))


def kinds(prefix) -> list[str]:
    return sorted(item.kind.value for item in survey(prefix))


def test_an_absent_image_is_pulled_recorded_and_verified(fake, prefix):
    content = fake.serve(pin())
    (result,) = fetch([pin()], prefix, environment=fake.environment)

    image = image_path(prefix, pin().url)
    assert (result.outcome, result.fact.state, result.error) == ("pulled", "verified", None)
    assert image.read_bytes() == content
    assert image.stat().st_mode & 0o022 == 0
    known = places.load(image).content
    assert known is not None
    assert (known.sha256, known.size) == (sha256(content).hexdigest(), len(content))
    assert (known.digest, known.manifest, known.reference) == (DIGEST, None, pin().reference.text)
    assert (known.apptainer, known.proven_by) == ("apptainer 1.4.5", "pulled")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", known.proven_at)
    assert check([pin()], prefix)[pin().url].state == "verified"
    assert kinds(prefix) == ["image"]


def test_what_is_verified_is_kept_and_apptainer_is_not_even_looked_for(fake, prefix):
    fake.serve(pin())
    fetch([pin()], prefix, environment=fake.environment)
    (result,) = fetch([pin()], prefix, environment={"PATH": ""})
    assert (result.outcome, result.fact.state) == ("kept", "verified")


class Asked:
    """A source of manifests and layers that has none, and knows what it was asked for."""

    def __init__(self):
        self.digests = []

    def manifest(self, reference, digest):
        self.digests.append(digest)
        raise NotFound(f"there is no {digest}")

    def blob(self, reference, digest, start=0):
        raise NotFound(f"there is no {digest}")


def test_a_bound_image_that_cannot_be_compared_is_fetched_anew(fake, prefix):
    image = put(prefix, pin(), content := sifs.pulled(f"{REPOSITORY}@{DIGEST}", content=sifs.squashfs(filler=b"\x66")))
    fake.serve(pin())
    steps = []
    asked = Asked()
    (result,) = fetch([pin()], prefix, environment=fake.environment, source=asked, report=steps.append)

    assert (result.outcome, result.fact.state) == ("pulled", "verified")
    assert asked.digests == [DIGEST]
    assert [step.stage.value for step in steps] == ["proving", "pulling", "note", "done"]
    assert result.quarantined.read_bytes() == content
    assert image.read_bytes() != content


def test_an_image_that_is_bound_and_proven_elsewhere_is_known_by_its_hash(fake, prefix, tmp_path):
    record(put(tmp_path / "elsewhere", pin()), pin())
    put(prefix, pin())
    (result,) = fetch([pin()], prefix, environment=fake.environment, source=(asked := Asked()))

    assert (result.outcome, result.fact.state) == ("kept", "verified")
    assert (asked.digests, fake.pulls) == ([], [])


@pytest.mark.parametrize(
    "former", [b"", b"garbage", sifs.pulled(f"{REPOSITORY}:1.0"), sifs.pulled(f"{REPOSITORY}@sha256:{'0e' * 32}")]
)
def test_a_bad_image_is_moved_aside_and_replaced(fake, prefix, former):
    put(prefix, pin(), former)
    fake.serve(pin())
    (result,) = fetch([pin()], prefix, environment=fake.environment)
    assert result.fact.state == "verified"
    assert result.quarantined is not None
    assert result.quarantined.read_bytes() == former
    assert kinds(prefix) == ["image", "quarantine"]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("/elsewhere")])
def test_what_is_no_file_is_moved_aside_and_replaced(fake, prefix, make):
    prefix.mkdir()
    make(image_path(prefix, pin().url))
    fake.serve(pin())
    (result,) = fetch([pin()], prefix, environment=fake.environment)
    assert result.fact.state == "verified"
    assert kinds(prefix) == ["image", "quarantine"]


def test_results_come_in_the_order_of_the_pins_each_once(fake, prefix):
    pins = [numbered(number) for number in (3, 1, 2, 1)]
    for each in pins:
        fake.serve(each)
    assert [result.pin for result in fetch(pins, prefix, environment=fake.environment)] == pins[:3]
    assert len(fake.pulls) == 3


def test_an_image_that_fails_does_not_stop_the_others(fake, prefix):
    for number in (1, 3):
        fake.serve(numbered(number))
    fake.behave(f'{COPY} || {{ echo "manifest unknown" >&2; exit 255; }}')
    results = fetch([numbered(number) for number in (1, 2, 3)], prefix, environment=fake.environment)
    assert [result.outcome for result in results] == ["pulled", "failed", "pulled"]
    assert isinstance(results[1].error, PullFailed)
    assert "the registry no longer has it" in results[1].error.message
    assert results[1].fact.state == "absent"


def test_a_bad_image_stays_where_it_is_if_no_good_one_can_be_had(fake, prefix):
    image = put(prefix, pin(), b"garbage")
    (result,) = fetch([pin()], prefix, environment=fake.environment)
    assert result.outcome == "failed"
    assert image.read_bytes() == b"garbage"
    assert kinds(prefix) == ["image"]


def test_each_step_is_reported_one_call_at_a_time(fake, prefix):
    inside = threading.Lock()
    steps = []

    def report(step):
        assert inside.acquire(blocking=False)
        steps.append((step.pin.url, step.stage.value))
        time.sleep(0.001)
        inside.release()

    pins = [numbered(number) for number in range(8)]
    for each in pins:
        fake.serve(each)
    fetch(pins, prefix, environment=fake.environment, report=report, jobs=4)
    assert sorted(steps) == sorted((each.url, stage) for each in pins for stage in ("pulling", "done"))


_DOWNLOADED = "echo 'INFO:    Extracting OCI image...' >&2"
_COUNT_THOSE_AT_ONCE = (
    """
mkdir {folder}/$$; ls -d {folder}/[0-9]* | wc -l >> {folder}/at-once; {announce}; sleep 0.2
rmdir {folder}/$$
"""
    + COPY
)


def at_once(fake, prefix, folder, *, announce="true", jobs=None) -> int:
    """The most pulls that run at once, of six."""
    fake.behave(_COUNT_THOSE_AT_ONCE.format(folder=folder, announce=announce))
    pins = [numbered(number) for number in range(6)]
    for each in pins:
        fake.serve(each)
    results = fetch(pins, prefix, environment=fake.environment, jobs=jobs)
    assert {result.outcome for result in results} == {"pulled"}
    return max(map(int, (folder / "at-once").read_text().split()))


def test_as_many_are_fetched_at_once_as_was_asked_for(fake, prefix, tmp_path):
    assert at_once(fake, prefix, tmp_path, jobs=3) == 3


def test_what_was_asked_for_is_not_exceeded_by_those_that_are_past_their_download(fake, prefix, tmp_path):
    assert at_once(fake, prefix, tmp_path, announce=_DOWNLOADED, jobs=2) == 2


def test_while_some_are_past_their_download_others_begin(fake, prefix, tmp_path, two_cores):
    assert at_once(fake, prefix, tmp_path, announce=_DOWNLOADED) == 2 + DISK.pulls_beside


def test_no_more_than_half_the_cores_download_at_once(fake, prefix, tmp_path, two_cores):
    assert at_once(fake, prefix, tmp_path) == 2


def test_half_the_cores_fetch_at_least_two(monkeypatch):
    for cores, jobs in ((1, 2), (2, 2), (4, 2), (8, 4), (64, 32)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert default_jobs() == jobs


def test_a_failure_of_the_network_is_tried_again(fake, prefix, tmp_path):
    fake.serve(pin())
    fake.behave(
        f"[ -e {tmp_path}/tried ] || {{ touch {tmp_path}/tried; echo 'connection reset by peer' >&2; exit 255; }};"
        f"{COPY}"
    )
    notes = []
    (result,) = fetch([pin()], prefix, environment=fake.environment, report=lambda step: notes.append(step.detail))
    assert result.outcome == "pulled"
    assert len(fake.pulls) == 2
    assert any("trying again" in note for note in notes)


def test_a_network_that_stays_away_is_given_up(fake, prefix):
    fake.behave("echo 'dial tcp: i/o timeout' >&2; exit 255")
    (result,) = fetch([pin()], prefix, environment=fake.environment)
    assert isinstance(result.error, PullFailed)
    assert len(fake.pulls) == DISK.pull_attempts


def test_a_refusal_of_the_registry_is_not_tried_again(fake, prefix):
    fake.behave("echo 'UNAUTHORIZED: authentication required' >&2; exit 255")
    fetch([pin()], prefix, environment=fake.environment)
    assert len(fake.pulls) == 1


def test_no_apptainer_is_said_for_each_image(prefix, tmp_path):
    (result,) = fetch([pin()], prefix, environment={"PATH": str(tmp_path)})
    assert isinstance(result.error, MissingProgram)


def test_a_pull_that_makes_no_file_is_an_error(fake, prefix):
    fake.behave("exit 0")
    (result,) = fetch([pin()], prefix, environment=fake.environment)
    assert isinstance(result.error, UnprovenImage)
    assert "made no file" in result.error.message


def test_a_folder_that_cannot_be_made_is_an_error(fake, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LocalIOError, match="cannot make the image folder"):
        fetch([pin()], tmp_path / "file/images", environment=fake.environment)


def test_what_a_killed_run_left_is_removed(fake, prefix):
    fake.serve(pin())
    dead = subprocess.Popen(python(""))
    dead.wait()
    image = image_path(prefix, pin().url)
    prefix.mkdir()
    leftovers = [prefix / f"{image.name}.partial-{host}-{process}-01234567" for host, process in (
        (HOST, dead.pid), (HOST, 1), ("another-host", dead.pid),
    )]  # fmt: skip
    for path in leftovers:
        path.touch()
    folder = prefix / f"{leftovers[0].name}.d"
    (folder / "locked").mkdir(parents=True, mode=0)
    leftovers.append(folder)
    fetch([pin()], prefix, environment=fake.environment)
    assert [path.exists() for path in leftovers] == [False, True, True, False]


def test_a_wait_for_another_run_is_shown(fake, prefix, monkeypatch):
    from snakemake_apptainer_freshness.common import locks

    monkeypatch.setattr(locks, "DISK", DISK._replace(lock_patience=0.05))
    content = fake.serve(pin())
    prefix.mkdir()
    steps = []

    def other_run():
        with exclusive(image_path(prefix, pin().url)):
            held.set()
            time.sleep(0.5)
            record(put(prefix, pin(), content), pin())

    held = threading.Event()
    thread = threading.Thread(target=other_run)
    thread.start()
    held.wait()
    (result,) = fetch([pin()], prefix, environment=fake.environment, report=steps.append)
    thread.join()

    assert (result.outcome, result.fact.state) == ("kept", "verified")
    assert [(step.stage, step.detail) for step in steps] == [
        ("waiting", f"for process {os.getpid()} on {HOST}"), ("done", "fetched by another run"),
    ]  # fmt: skip
    assert fake.pulls == []


INTERRUPTED = """
from pathlib import Path
from snakemake_apptainer_freshness.actions.fetch import fetch
from tests.support.pins import pin
fetch([pin()], Path({prefix!r}), environment={environment!r})
"""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_an_interrupted_fetch_leaves_nothing_half_written(fake, prefix, tmp_path, number, status):
    fake.serve(pin())
    fake.behave(
        f'head -c 1000 "$image" > "$destination"; touch "$APPTAINER_TMPDIR/x";'
        f"echo $$ > {tmp_path}/process; exec sleep 300"
    )
    code = INTERRUPTED.format(prefix=str(prefix), environment=fake.environment)
    run = subprocess.Popen(python(code), stderr=subprocess.PIPE, text=True, env={**os.environ, **fake.environment})
    for _ in range(200):
        if (tmp_path / "process").exists() and (tmp_path / "process").read_text():
            break
        time.sleep(0.05)
    run.send_signal(number)
    _, said = run.communicate(timeout=20)
    assert run.returncode == status, said
    assert list(prefix.iterdir()) == []
    assert list(fake.temporary.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "process").read_text()), 0)


def test_signals_mean_what_they_meant_before(fake, prefix):
    fake.serve(pin())
    before = signal.getsignal(signal.SIGTERM)
    fetch([pin()], prefix, environment=fake.environment)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_fetch_in_a_thread_leaves_signals_alone(fake, prefix):
    fake.serve(pin())
    thread = threading.Thread(target=fetch, args=([pin()], prefix), kwargs={"environment": fake.environment})
    thread.start()
    thread.join()
    assert check([pin()], prefix)[pin().url].state == "verified"


def test_every_kind_of_file_that_a_fetch_makes_is_known_to_the_survey(fake, prefix):
    put(prefix, pin(), b"garbage")
    fake.serve(pin())
    fetch([pin()], prefix, environment=fake.environment)
    assert ItemKind.FOREIGN not in {item.kind for item in survey(prefix)}
