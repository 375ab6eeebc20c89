"""Attacks on the reader of squashfs: tables that another reader would understand in another way, and bombs."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.apptainer import squashfs, squashfs_tables
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.settings import TREE
from tests.support import squashfses
from tests.support.attacks import squashfs_contents, squashfs_folders
from tests.support.attacks.squashfs_folders import INDEX_ATTACKS
from tests.support.squashfs_tables import Patched

ATTACKS = squashfs_folders.ATTACKS | squashfs_contents.ATTACKS
SOURCES = sorted(Path(squashfs.__file__).parent.glob("squashfs*.py"))
MET_ELSEWHERE = (
    "{self._limits.entries} entries",
    "names of more than",
    "a path of more than",
    "could not be read in",
    "unreasonably large",
    "its file system breaks off",
    "to read that, {_INSTALL}",
    "{_DAMAGED}: {error}",
    "{_DAMAGED}: it unpacks to more than",
)
"""In refusals of limits, which have tests of their own below, and of compressions (tests/unit/apptainer)."""


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> bytes:
    """A small image with everything in it, whose tables are not compressed."""
    return squashfses.small(tmp_path_factory.mktemp("attacks")).read_bytes()


@pytest.fixture(scope="module")
def indexed(tmp_path_factory) -> bytes:
    """An image with a folder so large that it has an index."""
    root = tmp_path_factory.mktemp("attacks") / "root"
    (root / "large").mkdir(parents=True)
    for number in range(400):
        (root / f"large/{number:03}-{'name' * 15}").touch()
    (root / "large/zzz").write_text("x")
    return squashfses.packed(root, "-noI", "-noX", "-noF", "-b", "4K", "-all-root", "-no-exports").read_bytes()


def test_the_image_itself_is_read(packed, indexed):
    names = {path for path, _ in Patched(packed).read().walk()}
    assert {b"bin/hard", b"bin/inner/deep", b"blocks", b"null", b"other/evil"} <= names
    assert len(dict(Patched(indexed).read().walk())) == 402


@pytest.mark.parametrize(("attack", "reason"), ATTACKS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_tables_that_could_be_read_in_two_ways_are_refused(packed, attack, reason):
    image = Patched(packed)
    attack(image)
    with pytest.raises(NotComparable, match=reason):
        image.read()


@pytest.mark.parametrize(("attack", "reason"), INDEX_ATTACKS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_an_index_that_leads_elsewhere_than_the_listing_is_refused(indexed, attack, reason):
    image = Patched(indexed)
    attack(image)
    with pytest.raises(NotComparable, match=reason):
        image.read()


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (TREE._replace(entries=5), "more than 5 entries"),
        (TREE._replace(names=50), "names of more than 50 bytes"),
        (TREE._replace(path=5), "a path of more than 5 bytes"),
        (TREE._replace(size=9000), "its files are larger than 9000 bytes"),
        (TREE._replace(timeout=-1), "could not be read in -1 s"),
    ],
    ids=["entries", "names", "path", "size", "timeout"],
)
def test_what_reading_may_cost_is_bounded(packed, limits, reason):
    with pytest.raises(NotComparable, match=reason):
        Patched(packed).read(limits)


def test_more_entries_than_inodes_are_bounded_too(packed):
    image = Patched(packed)
    with pytest.raises(NotComparable, match=r"more than \d+ entries"):
        image.read(TREE._replace(entries=image.says("inodes")))


def test_a_table_of_countless_blocks_is_bounded(packed, monkeypatch):
    monkeypatch.setattr(squashfs_tables, "_MOST_BLOCKS", 0)
    with pytest.raises(NotComparable, match="a table of its file system is unreasonably large"):
        Patched(packed).read()


def test_a_file_that_ends_while_it_is_read_proves_nothing(packed, tmp_path):
    image = tmp_path / "image"
    image.write_bytes(packed[:5000])
    with image.open("rb") as file, pytest.raises(NotComparable, match="its file system breaks off"):
        squashfs.read(file, 0, len(packed))


def test_files_of_the_same_bytes_cost_no_more_than_those_bytes(tmp_path, monkeypatch):
    """A million files may be the same megabyte of one fragment."""
    content = bytes(range(256)) * 4000
    (tmp_path / "root").mkdir()
    (tmp_path / "root/file").write_bytes(content)
    for number in range(50):
        (tmp_path / f"root/{number}").hardlink_to(tmp_path / "root/file")
    image = squashfses.packed(tmp_path / "root", "-b", "1M", "-no-hardlinks")
    hashed, sha256 = [], hashlib.sha256

    def counting(content=b""):
        hashed.append(len(content))
        return sha256(content)

    monkeypatch.setattr(hashlib, "sha256", counting)
    root = squashfses.tree_of(image)

    assert [node.sha256 for _, node in root.walk()] == [sha256(content).digest()] * 51
    assert sum(hashed) == len(content)


def refused_at(attack: Callable[[Patched], object], content: bytes) -> str:
    """The line of the reader that refuses an attack."""
    image = Patched(content)
    attack(image)
    with pytest.raises(NotComparable) as refused:
        image.read()
    return traceback.extract_tb(refused.tb)[-1].line or ""


def test_every_refusal_of_the_reader_has_its_attack(packed, indexed):
    met = {refused_at(attack, packed) for attack in ATTACKS}
    met |= {refused_at(attack, indexed) for attack in INDEX_ATTACKS}
    lines = {
        line.strip()
        for source in SOURCES
        for line in source.read_text().splitlines()
        if line.strip().startswith("raise NotComparable")
    }
    missed = {line for line in lines - met if not any(words in line for words in MET_ELSEWHERE)}
    assert missed == set()
