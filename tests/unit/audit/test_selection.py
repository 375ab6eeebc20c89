"""An audit of some runs, some outputs, or some time."""

from pathlib import Path

import pytest

from snakemake_apptainer_freshness.audit.selection import Selection, since
from snakemake_apptainer_freshness.errors import UsageError
from tests.support import pins, records
from tests.support.audits import kinds, verdicts


@pytest.fixture
def two(work):
    """Two runs, of which the first made an output that was edited since."""
    image = work.image()
    old = records.job(1, "count", work.output("results/old"), ran=image, ended="2026-03-02T08:04:41Z")
    new = records.job(1, "count", work.output("results/new"), ran=image, ended="2026-03-03T08:04:41Z")
    work.write(work.run(1, old, images=(image,)), work.run(2, new, images=(image,)))
    (work.folder / "results" / "old").write_text("edited")
    return work


def test_one_run_alone(two):
    found = two.audit(selection=Selection(run="20260303"))

    assert verdicts(found) == {"results/new": "proven"}
    assert found.findings == ()
    assert [run.id for run in found.runs] == ["20260303T080000.000000Z"]


def test_the_findings_of_the_chosen_run_stay(two):
    assert kinds(two.audit(selection=Selection(run="20260302"))) == {"output-changed": 1}


def test_a_time(two):
    assert verdicts(two.audit(selection=Selection(since=since("2026-03-03")))) == {"results/new": "proven"}
    assert verdicts(two.audit(selection=Selection(since=since("2026-03-04")))) == {}


@pytest.mark.parametrize("file", ["results/old", "./results/old", "{folder}/results/old"])
def test_an_output_by_any_of_its_paths(two, file, monkeypatch):
    monkeypatch.chdir(two.folder)

    found = two.audit(selection=Selection(files=(file.format(folder=two.folder),)))

    assert verdicts(found) == {"results/old": "changed"}
    assert [run.id for run in found.runs] == ["20260302T080000.000000Z"]


def test_an_output_by_its_path_from_another_folder(two, monkeypatch):
    monkeypatch.chdir(two.folder.parent)

    assert set(verdicts(two.audit(selection=Selection(files=("work/results/old",))))) == {"results/old"}


def test_all_that_is_in_a_folder(two, monkeypatch):
    monkeypatch.chdir(two.folder)

    assert set(verdicts(two.audit(selection=Selection(files=("results/",))))) == {"results/old", "results/new"}


def test_a_file_that_nobody_knows_of_has_no_record(two, monkeypatch):
    monkeypatch.chdir(two.folder)
    (two.folder / "stray").write_text("from somewhere")

    found = two.audit(selection=Selection(files=("stray",)))

    assert verdicts(found) == {"stray": "no record"}
    assert kinds(found) == {"no-record": 1}


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        (Selection(run="2025"), "there is no run 2025"),
        (Selection(run="2026"), "several runs begin with 2026"),
        (Selection(files=("nowhere",)), "no record and no metadata knows of nowhere"),
    ],
    ids=["no run", "several runs", "no output"],
)
def test_what_is_not_there_is_one_clear_error(two, selection, words):
    with pytest.raises(UsageError, match=words):
        two.audit(selection=selection)


def test_a_time_is_this_machines_unless_it_says_otherwise():
    assert since("2026-03-02T08:00:00Z") == 1_772_438_400.0
    assert since("2026-03-02T08:00:00+00:00") == 1_772_438_400.0
    assert abs(since("2026-03-02") - 1_772_409_600.0) <= 14 * 3600


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "", " ", "9999-12-31"])
def test_what_is_no_time_is_one_clear_error(text):
    with pytest.raises(UsageError, match="--since cannot be"):
        since(text)


def test_the_pin_of_a_chosen_run_may_have_moved_since_one_that_is_not_chosen(work):
    from tests.support.audits import with_digest

    image = work.image()
    work.write(work.run(1, images=(image,)), work.run(2, images=(with_digest(image, "newer"),)))

    assert kinds(work.audit(selection=Selection(run="20260303"))) == {"pin-moved": 1}


def test_a_bad_image_of_the_chosen_run_is_found_though_nothing_is_left_that_it_made(work):
    image = work.image()
    work.write(work.run(1), work.run(2, images=(image,)))
    pins.flip_seven_bytes(Path(image.path))

    assert kinds(work.audit(selection=Selection(run="20260303"))) == {"bad-image": 1}
    assert kinds(work.audit(selection=Selection(run="20260302"))) == {}
