"""Another user of a shared image folder swaps what is there while a victim works in it.

Each test is the attack that its name says. Victim and attacker are two accounts, and the folder is like ``/tmp``: each
may make names in it, and only the owner of one may rename or remove it.
"""

import contextlib
import ctypes
import os
import stat
import time
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.fetch import fetch
from snakemake_apptainer_freshness.actions.gc import NeededImages, WasteKind, free, plan
from snakemake_apptainer_freshness.common.files import HOST
from snakemake_apptainer_freshness.common.removal import remove_tree
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import accounts
from tests.support.accounts import ALICE, MALLORY
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
    """Do `work` for some time; how often it was done."""
    number, end = 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
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
