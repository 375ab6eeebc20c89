"""Whose bytes are whose in a squashfs: what may be shared, and what may not."""

import tempfile

import pytest

from snakemake_apptainer_freshness.apptainer.squashfs_blocks import Image
from snakemake_apptainer_freshness.apptainer.squashfs_contents import FileContents
from snakemake_apptainer_freshness.apptainer.squashfs_inodes import Inode, InodeTable
from snakemake_apptainer_freshness.apptainer.squashfs_tables import Tables
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.settings import TREE
from tests.support import squashfses
from tests.support.squashfs_tables import Patched

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class Hasher:
    """In place of the threads that hash: keeps what they would be given."""

    def __init__(self) -> None:
        self.files = []

    def blocks(self, file):
        """Keep a file."""
        self.files.append(file)


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> bytes:
    """A small image with everything in it, whose tables are not compressed."""
    return squashfses.small(tmp_path_factory.mktemp("contents")).read_bytes()


@pytest.fixture
def contents_of():
    """Takes all contents of an image, and says what is hashed and which inodes there are."""
    with tempfile.TemporaryFile() as file:

        def take(content: bytes | bytearray) -> tuple[FileContents, Hasher, dict[int, Inode]]:
            file.seek(0)
            file.write(content)
            file.flush()
            tables = Tables(Image.of(file, 0, len(content)), TREE)
            hasher, inodes = Hasher(), {}
            contents = FileContents(tables, hasher)
            for inode in InodeTable(tables, TREE):
                contents.add(inode)
                inodes[inode.number] = inode
            return contents, hasher, inodes

        yield take


def test_files_with_blocks_are_hashed_and_those_without_anything_are_known(packed, contents_of):
    image = Patched(packed)
    _, hasher, inodes = contents_of(packed)
    nodes = {id(file.node) for file in hasher.files}

    assert nodes == {id(inodes[image.of_inode(name, "number")].node) for name in ("blocks", "blocks-too", "noise")}
    assert inodes[image.of_inode("nothing", "number")].node.sha256.hex() == EMPTY
    assert inodes[image.of_inode("tool", "number")].node.sha256 == b""


def test_each_fragment_is_there_once_with_the_ends_in_it_in_their_order(packed, contents_of):
    image = Patched(packed)
    contents, _, inodes = contents_of(packed)
    contents.check()
    [(start, word, uses)] = contents.fragments()

    assert start + (word & 0xFFFFFF) <= image.says("inode_table")
    assert {id(node) for _, _, node in uses} == {
        id(inodes[image.of_inode(name, "number")].node) for name in ("tool", "evil")
    }
    assert [place for *place, _ in uses] == [[0, 8], [8, 8]]


def test_ends_are_in_the_order_of_their_fragment_whatever_the_order_of_their_files(packed, contents_of):
    image = Patched(packed)
    first, second = image.of_inode("tool", "offset"), image.of_inode("evil", "offset")
    for tool, evil in ((first, second), (second, first)):
        contents, _, _ = contents_of(image.inode("tool", offset=tool).inode("evil", offset=evil).content)
        [(_, _, uses)] = contents.fragments()
        assert [offset for offset, _, _ in uses] == [0, 8]


def test_two_files_may_have_the_same_blocks(packed, contents_of):
    image = Patched(packed)
    same = {field: image.of_inode("blocks", field) for field in ("start", "word")}
    at = image.inode_at("blocks")
    image.inode("blocks-too", **same).put(image.inode_at("blocks-too") + 36, "I", image.get(at + 36, "I"))

    contents_of(image.content)[0].check()


@pytest.mark.parametrize("by", [1, -1])
def test_two_files_may_not_have_some_blocks_in_common(packed, contents_of, by):
    image = Patched(packed)
    image.inode("blocks-too", start=image.of_inode("blocks", "start") + by)
    with pytest.raises(NotComparable, match="two files of its file system overlap"):
        contents_of(image.content)[0].check()


def test_two_files_may_have_the_same_end_but_no_part_of_it(packed, contents_of):
    image = Patched(packed)
    image.inode("evil", offset=image.of_inode("tool", "offset"))
    [(_, _, uses)] = contents_of(image.content)[0].fragments()
    assert len(uses) == 2

    image.inode("evil", offset=image.of_inode("tool", "offset") + 1)
    with pytest.raises(NotComparable, match="overlap in a fragment"):
        list(contents_of(image.content)[0].fragments())


def test_data_may_not_lie_in_a_table(packed, contents_of):
    image = Patched(packed)
    image.inode("noise", start=image.says("inode_table"))
    with pytest.raises(NotComparable, match="a file of its file system overlaps a table"):
        contents_of(image.content)[0].check()
