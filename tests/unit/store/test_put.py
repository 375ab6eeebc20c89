"""Putting an image in its place: whole, known and nothing lost; or nothing is left of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.common.files import HOST
from snakemake_apptainer_freshness.errors import LocalIOError
from snakemake_apptainer_freshness.store import facts, places, state
from snakemake_apptainer_freshness.store import put as module
from snakemake_apptainer_freshness.store.facts import ProvenBy
from snakemake_apptainer_freshness.store.prefix import PARTIAL, ItemKind, image_path, survey
from snakemake_apptainer_freshness.store.pull import Obtained
from snakemake_apptainer_freshness.store.put import make_folder, put, remove_leftovers
from tests.support import sifs
from tests.support.fake_apptainer import python
from tests.support.pins import MANIFEST, REPOSITORY, fact_of, pin

PIN = pin()
CONTENT = sifs.pulled(f"{REPOSITORY}@{PIN.digest}")
OBTAINED = Obtained(
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size=len(CONTENT),
    apptainer="apptainer 1.4.5",
    proven_by=ProvenBy.PULLED,
    proven_at="2026-01-02T03:04:05Z",
)


@pytest.fixture
def image(tmp_path):
    """Where the image belongs."""
    (tmp_path / "images").mkdir()
    return image_path(tmp_path / "images", PIN.url)


@pytest.fixture
def temporary(image):
    """The image under a temporary name."""
    path = image.with_name(f"{image.name}{PARTIAL}{HOST}-{os.getpid()}-01234567")
    path.write_bytes(CONTENT)
    path.chmod(0o700)
    return path


def test_it_gets_its_name_and_is_known_there(image, temporary):
    assert put(PIN, temporary, image, OBTAINED) is None
    assert image.read_bytes() == CONTENT
    assert not temporary.exists()
    assert [fact.sha256 for fact in facts.about(PIN)] == [OBTAINED.sha256]
    known = places.load(image)
    assert (known.content.sha256, known.content.size) == (OBTAINED.sha256, OBTAINED.size)


@pytest.mark.parametrize("former", ["file", "folder", "link"])
def test_what_was_in_its_place_is_kept_beside_it(image, temporary, former):
    {"file": lambda: image.write_bytes(b"a"), "folder": image.mkdir, "link": lambda: image.symlink_to("/x")}[former]()
    before = image.lstat().st_ino
    aside = put(PIN, temporary, image, OBTAINED)

    assert image.read_bytes() == CONTENT
    assert aside.lstat().st_ino == before
    assert {item.kind for item in survey(image.parent)} == {ItemKind.QUARANTINE, ItemKind.IMAGE}


@pytest.mark.parametrize(("folder", "mode"), [(0o755, 0o700), (0o775, 0o750), (0o1777, 0o755)])
def test_those_who_share_the_folder_may_read_it_and_nobody_else(image, temporary, folder, mode):
    image.parent.chmod(folder)
    put(PIN, temporary, image, OBTAINED)

    assert image.stat().st_mode & 0o7777 == mode


def test_an_image_that_anyone_may_write_to_is_remembered_as_such(image, temporary):
    temporary.chmod(0o777)
    put(PIN, temporary, image, OBTAINED)

    assert places.load(image).writable_by_all


def test_what_is_known_by_a_sites_word_alone_stays_its_word(image, temporary):
    site = fact_of(CONTENT, PIN, digest=MANIFEST, store="/site")
    put(PIN, temporary, image, replace(OBTAINED, known=site))

    assert places.load(image).digest == MANIFEST
    assert facts.about(PIN) == ()


def test_where_it_cannot_be_made_known_it_gets_no_name(image, temporary, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    image.write_bytes(b"former")
    monkeypatch.setattr(facts, "keep", full)
    with pytest.raises(LocalIOError, match="No space left on device") as raised:
        put(PIN, temporary, image, OBTAINED)

    assert str(state.folder()) in str(raised.value)
    assert image.read_bytes() == b"former"
    assert not temporary.exists()


def test_where_it_cannot_be_renamed_nothing_is_left_of_it(image, temporary, monkeypatch):
    def refused(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(module, "quarantine", refused)
    with pytest.raises(LocalIOError, match=r"cannot put the image of .* Read-only file system") as raised:
        put(PIN, temporary, image, OBTAINED)

    assert "choose another one with --apptainer-prefix" in raised.value.hint
    assert not temporary.exists()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_run_left_is_removed_and_what_others_write_is_not(image, kind):
    dead = subprocess.Popen(python(""))
    dead.wait()
    removed = f"{image.name}{PARTIAL}{HOST}-{dead.pid}-01234567"
    kept = {
        f"{image.name}{PARTIAL}{HOST}-1-01234567",
        f"{image.name}{PARTIAL}another-host-{dead.pid}-01234567",
        f"{'0' * 32}.simg{PARTIAL}{HOST}-{dead.pid}-01234567",
        image.name,
    }
    for name in {removed, *kept}:
        path = image.with_name(name)
        if kind == "file":
            path.touch()
        else:
            (path / "locked").mkdir(parents=True, mode=0)
    remove_leftovers(image)

    assert {path.name for path in image.parent.iterdir()} == kept


def test_a_folder_that_is_not_there_has_no_leftovers(tmp_path):
    remove_leftovers(image_path(tmp_path / "none", PIN.url))


def test_a_folder_is_made_with_those_above_it(tmp_path):
    make_folder(tmp_path / "a/b")
    make_folder(tmp_path / "a/b")
    assert (tmp_path / "a/b").is_dir()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LocalIOError, match="cannot make the image folder"):
        make_folder(tmp_path / "file/images")
