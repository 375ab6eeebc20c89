"""The inodes of what the real mksquashfs writes: all of them, each with what it says of itself."""

import base64
import os
import tempfile

import pytest

from snakemake_apptainer_freshness.apptainer import squashfs_inodes
from snakemake_apptainer_freshness.apptainer.squashfs_blocks import Image
from snakemake_apptainer_freshness.apptainer.squashfs_inodes import Inode, InodeTable, index_entries
from snakemake_apptainer_freshness.apptainer.squashfs_tables import METADATA, Tables
from snakemake_apptainer_freshness.image.tree import FileType, NotComparable
from snakemake_apptainer_freshness.settings import TREE
from tests.support import squashfses
from tests.support.squashfs_tables import Patched

BLOCK = squashfses.BLOCK


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> bytes:
    """A small image with everything in it, whose tables are not compressed."""
    return squashfses.small(tmp_path_factory.mktemp("inodes")).read_bytes()


@pytest.fixture
def tables_of():
    """Makes the tables of an image, which can be read until the test ends."""
    with tempfile.TemporaryFile() as file:

        def make(content: bytes) -> Tables:
            file.seek(0)
            file.write(content)
            file.flush()
            return Tables(Image.of(file, 0, len(content)), TREE)

        yield make


@pytest.fixture
def read(tables_of):
    """Reads all inodes of an image."""

    def make(content: bytes | bytearray, limits=TREE) -> list[Inode]:
        return list(InodeTable(tables_of(bytes(content)), limits))

    return make


@pytest.fixture
def inode(packed, read):
    """Finds the inode of an entry by its number."""
    image, by_number = Patched(packed), {one.number: one for one in read(packed)}
    return lambda name: by_number[image.of_inode(name, "number")]


def test_every_number_is_there_once(packed, read):
    assert sorted(one.number for one in read(packed)) == list(range(1, 16))


def test_each_is_referred_to_by_where_it_lies(packed, read):
    references = [one.reference for one in read(packed)]
    assert references == sorted(set(references))
    assert Patched(packed).says("root") in references


def test_a_small_file_lies_in_a_fragment_and_counts_its_names(inode):
    tool, evil = inode("tool"), inode("evil")

    assert (tool.node.kind, tool.node.size, tool.links) == (FileType.FILE, 8, 3)
    assert tool.content.fragment == evil.content.fragment == 0
    assert (len(tool.content.words), tool.content.length, tool.content.tail) == (0, 0, 8)
    assert {tool.content.offset, evil.content.offset} <= {0, 8}
    assert tool.content.offset != evil.content.offset


def test_a_larger_file_is_made_of_blocks(inode):
    found = inode("noise").content
    assert (len(found.words), found.length, found.fragment, found.tail) == (2, 2 * BLOCK, None, 0)
    assert [word & 0xFFFFFF for word in found.words] == [BLOCK, BLOCK]


def test_an_empty_file_has_no_content(inode):
    found = inode("nothing")
    assert (found.node.size, found.links) == (0, 1)
    assert (len(found.content.words), found.content.fragment) == (0, None)


def test_a_link_has_its_target_and_a_device_its_numbers(inode):
    assert (inode("link").node.kind, inode("link").node.target) == (FileType.LINK, b"bin/tool")
    null = inode("null").node
    assert (null.kind, null.mode, null.device) == (FileType.CHARACTER, 0o666, (1, 3))


def test_capabilities_are_those_of_the_extended_attributes(inode):
    assert inode("evil").node.capability == base64.b64decode(squashfses._RAW_SOCKETS)
    assert inode("tool").node.capability == b""


def test_a_folder_says_where_its_listing_is_and_whose_it_is(inode):
    root, inner, deep, vacant = (inode(name) for name in ("", "inner", "deep", "vacant"))

    assert (root.links, inner.links, vacant.links) == (5, 3, 2)
    assert deep.listing.parent == inner.number
    assert vacant.listing.size == 0
    assert inner.listing.size == 12 + 8 + len("deep")
    assert root.node.children == {}


