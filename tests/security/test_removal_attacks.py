"""Attacks that make a truncation of the records look like a clean-up.

Each test is the attack that its name says; the attacker can write the work directory, neither the victim's state folder
nor anything with the key of an allowed signer. Where an attack has a verification, it succeeds without that.
"""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from unittest import mock

import pytest

from snakemake_apptainer_freshness.actions import run_records
from snakemake_apptainer_freshness.actions.run_records import Keeping, believed, plan, remove
from snakemake_apptainer_freshness.audit import judge
from snakemake_apptainer_freshness.audit.judge import Sealing
from snakemake_apptainer_freshness.engine.persistence import read
from snakemake_apptainer_freshness.errors import UsageError
from snakemake_apptainer_freshness.record import journal, pruning, seal
from snakemake_apptainer_freshness.record.pruning import Removal, edges_of, path_in
from tests.support import audits, records, ssh

RUNS = 6


class Folder:
    """A work directory of six runs, of which its user removes those before the third."""

    def __init__(self, folder):
        self.folder = folder / "work"
        self.folder.mkdir()
        self.key = ssh.key(folder / "ada")
        self.allowed = ssh.allowed(folder, ada=self.key)
        made = []
        for number in range(1, RUNS + 1):
            image = audits.image()
            job = records.job(1, "count", records.output(self.folder, f"{number}.txt"), ran=image)
            made.append(records.run(self.folder, number, job, images=(image,)))
        records.write(self.folder, *made)

    @property
    def removed(self):
        return path_in(journal.folder_of(self.folder))

    def clean_up(self, *, keep=4, sealed=False):
        remove(plan(self.folder, Keeping(runs=keep)), self.key if sealed else None)

    def files(self):
        return sorted(journal.folder_of(self.folder).glob("2*.json"))

    def is_broken(self, *, allowed=False):
        sealing = Sealing(allowed=self.allowed if allowed else None)
        found = judge.audit([self.folder], read_metadata=read, sealing=sealing)
        return "chain-broken" in {one.kind.value for one in found.findings}

    def forged(self, **changes):
        """A removal that fits the records that are there, as the attacker writes it."""
        runs = journal.read_all(self.folder)
        first, newest = runs[0], runs[-1]
        gone = replace(first, id="20250101T000000.000000Z", sha256=first.previous, previous="", ended="")
        values = {
            "at": "2026-03-04T00:00:00Z",
            "user": "ada",
            "host": "node1",
            "workdir": str(self.folder),
            "count": 3,
            "last": gone.id,
            "newest": newest.id,
            "newest_sha256": newest.sha256,
            "edges": edges_of([gone], runs, None),
        }
        return Removal(**values | changes)


@pytest.fixture
def work(tmp_path):
    return Folder(tmp_path)


def test_a_removal_of_the_user_is_no_break_and_is_told(work):
    work.clean_up()
    assert not work.is_broken()
    found = judge.audit([work.folder], read_metadata=read)
    assert any("2 records up to that of run" in note for note in found.notes)


def test_the_records_that_stay_are_vouched_for_by_a_seal_as_before(work):
    work.clean_up()
    judge.audit([work.folder], read_metadata=read, sealing=Sealing(key=work.key, allowed=work.allowed))
    found = judge.audit([work.folder], read_metadata=read, sealing=Sealing(allowed=work.allowed))
    assert len(found.seals[0].vouched) == RUNS - 2
    assert found.seals[0].open == ()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_oldest_records_are_cut_off_and_nothing_says_so(work, count):
    for path in work.files()[:count]:
        path.unlink()
    assert work.is_broken()


def test_the_oldest_records_are_cut_off_and_a_removal_is_written(work):
    for path in work.files()[:3]:
        path.unlink()
    work.removed.write_bytes(work.forged().dumps())
    assert work.is_broken()
    assert work.is_broken(allowed=True)
    with mock.patch.object(run_records.state, "read", return_value=work.removed.read_bytes()):
        assert not work.is_broken()


@pytest.mark.parametrize("end", [0, 1, -1])
def test_one_record_more_is_cut_off_after_a_removal(work, end):
    work.clean_up()
    work.files()[end].unlink()
    assert work.is_broken()


def test_all_records_but_the_oldest_are_cut_off_after_a_removal(work):
    work.clean_up()
    for path in work.files()[1:]:
        path.unlink()
    assert work.is_broken()


def test_more_is_cut_off_and_the_removal_is_changed_to_fit(work):
    work.clean_up(sealed=True)
    work.files()[0].unlink()
    work.removed.write_bytes(work.forged().dumps())
    assert work.is_broken()
    assert work.is_broken(allowed=True)


