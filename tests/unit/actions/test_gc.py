"""Garbage collection: which files no known lock needs, and how they are deleted."""

from __future__ import annotations

import os
import subprocess
import threading
import time

import pytest

from snakemake_apptainer_freshness.actions import gc as module
from snakemake_apptainer_freshness.actions.gc import NeededImages, WasteKind, free, plan
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
from snakemake_apptainer_freshness.common.files import HOST
from snakemake_apptainer_freshness.common.locks import exclusive
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from snakemake_apptainer_freshness.store import claims, places
from snakemake_apptainer_freshness.store.facts import ProvenBy
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support.fake_apptainer import python
from tests.support.pins import OTHER, entry_of, forget_all, pin, plant_record, put, record

OLD, NEW = pin(), pin(OTHER)
DAY = 24 * 3600


class Folder:
    """An image folder, and the lock that uses it."""

    def __init__(self, path):
        self.prefix = path / "images"
        self.cache = CacheFolder(root=path / "cache")
        self.elsewhere = path / "elsewhere"
        self.lock = Lock()
        for folder in (self.prefix, self.cache.root / "oci-tmp", self.elsewhere):
            folder.mkdir(parents=True)

    def fetched(self, wanted):
        image = put(self.prefix, wanted)
        record(image, wanted)
        return image

    def file(self, name, age=0.0, root=None):
        path = (root or self.prefix) / name
        path.write_bytes(b"x" * 100)
        os.utime(path, (time.time() - age, time.time() - age))
        return path

    @property
    def known(self):
        return NeededImages(prefix=self.prefix, lock=self.lock, grace=30)

    @property
    def plan(self):
        return plan(self.known, [self.cache])

    @property
    def waste(self):
        return {(one.what, one.file.path) for one in self.plan.waste}

    def free(self, *, foreign=False):
        found = self.plan
        return list(free([*found.waste, *(found.foreign if foreign else [])], self.known))

    def other_lock(self, *pins):
        path = self.elsewhere / "containers.lock"
        lock = Lock.of(entry_of(one) for one in pins)
        path.write_text(dumps(lock))
        claims.register(self.prefix, path, lock)
        return path


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def dead_process():
    process = subprocess.Popen(python(""))
    process.wait()
    return process.pid


def test_an_image_that_the_lock_names_stays_and_one_that_it_named_may_go(folder):
    folder.lock = Lock.of([entry_of(NEW)])
    old, new = folder.fetched(OLD), folder.fetched(NEW)

    assert folder.waste == {(WasteKind.IMAGE, old)}
    assert all(one.is_done for one in folder.free())
    assert sorted(folder.prefix.iterdir()) == [new]
    assert places.load(old) is None


def test_an_image_that_another_registered_lock_needs_stays(folder):
    folder.other_lock(OLD)
    folder.fetched(OLD)

    assert folder.waste == set()
    assert folder.plan.foreign == []


def test_an_image_without_a_record_is_foreign_and_goes_only_where_that_is_asked_for(folder):
    image = put(folder.prefix, OLD)

    assert [(one.what, one.file.path, one.reference) for one in folder.plan.foreign] == [
        (WasteKind.FOREIGN, image, f"{OLD.url}")
    ]
    assert folder.free() == []
    assert [one.is_done for one in folder.free(foreign=True)] == [True]
    assert not image.exists()


@pytest.mark.parametrize("damage", ["another size", "unknown here", "proven later"])
def test_an_image_that_this_user_did_not_fetch_is_foreign(folder, damage):
    image = folder.fetched(OLD)
    if damage == "proven later":
        record(image, OLD, proven_by=ProvenBy.COMPARED)
    elif damage == "another size":
        image.write_bytes(b"longer than before" * 10_000)
    else:
        forget_all()
        plant_record(image, OLD)

    assert [one.file.path for one in folder.plan.foreign] == [image]
    assert folder.waste == set()


def test_what_lies_around_is_found(folder):
    name = image_path(folder.prefix, OLD.url).name
    dead = f".partial-{HOST}-{dead_process()}-00000000"
    found = {
        (WasteKind.RECORD, folder.file(f"{name}.freshness.json")),
        (WasteKind.QUARANTINED, folder.file(f"{name}.quarantine-20260101T000000Z-00000000")),
        (WasteKind.PARTIAL, folder.file(f"{name}{dead}")),
        (WasteKind.PARTIAL, folder.file(f"{name}.freshness.json{dead}")),
        (WasteKind.PARTIAL, folder.file(f".freshness-clock-{HOST}-{dead_process()}-00000000")),
        (WasteKind.PARTIAL, folder.file(f"{name}.partial-elsewhere-1-00000000", age=2 * DAY)),
        (WasteKind.LEFTOVER, folder.file("tmp_1", age=2 * DAY, root=folder.cache.root / "oci-tmp")),
        (WasteKind.QUARANTINED, folder.file(f"{'a' * 64}.quarantine-x", root=folder.cache.root / "oci-tmp")),
        (WasteKind.RECORD, folder.file(f"{'a' * 64}.freshness.json", root=folder.cache.root / "oci-tmp")),
    }

    assert folder.waste == found
    assert all(one.is_done for one in folder.free())
    assert folder.waste == set()


