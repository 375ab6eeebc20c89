"""What folders of a squashfs list is linked to the inodes that there are: each as often as it says."""

import tempfile

import pytest

from snakemake_apptainer_freshness.apptainer.squashfs_blocks import Image
from snakemake_apptainer_freshness.apptainer.squashfs_folders import Folders
from snakemake_apptainer_freshness.apptainer.squashfs_inodes import InodeTable
from snakemake_apptainer_freshness.apptainer.squashfs_tables import Tables
from snakemake_apptainer_freshness.image.tree import Node, NotComparable
from snakemake_apptainer_freshness.settings import TREE
from tests.support import squashfses
from tests.support.squashfs_tables import Patched

NAMES = 16
"""Entries of all folders of the small image, hard links counted each."""


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> bytes:
    """A small image with everything in it, whose tables are not compressed."""
    return squashfses.small(tmp_path_factory.mktemp("folders")).read_bytes()


@pytest.fixture
def root_of():
    """Links all folders of an image, `without` the inode of a number, or with one `twice`."""

    def link(content: bytes | bytearray, *, without: int = 0, twice: int = 0, limits=TREE) -> Node:
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.flush()
            tables = Tables(Image.of(file, 0, len(content)), TREE)
            folders = Folders(tables, limits)
            for inode in InodeTable(tables, TREE):
                for _ in range((inode.number != without) + (inode.number == twice)):
                    folders.add(inode)
            return folders.linked()

    return link


def test_folders_have_what_they_list(packed, root_of):
    root = root_of(packed)

    assert set(root.children) == {b"bin", b"blocks", b"blocks-too", b"link", b"noise", b"null", b"other", b"vacant"}
    assert set(root.children[b"bin"].children) == {b"hard", b"hard-too", b"inner", b"tool"}
    assert root.children[b"vacant"].children == {}


def test_hard_links_are_one_file(packed, root_of):
    inside = root_of(packed).children[b"bin"].children
    assert inside[b"hard"] is inside[b"tool"]
    assert inside[b"hard-too"] is inside[b"tool"]


def test_a_large_folder_is_linked_through_all_its_runs(tmp_path, root_of):
    names = {f"{number:04}-{'name' * (number % 30)}".encode() for number in range(1500)}
    (tmp_path / "root").mkdir()
    for name in names:
        (tmp_path / "root" / name.decode()).touch()

    assert set(root_of(squashfses.packed(tmp_path / "root").read_bytes()).children) == names


def test_every_inode_has_to_be_there(packed, root_of):
    with pytest.raises(NotComparable, match="another number of inodes than it says"):
        root_of(packed, without=3)


def test_no_inode_may_be_there_twice(packed, root_of):
    with pytest.raises(NotComparable, match="two inodes of its file system have one number"):
        root_of(packed, twice=3)


@pytest.mark.parametrize("links", [1, 2, 4])
def test_a_file_is_listed_as_often_as_it_says(packed, root_of, links):
    assert Patched(packed).of_inode("tool", "links") == 3
    with pytest.raises(NotComparable, match="in fewer or more folders than it says"):
        root_of(Patched(packed).inode("tool", links=links).content)


@pytest.mark.parametrize("name", ["blocks", "vacant"])
def test_whatever_no_folder_lists_is_refused(packed, root_of, name):
    """The file says that it is listed never, the folder that it is another's."""
    image = Patched(packed)
    if name == "blocks":
        image.leads_to("blocks", "blocks-too")
    else:
        image.leads_to("vacant", "other").inode("", links=5)
    with pytest.raises(NotComparable, match="in fewer or more folders than it says"):
        root_of(image.content)


def test_a_file_that_says_that_no_folder_lists_it_is_refused(packed, root_of):
    image = Patched(packed).inode("tool", links=0).inode("evil", links=4)
    for name in ("tool", "hard", "hard-too"):
        image.leads_to(name, "evil")
    with pytest.raises(NotComparable, match="in fewer or more folders than it says"):
        root_of(image.content)


@pytest.mark.parametrize("links", [4, 6])
def test_a_folder_says_how_many_folders_it_lists(packed, root_of, links):
    assert Patched(packed).of_inode("", "links") == 5
    with pytest.raises(NotComparable, match="another number of links than folders in it"):
        root_of(Patched(packed).inode("", links=links).content)


def test_names_and_entries_are_bounded(packed, root_of):
    names = sum(len(name.rpartition(b"/")[2]) for name, _ in root_of(packed).walk()) + len("bin/tool")
    assert root_of(packed, limits=TREE._replace(names=names, entries=NAMES))
    with pytest.raises(NotComparable, match=f"names of more than {names - 1} bytes"):
        root_of(packed, limits=TREE._replace(names=names - 1))
    with pytest.raises(NotComparable, match=f"more than {NAMES - 1} entries"):
        root_of(packed, limits=TREE._replace(entries=NAMES - 1))
