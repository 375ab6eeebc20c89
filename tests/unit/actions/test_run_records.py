"""Old records go by number or age; the newest stays, and nothing goes where the chain does not hold."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from snakemake_apptainer_freshness.actions import run_records
from snakemake_apptainer_freshness.actions.run_records import Keeping, believed, plan, remove
from snakemake_apptainer_freshness.errors import LocalIOError, UsageError
from snakemake_apptainer_freshness.record import journal, seal
from snakemake_apptainer_freshness.record.pruning import chain
from snakemake_apptainer_freshness.record.writer import newest_hash
from tests.support import journals, ssh


@pytest.fixture
def work(tmp_path):
    """A work directory of five records."""
    folder = tmp_path / "work"
    journals.write_chain(folder, 5)
    return folder


def names(folder):
    return sorted(path.name for path in journal.folder_of(folder).iterdir())


def test_the_newest_stay_by_their_number(work):
    planned = plan(work, Keeping(runs=2))
    assert (len(planned.gone), len(planned.left)) == (3, 2)
    assert len(names(work)) == 5  # nothing was done yet
    remove(planned)
    assert names(work) == [*(path.name for path in sorted(journal.folder_of(work).glob("2*.json"))), "removed.json"]
    assert len(journal.read_all(work)) == 2


def test_the_newest_stay_by_their_age(tmp_path):
    today = datetime.now(UTC).replace(microsecond=0)
    for number, days in enumerate((30, 20, 10)):
        began = today - timedelta(days=days)
        previous = newest_hash(journal.folder_of(tmp_path))
        run = replace(journals.numbered(number, previous=previous), id=f"{began:%Y%m%dT%H%M%S}.000000Z")
        journals.write(tmp_path, run)
    assert len(plan(tmp_path, Keeping(days=15)).gone) == 2
    assert len(plan(tmp_path, Keeping(days=25)).gone) == 1
    assert len(plan(tmp_path, Keeping(days=15, runs=2)).gone) == 1  # what either keeps stays


def test_the_newest_record_stays_whatever_its_age(work):
    assert len(plan(work, Keeping(days=0)).left) == 1
    assert len(plan(work, Keeping(runs=1)).left) == 1


def test_the_newest_record_that_has_an_end_stays_for_the_next_run_names_it(work):
    journals.write(work, journals.numbered(6, previous=journal.read_all(work)[-1].sha256, ended=False))
    assert len(plan(work, Keeping(runs=1)).left) == 2


def test_what_is_left_can_be_proven_and_again_after_a_second_time(work):
    remove(plan(work, Keeping(runs=3)))
    remove(plan(work, Keeping(runs=2)))
    runs = journal.read_all(work)
    removal, by = believed(work, runs)
    assert (removal.count, len(runs)) == (3, 2)
    assert by.startswith("this user")
    assert chain(runs, removal) == []


def test_a_run_after_a_removal_goes_on_with_the_chain(work):
    remove(plan(work, Keeping(runs=1)))
    journals.write(work, journals.numbered(9, previous=journal.read_all(work)[-1].sha256))
    runs = journal.read_all(work)
    assert chain(runs, believed(work, runs)[0]) == []


def test_seals_and_notes_of_removed_runs_go_with_them(work):
    oldest = journal.read_all(work)[0]
    seal.seal_of(journal.folder_of(work) / f"{oldest.id}.json").write_text("seal")
    (journal.folder_of(work) / f"{oldest.id}.jobs").mkdir()
    (journal.folder_of(work) / f"{oldest.id}.jobs" / "note").write_text("{}")
    remove(plan(work, Keeping(runs=4)))
    assert [name for name in names(work) if name.startswith(oldest.id)] == []


def test_outputs_that_only_removed_records_tell_of_are_counted(work):
    (work / "a.txt").write_text("made by all")
    assert plan(work, Keeping(runs=1)).outputs == 0
    planned = plan(work, Keeping(runs=1))
    assert run_records._only_of(work, planned.gone, ()) == 1


def test_nothing_goes_while_a_run_is_under_way(work):
    last = journal.read_all(work)[-1]
    journals.write(work, journals.numbered(7, previous=last.sha256, ended=False), alive=True)
    with pytest.raises(UsageError, match="under way"):
        plan(work, Keeping(runs=1))


def test_a_seal_that_cannot_be_made_removes_nothing(work, tmp_path):
    with pytest.raises(UsageError, match="is not a file"):
        remove(plan(work, Keeping(runs=1)), tmp_path / "no key")
    runs = journal.read_all(work)
    assert len(runs) == 5
    assert chain(runs, believed(work, runs)[0]) == []


def test_what_was_written_down_and_not_removed_is_removed_the_next_time(work, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(run_records, "remove_at", _fail)
        with pytest.raises(LocalIOError, match="cannot delete"):
            remove(plan(work, Keeping(runs=2)))
    remove(plan(work, Keeping(runs=2)))
    runs = journal.read_all(work)
    assert len(runs) == 2
    assert believed(work, runs)[0].count == 3


def test_a_sealed_removal_is_believed_by_another_user(work, tmp_path, monkeypatch):
    key = ssh.key(tmp_path / "keys")
    remove(plan(work, Keeping(runs=2)), key)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state of another user"))
    runs = journal.read_all(work)
    assert believed(work, runs)[0] is None
    removal, by = believed(work, runs, ssh.allowed(tmp_path, ada=key))
    assert by.endswith("sealed by ada")
    assert chain(runs, removal) == []


def test_a_folder_that_was_moved_keeps_what_was_removed(work, tmp_path):
    runs = journal.read_all(work)
    remove(plan(work, Keeping(runs=2)))
    work.rename(tmp_path / "moved")
    assert believed(tmp_path / "moved", runs)[0] is None  # its records say that they were made elsewhere
    moved = [replace(run, workdir=str(work)) for run in journal.read_all(tmp_path / "moved")]
    assert believed(tmp_path / "moved", moved)[0] is not None


def _fail(*_):
    raise PermissionError(13, "Permission denied")