def test_the_folder_of_a_killed_pull_is_freed_with_what_is_in_it_and_no_other_folder(folder):
    name = image_path(folder.prefix, OLD.url).name
    dead = folder.prefix / f"{name}.partial-{HOST}-{dead_process()}-00000000.d"
    aside = folder.prefix / f"{name}.quarantine-20260101T000000Z-00000000"
    for path in (dead, aside):
        path.mkdir()
        (path / "tmp-copy-1").write_bytes(b"half an image")
    folder.free()
    assert (dead.exists(), aside.exists()) == (False, True)


def test_what_is_in_use_or_nobody_knows_is_not_found(folder):
    name = image_path(folder.prefix, OLD.url).name
    folder.file(f"{name}.partial-{HOST}-{os.getppid()}-00000000")
    folder.file(f"{name}.partial-elsewhere-{dead_process()}-00000000", age=DAY / 2)
    folder.file("my-own-file")
    folder.file("my.sif", age=100 * DAY)
    folder.file(".freshness-index.json")
    folder.file(f".{name}.lock")
    (folder.prefix / f"{name}.quarantine-folder").mkdir()
    folder.file("tmp_young", root=folder.cache.root / "oci-tmp")
    folder.file("a" * 64, root=folder.cache.root / "oci-tmp")

    assert folder.waste == set()
    assert folder.plan.foreign == []


def test_a_link_that_a_killed_run_left_goes_and_that_of_a_run_stays(folder):
    folder.lock = Lock.of([entry_of(NEW)])
    image = folder.fetched(NEW)
    running, killed, dangling = (folder.prefix / f"{digit * 32}.simg" for digit in "012")
    for link in (running, killed):
        link.symlink_to(image.name)
    dangling.symlink_to(f"{'3' * 32}.simg")
    long_ago = time.time() - 2 * DAY
    os.utime(killed, (long_ago, long_ago), follow_symlinks=False)

    assert folder.waste == {(WasteKind.ALIAS, killed), (WasteKind.ALIAS, dangling)}
    assert all(one.is_done for one in folder.free())
    assert set(folder.prefix.glob("*.simg")) == {image, running}


def test_an_old_leftover_that_a_process_still_writes_is_not_found(folder):
    path = folder.file("tmp_1", age=2 * DAY, root=folder.cache.root / "oci-tmp")
    with path.open("rb"):
        assert folder.waste == set()
    assert folder.waste == {(WasteKind.LEFTOVER, path)}


def test_the_claim_of_a_lock_that_was_gone_for_long_goes_with_its_images(folder):
    lock = folder.other_lock(OLD)
    image = folder.fetched(OLD)
    lock.unlink()
    assert folder.waste == set()
    [claim] = folder.prefix.glob(".freshness-claim-*.json")
    claim.write_text(claim.read_text().replace('"missing_since": "2', '"missing_since": "1'))

    assert folder.waste == {(WasteKind.IMAGE, image), (WasteKind.CLAIM, claim)}
    assert all(one.is_done for one in folder.free())
    assert list(folder.prefix.iterdir()) == []


def test_an_image_that_a_lock_came_to_need_meanwhile_stays(folder):
    image = folder.fetched(OLD)
    found = folder.plan.waste
    folder.other_lock(OLD)

    assert [one.kept for one in free(found, folder.known)] == ["a lock needs it now"]
    assert image.exists()


def test_an_image_that_was_fetched_anew_meanwhile_stays(folder):
    image = folder.fetched(OLD)
    found = folder.plan.waste
    image.rename(image.with_suffix(".old"))
    folder.fetched(OLD)

    assert [one.kept for one in free(found, folder.known)] == ["it has changed meanwhile"]
    assert image.exists()


def test_a_record_whose_image_came_back_meanwhile_stays(folder):
    image = folder.fetched(OLD)
    noted = plant_record(image, OLD)
    image.rename(image.with_suffix(".aside"))
    found = folder.plan.waste
    image.with_suffix(".aside").rename(image)

    assert [one.kept for one in free(found, folder.known)] == ["its image is there again"]
    assert noted.exists()


def test_an_image_that_is_being_fetched_is_not_disturbed(folder, monkeypatch):
    monkeypatch.setattr(module, "DISK", module.DISK._replace(lock_patience=0.0))
    image = folder.fetched(OLD)
    held, done = threading.Event(), threading.Event()

    def fetching():
        with exclusive(image):
            held.set()
            done.wait(20)

    thread = threading.Thread(target=fetching)
    thread.start()
    held.wait(20)
    try:
        [one] = folder.free()
    finally:
        done.set()
        thread.join()
    assert "waited too long for the lock" in one.error.message
    assert image.exists()


def test_what_cannot_be_deleted_is_told_and_stops_nothing(folder, monkeypatch):
    images = [folder.fetched(OLD), folder.fetched(NEW)]
    remove = module.remove_at

    def refusing(parent, name):
        if name == images[0].name:
            raise PermissionError(13, "Permission denied", name)
        remove(parent, name)

    monkeypatch.setattr(module, "remove_at", refusing)
    results = {one.waste.file.path: one for one in folder.free()}

    assert "cannot delete" in results[images[0]].error.message
    assert results[images[1]].is_done
