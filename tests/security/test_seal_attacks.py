"""Attacks on the chain of records: planted, cut, made anew, sealed by another signer, with a seal of something else.

Each test is the attack that its name says; the attacker can write the work directory, and has no key of an allowed
signer.
"""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.audit import judge
from snakemake_apptainer_freshness.audit.judge import Sealing
from snakemake_apptainer_freshness.audit.results import OutputVerdict
from snakemake_apptainer_freshness.engine.persistence import read
from snakemake_apptainer_freshness.record import journal
from snakemake_apptainer_freshness.record.seal import NAMESPACE, seal_of
from tests.support import audits, pins, records, ssh

PROVEN = OutputVerdict.PROVEN


class Folder:
    """A work directory of three runs, whose signer has the key of the allowed `ada`."""

    def __init__(self, folder):
        self.folder = folder / "work"
        self.folder.mkdir()
        self.key = ssh.key(folder / "ada")
        self.allowed = ssh.allowed(folder, ada=self.key)
        self.write()

    def write(self, user="ada", runs=3):
        """Make the records (anew)."""
        shutil.rmtree(journal.folder_of(self.folder), ignore_errors=True)
        made = []
        for number in range(1, runs + 1):
            image = audits.image()
            job = records.job(1, "count", records.output(self.folder, f"{number}.txt"), ran=image)
            made.append(replace(records.run(self.folder, number, job, images=(image,)), user=user))
        records.write(self.folder, *made)

    def run_with_an_image(self):
        image = audits.image()
        job = records.job(1, "count", records.output(self.folder, "planted.txt"), ran=image)
        shutil.rmtree(journal.folder_of(self.folder))
        return records.run(self.folder, 1, job, images=(image,))

    def audit(self, *, key=None, allowed=True):
        sealing = Sealing(key=key, allowed=self.allowed if allowed else None)
        found = judge.audit([self.folder], read_metadata=read, sealing=sealing)
        return {one.kind.value for one in found.findings} & {"bad-seal", "not-sealed", "chain-broken"}, found

    def files(self):
        return sorted(journal.folder_of(self.folder).glob("*.json"))


@pytest.fixture
def work(tmp_path):
    return Folder(tmp_path)


def test_chain_that_its_owner_sealed_is_vouched_for(work):
    kinds, found = work.audit(key=work.key)

    assert kinds == set()
    assert "is sealed by ada (ED25519 key SHA256:" in found.seals[0].text
    assert found.seals[0].open == ()


def test_chain_without_a_seal_is_vouched_for_by_nothing(work):
    kinds, found = work.audit(allowed=False)

    assert kinds == set()
    assert "the newest record is vouched for by nothing" in found.seals[0].text
    assert work.audit()[0] == {"not-sealed"}


def test_chain_made_anew_beside_its_seal(work):
    work.audit(key=work.key)
    sealed = seal_of(work.files()[-1])
    kept = sealed.read_bytes()
    work.write(user="mallory")
    sealed.write_bytes(kept)

    kinds, found = work.audit()
    assert kinds == {"bad-seal", "not-sealed"}
    assert found.count(PROVEN) == 2  # of the newest record, whose seal is not its own, nothing good is believed
    assert work.audit(allowed=False)[0] == {"bad-seal"}


def test_chain_made_anew_without_its_seal(work):
    work.audit(key=work.key)
    work.write(user="mallory")

    assert work.audit()[0] == {"not-sealed"}


def test_chain_made_anew_and_sealed_by_a_stranger(work, tmp_path):
    work.write(user="mallory")
    kinds, found = work.audit(key=ssh.key(tmp_path / "mallory"))

    assert kinds == {"bad-seal", "not-sealed"}
    assert any("of no allowed signer" in one.text for one in found.findings)


def test_chain_cut_behind_its_seal_loses_what_the_seal_vouched_for(work):
    work.audit(key=work.key)
    work.files()[-1].unlink()

    kinds, found = work.audit()
    assert kinds == {"not-sealed"}
    assert len(found.seals[0].open) == 2


def test_chain_cut_before_its_seal_is_broken(work):
    work.audit(key=work.key)
    work.files()[1].unlink()

    assert work.audit()[0] == {"chain-broken", "not-sealed"}


def test_records_after_a_seal_are_not_vouched_for_by_it(work):
    work.write(runs=2)
    work.audit(key=work.key)
    newest = journal.read_all(work.folder)[-1]
    later = records.run(work.folder, 3, records.job(1, "count", records.output(work.folder, "3.txt")))
    records.write(work.folder, replace(later, previous=newest.sha256), chained=False)

    kinds, found = work.audit()
    assert kinds == {"not-sealed"}
    assert found.seals[0].open == (later.id,)
    assert "1 other than that" in found.seals[0].text


def test_seal_of_the_same_key_for_another_purpose(work):
    record = work.files()[-1]
    signed = subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-f", work.key, "-n", "git"],
        input=record.read_bytes(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    seal_of(record).write_bytes(signed.stdout)

    assert NAMESPACE != "git"
    assert work.audit()[0] == {"bad-seal", "not-sealed"}


def test_seal_that_is_a_link_to_a_secret_is_not_read(work):
    record = work.files()[-1]
    seal_of(record).symlink_to(Path(work.key))

    kinds, found = work.audit()
    assert kinds == {"bad-seal", "not-sealed"}
    assert "PRIVATE KEY" not in repr(found)


def test_planted_record_in_a_clone_that_calls_its_image_verified(work):
    pins.forget_all()
    records.write(work.folder, work.run_with_an_image(), own=False)

    assert work.audit(allowed=False)[1].count(PROVEN) == 0
    _, sealed = work.audit(key=work.key)
    assert sealed.count(PROVEN) == 1
