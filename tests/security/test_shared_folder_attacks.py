"""Another user of a shared image folder swaps what is there while a victim works in it.

Each test is the attack that its name says. Victim and attacker are two accounts, and the folder is like ``/tmp``: each
may make names in it, and only the owner of one may rename or remove it.
"""

import contextlib
import ctypes
import hashlib
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.fetch import fetch
from snakemake_apptainer_freshness.actions.gc import NeededImages, WasteKind, free, plan
from snakemake_apptainer_freshness.common.files import HOST
from snakemake_apptainer_freshness.common.removal import remove_tree
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.store import facts
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import accounts, sifs
from tests.support.accounts import ALICE, MALLORY
from tests.support.fake_apptainer import COPY, FakeApptainer
from tests.support.pins import pin

SECONDS = 1.0
"""How long victim and attacker race."""
MODE = 0o750
DEAD = f".partial-{HOST}-{2**22 + 1}-00000000.d"
"""What a pull leaves that was killed; no Linux has that process."""


@pytest.fixture(autouse=True)
def _loaded(tmp_path):
    """What a fetch loads when it is first needed: another account cannot read this checkout."""
    fetch([pin()], tmp_path / "images", environment={"PATH": "", "HOME": str(tmp_path)})


@pytest.fixture
def prefix():
    with accounts.shared_folder() as folder:
        yield folder


@pytest.fixture
def private(prefix):
    """A folder of the victim, elsewhere, that only her group may look into."""
    home = prefix / "home of alice"
    return accounts.run(ALICE, _make_private, home)


def _make_private(folder):
    (folder / "thesis").mkdir(parents=True)
    (folder / "thesis" / "chapter.tex").write_text("mine")
    (folder / "thesis").chmod(MODE)
    return folder / "thesis"


def _as_it_is(folder):
    """Its mode, and what is in it; none but its owner may look."""
    return stat.S_IMODE(folder.stat().st_mode), [path.name for path in folder.iterdir()]


def swapping(partial, private):
    """Be the attacker: what looks like a folder in one that a killed pull left is the victim's folder, by turns."""
    renameat2 = ctypes.CDLL(None).renameat2
    swapped = partial / "layer" / "folder", partial / "layer" / "link"
    names = [os.fsencode(path) for path in swapped]
    while True:
        with contextlib.suppress(OSError):
            swapped[0].mkdir(parents=True)
            swapped[1].symlink_to(private)
        for _ in range(1000):
            renameat2(_HERE, names[0], _HERE, names[1], _EXCHANGE)