def test_the_index_of_a_large_folder_leads_through_its_names(tmp_path, tables_of):
    names = [f"{number:03}-{'name' * 15}" for number in range(400)]
    (tmp_path / "root" / "large").mkdir(parents=True)
    for name in names:
        (tmp_path / "root" / "large" / name).touch()
    tables = tables_of(squashfses.packed(tmp_path / "root", "-noI", "-all-root").read_bytes())
    [large] = [one for one in InodeTable(tables, TREE) if one.listing is not None and one.listing.index_count]
    index = list(index_entries(tables.inodes, large.listing.index_at, large.listing.index_count))

    assert len(index) == large.listing.size // 8192
    assert all(name.decode() in names for _, _, name in index)
    assert index == sorted(index)


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("tool", {"kind": 15}, "an unknown kind"),
        ("tool", {"mode": 0o10644}, "an impossible mode"),
        ("tool", {"user": 1}, "an owner that is not in its table"),
        ("tool", {"group": 0xFFFF}, "an owner that is not in its table"),
        ("tool", {"xattrs": 9}, "extended attributes that are not there"),
        ("tool", {"sparse": 9}, "whose end is not where it says"),
        ("tool", {"size": BLOCK}, "whose end is not where it says"),
        ("tool", {"size": 1 << 60}, "larger than"),
        ("noise", {"size": 1 << 31}, "breaks off|middle of an entry"),
        ("link", {"size": 0}, "an impossible target"),
        ("link", {"size": 4096}, "an impossible target"),
        ("link", {"target": 0}, "an impossible target"),
        ("inner", {"size": 2}, "a folder of an impossible size"),
    ],
)
def test_what_no_writer_writes_is_refused(packed, read, name, fields, said):
    with pytest.raises(NotComparable, match=said):
        read(Patched(packed).inode(name, **fields).content)


def test_files_together_may_not_be_larger_than_allowed(packed, read):
    size = 3 * 2 * BLOCK + len("the tool") + len("the evil")
    assert len(read(packed, TREE._replace(size=size))) == 15
    with pytest.raises(NotComparable, match=f"larger than {size - 1} bytes"):
        read(packed, TREE._replace(size=size - 1))


def test_an_index_with_an_endless_name_is_refused(tables_of, packed):
    table = tables_of(packed).directories
    with pytest.raises(NotComparable, match="an index with an impossible name"):
        list(index_entries(table, table.length - 12, 1))


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> bytes:
    """An image of files without anything special, which lie in one fragment."""
    root = tmp_path_factory.mktemp("plain") / "root"
    root.mkdir()
    for name in ("first", "second"):
        (root / name).write_text(name)
    return squashfses.packed(root, "-noI", "-noX", "-noF", "-b", "4K", "-all-root", "-no-xattrs").read_bytes()


def test_small_files_are_as_they_are_listed(plain, read):
    first, second = (one for one in read(plain) if one.content)
    assert Patched(plain).of_inode("first", "kind") == 2

    assert (first.node.size, second.node.size) == (5, 6)
    assert (first.content.fragment, first.content.offset, first.content.tail) == (0, 0, 5)
    assert (second.content.fragment, second.content.offset, second.content.tail) == (0, 5, 6)
    assert (len(first.content.words), first.content.length, first.links) == (0, 0, 1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"size": 0}, "whose end is not where it says"),
        ({"size": BLOCK}, "whose end is not where it says"),
        ({"mode": 0o10644}, "an impossible mode"),
        ({"user": 1}, "an owner that is not in its table"),
    ],
)
def test_small_files_that_no_writer_writes_are_refused(plain, read, fields, said):
    with pytest.raises(NotComparable, match=said):
        read(Patched(plain).inode("first", **fields).content)


def test_a_small_file_in_no_fragment_has_a_block(plain, read):
    """The words of its blocks are behind it, where the next inode was."""
    image = Patched(plain).inode("second", fragment=0xFFFFFFFF)
    root = image.inode_at("")
    image.put(root, "H", 1)
    with pytest.raises(NotComparable):
        read(image.content)


def test_the_sizes_of_small_files_are_counted(plain, read):
    assert len(read(plain, TREE._replace(size=11))) == 3
    with pytest.raises(NotComparable, match="larger than 10 bytes"):
        read(plain, TREE._replace(size=10))


def test_inodes_of_every_length_are_read_across_the_blocks_of_their_table(tmp_path, tables_of):
    """Files of some hundred blocks, long targets and extended inodes lie across what is read of the table at once."""
    root, words, links = tmp_path / "root", range(0, 3000, 40), range(1, 4000, 13)
    root.mkdir()
    for number in words:
        (root / f"file{number:04}").touch()
        (root / f"hard{number:04}").hardlink_to(root / f"file{number:04}")
        os.truncate(root / f"file{number:04}", number * BLOCK)
    for number in links:
        (root / f"link{number:04}").symlink_to("t" * number)
    tables = tables_of(squashfses.packed(root, "-b", "4K", "-all-root").read_bytes())
    inodes = list(InodeTable(tables, TREE))

    assert tables.inodes.length > 5 * 8 * METADATA
    assert sorted(len(one.content.words) for one in inodes if one.content) == list(words)
    assert sorted(len(one.node.target) for one in inodes if one.node.target) == list(links)
    assert sorted(one.number for one in inodes) == list(range(1, len(words) + len(links) + 2))


@pytest.mark.parametrize("window", [56, 60, 77, 150])
def test_inodes_are_the_same_however_much_of_their_table_is_read_at_once(packed, read, monkeypatch, window):
    whole = read(packed)
    monkeypatch.setattr(squashfs_inodes, "_WINDOW", window)

    assert read(packed) == whole