def test_the_count_in_a_sealed_removal_is_changed(work, tmp_path, monkeypatch):
    work.clean_up(sealed=True)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state of the auditor"))
    assert not work.is_broken(allowed=True)
    table = json.loads(work.removed.read_bytes())
    work.removed.write_text(json.dumps(table | {"count": 1}, indent=1) + "\n")
    assert work.is_broken(allowed=True)


def test_a_removal_is_sealed_by_a_stranger(work, tmp_path, monkeypatch):
    mallory = ssh.key(tmp_path / "mallory")
    for path in work.files()[:3]:
        path.unlink()
    content = work.forged().dumps()
    work.removed.write_bytes(content)
    seal.sign_file(work.removed, hashlib.sha256(content).hexdigest(), mallory, namespace=seal.REMOVAL)
    assert work.is_broken(allowed=True)
    work.allowed = ssh.allowed(tmp_path, mallory=mallory)
    assert not work.is_broken(allowed=True)  # a seal of an allowed signer it is


def test_a_seal_that_was_made_for_a_record_stands_for_a_removal(work):
    for path in work.files()[:3]:
        path.unlink()
    content = work.forged().dumps()
    work.removed.write_bytes(content)
    seal.sign_file(work.removed, hashlib.sha256(content).hexdigest(), work.key)
    assert work.is_broken(allowed=True)
    with mock.patch.object(seal, "REMOVAL", seal.NAMESPACE):
        assert not work.is_broken(allowed=True)


def test_an_older_removal_is_put_back_after_a_newer_one(work):
    work.clean_up(keep=5)
    older = work.removed.read_bytes()
    work.clean_up(keep=3)
    work.removed.write_bytes(older)
    assert work.is_broken()


def test_the_removal_of_a_copy_is_put_where_the_same_records_were_cut_off(work, tmp_path):
    shutil.copytree(work.folder, tmp_path / "copy")
    remove(plan(tmp_path / "copy", Keeping(runs=4)))
    for path in work.files()[:2]:
        path.unlink()
    shutil.copy(path_in(journal.folder_of(tmp_path / "copy")), work.removed)
    assert work.is_broken()


def test_a_record_is_put_in_before_those_that_stayed(work):
    oldest = journal.read_all(work.folder)[0]
    work.clean_up()
    planted = replace(oldest, id="20260101T000000.000001Z", user="mallory")
    records.write(work.folder, planted)
    assert work.is_broken()
    with mock.patch.object(pruning, "_led_to", lambda runs, _: {run.sha256 for run in runs}):
        assert not work.is_broken()


def test_a_record_is_put_in_between_what_was_removed_and_what_stayed(work):
    before, after = journal.read_all(work.folder)[1:3]
    work.clean_up()
    times = {"started": after.started, "ended": after.started}
    planted = replace(before, id=f"{before.id[:-7]}999999Z", previous=after.previous, user="mallory", **times)
    records.write(work.folder, planted, chained=False)
    assert work.is_broken()


def test_a_clean_up_hides_no_truncation(work):
    work.files()[1].unlink()
    with pytest.raises(UsageError, match="does not hold"):
        work.clean_up(keep=2)
    assert len(work.files()) == RUNS - 1


def test_a_clean_up_hides_no_change(work):
    path = work.files()[2]
    path.write_bytes(path.read_bytes().replace(b'"rule":"count"', b'"rule":"other"'))
    with pytest.raises(UsageError, match="does not hold"):
        work.clean_up(keep=3)
    work.clean_up(keep=4)  # the changed one stays, and so does what is wrong with it
    assert work.is_broken()


def test_a_clean_up_hides_no_forged_removal(work):
    for path in work.files()[:2]:
        path.unlink()
    work.removed.write_bytes(work.forged().dumps())
    with pytest.raises(UsageError, match="which is a claim"):
        work.clean_up(keep=2)


def test_a_link_in_place_of_a_record_is_removed_and_not_followed(work, tmp_path):
    treasure = tmp_path / "treasure"
    treasure.mkdir()
    (treasure / "kept").write_text("kept")
    oldest = work.files()[0]
    (oldest.parent / f"{oldest.name.removesuffix('.json')}.jobs").symlink_to(treasure)
    work.clean_up()
    assert (treasure / "kept").read_text() == "kept"


def test_the_removal_is_a_fifo_or_a_link_to_one(work):

    os.mkfifo(work.removed)
    assert believed(work.folder, ())[0] is None
    assert not work.is_broken()