_HERE, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux."""


def again_and_again(work):
    """Do `work` for some time, however slow the machine often enough; how often it was done."""
    number, end = 0, time.monotonic() + SECONDS
    while time.monotonic() < end or number <= 10:
        work()
        number += 1
    return number


def _collect(prefix):
    known = NeededImages(prefix=prefix, lock=Lock(), grace=30)
    return again_and_again(lambda: list(free(plan(known, []).waste, known)))


def _pull(prefix):
    environment = {"PATH": "", "HOME": str(prefix / "home of alice")}
    return again_and_again(lambda: fetch([pin()], prefix, environment=environment))


def _remove(partial):
    def removed():
        with contextlib.suppress(OSError):
            remove_tree(partial)

    return again_and_again(removed)


def test_swapped_partial_folder_during_gc(prefix, private):
    partial = prefix / (image_path(prefix, pin().url).name + DEAD)
    with accounts.running(MALLORY, swapping, partial, private):
        assert accounts.run(ALICE, _collect, prefix) > 10
    assert accounts.run(ALICE, _as_it_is, private) == (MODE, ["chapter.tex"])


def test_swapped_partial_folder_during_pull(prefix, private):
    partial = prefix / (image_path(prefix, pin().url).name + DEAD)
    with accounts.running(MALLORY, swapping, partial, private):
        assert accounts.run(ALICE, _pull, prefix) > 10
    assert accounts.run(ALICE, _as_it_is, private) == (MODE, ["chapter.tex"])


def test_swapped_folder_within_a_tree_that_root_removes(prefix, private):
    partial = prefix / "partial"
    with accounts.running(MALLORY, swapping, partial, private):
        time.sleep(0.1)
        assert accounts.Child(None, 0o022, _remove, partial).result() > 10
    assert accounts.run(ALICE, _as_it_is, private) == (MODE, ["chapter.tex"])


def test_partial_folder_of_another_user_with_the_name_of_ones_own(prefix):
    """Its name says that a process of this host left it; whose it is says that it is not ours to remove."""
    partial = prefix / (image_path(prefix, pin().url).name + DEAD)
    accounts.run(MALLORY, _make_open, partial)
    freed = accounts.run(ALICE, _free_all, prefix)
    assert [(what, error is not None) for what, error in freed] == [(WasteKind.PARTIAL, True)]
    assert (partial / "kept").is_file()


def _make_open(folder: Path):
    os.umask(0)
    folder.mkdir()
    (folder / "kept").write_text("x")


def _free_all(prefix):
    known = NeededImages(prefix=prefix, lock=Lock(), grace=30)
    return [(one.waste.what, one.error and str(one.error)) for one in free(plan(known, []).waste, known)]


def exchanging(folder, image):
    """Be the attacker: put a folder of one's own in the place of each that the victim makes, and in it `image`.

    The members of a group may rename what another member has made in its folder. What the victim writes to the folder
    in its place is replaced once it is there.
    """
    mine = set()
    while True:
        with contextlib.suppress(OSError):
            for path in folder.iterdir():
                if path.is_dir() and path.stat().st_uid != MALLORY.uid and not path.name.startswith("taken-"):
                    new = folder / f"taken-{os.urandom(4).hex()}"
                    new.mkdir()
                    new.chmod(0o777)
                    path.rename(folder / f"taken-{os.urandom(4).hex()}")
                    new.rename(path)
                    mine.add(path)
        for path in mine:
            with contextlib.suppress(OSError):
                for written in path.iterdir():
                    if written.is_file() and written.stat().st_uid != MALLORY.uid:
                        evil = path / ".evil"
                        evil.write_bytes(image)
                        evil.replace(written)
        time.sleep(0.01)


def _pulled(prefix, environment):
    """What was pulled, by its SHA-256 as it is known from now on; and what lies there."""
    [result] = fetch([pin()], prefix, environment=environment)
    known = sorted(fact.sha256 for fact in facts.about(pin()))
    there = image_path(prefix, pin().url)
    return known, str(result.error), _hash(there.read_bytes()) if there.exists() else ""


def test_swapped_image_while_it_is_pulled(fake):
    """In a folder that a group may write, its members may rename what another member has made there."""
    good, evil = fake.serve(pin()), sifs.pulled(pin().url.partition("://")[2], image_id=b"e" * 16)
    with accounts.shared_folder(0o2775) as prefix, accounts.running(MALLORY, exchanging, prefix, evil):
        known, error, there = accounts.run(ALICE, _pulled, prefix, fake.environment)
    assert (known, error, there) == ([_hash(good)], "None", _hash(good))


def test_swapped_temporary_folder_in_which_an_image_is_built(fake, prefix):
    """``TMPDIR`` may be a folder of a group; the image folder is the victim's own."""
    good, evil = fake.serve(pin()), sifs.pulled(pin().url.partition("://")[2], image_id=b"e" * 16)
    built = '"$APPTAINER_TMPDIR/built"'
    fake.behave(f'cp "$image" {built}; sleep 0.5; cp {built} "$destination"')
    with accounts.shared_folder(0o2775) as temporary, accounts.running(MALLORY, exchanging, temporary, evil):
        environment = fake.environment | {"TMPDIR": str(temporary)}
        known, error, there = accounts.run(ALICE, _pulled, prefix / "alice", environment)
    assert (known, error, there) == ([_hash(good)], "None", _hash(good))


def _hash(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def fake():
    """A program that every account may run, which takes its time before and after it writes."""
    place = Path(tempfile.mkdtemp(prefix="program-", dir="/tmp"))
    place.chmod(0o755)
    program = FakeApptainer(place / "fake")
    program.behave(f"sleep 0.5; {COPY}; sleep 0.5")
    program.temporary.chmod(0o1777)
    program._log.touch()
    program._log.chmod(0o666)
    yield program
    shutil.rmtree(place)
