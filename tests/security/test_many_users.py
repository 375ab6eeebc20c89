"""Many users on one image folder: what one fetched another uses, and no lock outlives its holder.

Two accounts with umasks of their own, in a folder like ``/tmp`` (sticky) and in one of a group (setgid).
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.check import check
from snakemake_apptainer_freshness.actions.fetch import fetch
from snakemake_apptainer_freshness.common.locks import exclusive, lock_path
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import accounts, sifs
from tests.support.accounts import ALICE, BOB
from tests.support.fake_apptainer import FakeApptainer

FOLDERS = pytest.mark.parametrize("mode", [0o1777, 0o2775], ids=["sticky", "setgid"])
UMASKS = pytest.mark.parametrize("umask", [0o077, 0o002], ids=["umask 077", "umask 002"])
SLOWLY = (
    'n=$(stat -c %s "$image"); head -c $((n / 2)) "$image" > "$destination"; sleep 0.3; cat "$image" > "$destination"'
)


def pinned(number: int) -> tuple[Pin, bytes]:
    """A pin that names the SHA-256 of its image, so that each user can prove it by reading it; and that image."""
    content = sifs.pulled("", labels={}, image_id=bytes([number]) * 16)
    digest = Digest(algorithm="sha256", hex=hashlib.sha256(content).hexdigest())
    pin = Pin(
        reference=parse(f"library://team/tools/tool{number}:1.0"),
        pinned=parse(f"library://team/tools/tool{number}:sha256.{digest.hex}"),
        digest=digest,
        platform=Platform.parse("linux/amd64"),
        content=digest,
    )
    return pin, content


PINS = [pinned(number) for number in range(3)]
WANTED = [pin for pin, _ in PINS]


@pytest.fixture
def fake(tmp_path):
    """A program that every account may run, and whose log all may write."""
    place = Path(tempfile.mkdtemp(prefix="program-", dir="/tmp"))
    place.chmod(0o755)
    program = FakeApptainer(place / "fake")
    for pin, content in PINS:
        program.serve(pin, content)
    program._log.touch()
    program._log.chmod(0o666)
    program.temporary.chmod(0o1777)
    fetch(WANTED, tmp_path / "images", environment=program.environment)  # loads what other accounts cannot read
    checked(tmp_path / "images")
    program._log.write_text("")
    yield program
    shutil.rmtree(place)


def fetched(prefix, environment):
    """What was done for each pin, and what each is."""
    return [(str(result.outcome), str(result.fact.state)) for result in fetch(WANTED, prefix, environment=environment)]


def checked(prefix):
    """What each image is, read in full."""
    return {str(fact.state) for fact in check(WANTED, prefix, full=True).values()}


@FOLDERS
@UMASKS
def test_what_one_fetched_the_other_uses_after_proving_it(fake, mode, umask):
    with accounts.shared_folder(mode) as prefix:
        assert accounts.run(ALICE, fetched, prefix, fake.environment, umask=umask) == [("pulled", "verified")] * 3
        assert accounts.run(BOB, fetched, prefix, fake.environment, umask=umask) == [("kept", "verified")] * 3
    assert len(fake.pulls) == 3


def test_an_image_in_a_folder_of_its_own_stays_as_the_umask_has_it(fake):
    def private(folder, environment):
        folder.mkdir()
        fetch(WANTED[:1], folder, environment=environment)
        return image_path(folder, WANTED[0].url).stat().st_mode & 0o077

    with accounts.shared_folder() as prefix:
        assert accounts.run(ALICE, private, prefix / "mine", fake.environment, umask=0o077) == 0


def die_with_the_lock(path):
    with exclusive(path):
        os.kill(os.getpid(), signal.SIGKILL)


def seconds_until_locked(path):
    started = time.monotonic()
    with exclusive(path, timeout=20):
        return time.monotonic() - started


def hold(path, seconds):
    with exclusive(path):
        time.sleep(seconds)


@FOLDERS
@UMASKS
def test_a_lock_blocks_nobody_once_its_holder_was_killed(mode, umask, tmp_path):
    hold(tmp_path / "loads what other accounts cannot read", 0)
    with accounts.shared_folder(mode) as prefix:
        with pytest.raises(AssertionError, match="without an answer"):
            accounts.run(ALICE, die_with_the_lock, prefix / "image", umask=umask)
        assert lock_path(prefix / "image").exists()
        assert accounts.run(BOB, seconds_until_locked, prefix / "image", umask=umask) < 2
        assert accounts.run(ALICE, seconds_until_locked, prefix / "image", umask=umask) < 2


@FOLDERS
@UMASKS
def test_a_lock_blocks_others_while_its_holder_lives_and_no_longer(mode, umask, tmp_path):
    hold(tmp_path / "loads what other accounts cannot read", 0)
    with accounts.shared_folder(mode) as prefix:
        holder = accounts.Child(ALICE, umask, hold, prefix / "image", 2.0)
        while not lock_path(prefix / "image").exists():
            time.sleep(0.01)
        assert 0.5 < accounts.run(BOB, seconds_until_locked, prefix / "image", umask=umask) < 10
        holder.result()


@FOLDERS
def test_thirty_processes_of_two_users_ten_killed_then_all_is_well(fake, mode):
    chance = random.Random(7)
    fake.behave(SLOWLY)
    with accounts.shared_folder(mode) as prefix:
        children = [
            accounts.Child((ALICE, BOB)[n % 2], (0o077, 0o002)[n // 2 % 2], fetched, prefix, fake.environment)
            for n in range(30)
        ]
        victims = chance.sample(children, 10)
        for victim in victims:
            time.sleep(chance.random() * 0.15)
            victim.kill()
        for child in children:
            if child not in victims:
                assert {state for _, state in child.result()} == {"verified"}
        for account in (ALICE, BOB):
            assert {state for _, state in accounts.run(account, fetched, prefix, fake.environment)} == {"verified"}
            assert accounts.run(account, checked, prefix) == {"verified"}
        assert {path.stat().st_size for path in prefix.glob("*.simg")} == {len(content) for _, content in PINS}
