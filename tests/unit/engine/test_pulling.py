"""What a user sees of images that are fetched inside a run, and one error for all that could not be had."""

import pytest

from snakemake_apptainer_freshness.actions.fetch import FetchOutcome, Progress, Result, Stage
from snakemake_apptainer_freshness.engine import pulling
from snakemake_apptainer_freshness.errors import Denied, NotFound
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState
from tests.support import pins

ONE, TWO = pins.pin(), pins.pin(pins.OTHER)


@pytest.fixture
def told(monkeypatch):
    lines = []
    monkeypatch.setattr(pulling, "log_line", lambda line: lines.append(line.text))
    return lines


@pytest.fixture
def fetching(monkeypatch):
    """Has the fetching of images report `steps` and end with `results`."""

    def end(results, *steps):
        def fetch(asked, prefix, *, report, source, libraries):
            for step in steps:
                report(step)
            return results

        monkeypatch.setattr(pulling, "fetch", fetch)

    return end


def result(pin, outcome=FetchOutcome.KEPT, path="", error=None):
    state = DiskState.ABSENT if error else DiskState.VERIFIED
    return Result(pin=pin, outcome=outcome, fact=DiskFact(state=state, path=str(path)), error=error)


def test_what_came_is_told_with_its_size_and_what_was_there_is_not(told, fetching, tmp_path):
    path = pins.put(tmp_path, ONE, b"x" * 2048)
    results = [result(ONE, FetchOutcome.PULLED, path), result(TWO)]
    fetching(results)
    assert pulling.fetch_images([ONE, TWO], tmp_path, bars=False) == results
    [line] = told
    assert line.startswith("Fetched 1 image, 2")
    fetching([result(TWO)])
    told.clear()
    pulling.fetch_images([TWO], tmp_path, bars=False)
    assert told == []


def test_each_step_is_a_line_for_its_image(told, fetching, tmp_path):
    fetching(
        [result(ONE)],
        Progress(pin=ONE, stage=Stage.PULLING, detail="its image is stale"),
        Progress(pin=ONE, stage=Stage.WAITING, detail="for process 7"),
        Progress(pin=ONE, stage=Stage.NOTE, detail="the cache is full"),
        Progress(pin=ONE, stage=Stage.PROVING, detail="it is bound"),
        Progress(pin=ONE, stage=Stage.DONE, detail="its layers are the same", outcome=FetchOutcome.PROVEN),
        Progress(pin=ONE, stage=Stage.DONE, detail="not told", outcome=FetchOutcome.PULLED),
    )
    pulling.fetch_images([ONE], tmp_path, bars=False)
    name = ONE.reference.text
    assert told == [
        f"Pulling singularity image {ONE.url}. (its image is stale)",
        f"apptainer-freshness: waiting for process 7, which is fetching {name}",
        f"apptainer-freshness: {name}: the cache is full",
        "apptainer-freshness: comparing an image with its layers: it is bound",
        f"apptainer-freshness: {name}: its layers are the same",
    ]


def test_one_image_that_cannot_be_had_is_its_own_error(told, fetching, tmp_path):
    error = Denied("access denied", hint="log in")
    fetching([result(ONE, FetchOutcome.FAILED, error=error)])
    with pytest.raises(Denied) as raised:
        pulling.fetch_images([ONE], tmp_path, bars=False)
    assert raised.value is error


def test_all_that_cannot_be_had_is_one_error_which_says_each_hint_once(told, fetching, tmp_path):
    gone, denied = NotFound("it is gone", hint="look"), Denied("access denied", hint="look")
    fetching([result(ONE, FetchOutcome.FAILED, error=gone), result(TWO, FetchOutcome.FAILED, error=denied)])
    with pytest.raises(NotFound) as raised:
        pulling.fetch_images([ONE, TWO], tmp_path, bars=False)
    name = ONE.reference.text
    assert raised.value.message == f"cannot fetch 2 images:\n  {name}: it is gone\n  {name}: access denied"
    assert raised.value.hint == "look"


def test_an_image_that_nobody_can_prove_offline_stays_what_it_is(told, tmp_path):
    path = pins.put(tmp_path, ONE)
    facts = {ONE.url: DiskFact(state=DiskState.BOUND, path=str(path), detail="its label says so")}
    found = pulling.attest_images([ONE], tmp_path, facts, bars=False, online=False)
    assert found.get(ONE.url, facts[ONE.url]).state is not DiskState.VERIFIED
    assert told[:1] == [
        "apptainer-freshness: comparing an image with its layers: its image is bound: its label says so"
    ]
    assert path.exists()


def test_a_library_that_has_no_image_gives_none(told, tmp_path):
    (tmp_path / "library").mkdir()
    assert pulling.search_libraries([ONE], [tmp_path / "library"], bars=False, online=False) == {}
    assert told == []


def test_an_image_of_a_library_is_used_in_place_and_told(told, tmp_path):
    path = pins.put(tmp_path / "library", ONE)
    pins.record(path, ONE)
    found = pulling.search_libraries([ONE], [tmp_path / "library"], bars=False, online=False)
    assert found[ONE.url].state is DiskState.VERIFIED
    assert told[-1].startswith(f"apptainer-freshness: {ONE.reference.text}: used in place, {path}: ")
