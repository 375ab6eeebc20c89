"""The superblock and the tables of what the real mksquashfs writes; and of metadata blocks that are made here."""

import base64
import itertools
import struct
import tempfile
import zlib
from array import array

import pytest

from snakemake_apptainer_freshness.apptainer.squashfs_blocks import Image, decompressor
from snakemake_apptainer_freshness.apptainer.squashfs_inodes import InodeTable
from snakemake_apptainer_freshness.apptainer.squashfs_tables import (
    METADATA,
    NO_XATTRS,
    MetadataBlocks,
    Superblock,
    Tables,
)
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.settings import TREE
from tests.support import squashfses
from tests.support.squashfs_tables import Patched

GZIP = 1
INODES = 15  # what squashfses.small makes, the root included
RAW_SOCKETS = base64.b64decode(squashfses._RAW_SOCKETS)
FIRST = bytes(range(256)) * 32
"""A whole metadata block."""


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> bytes:
    """A small image with everything in it, whose tables are not compressed."""
    return squashfses.small(tmp_path_factory.mktemp("tables")).read_bytes()


@pytest.fixture
def opened():
    """Makes an image of its bytes, which can be read until the test ends."""
    with tempfile.TemporaryFile() as file:

        def make(content: bytes) -> Image:
            file.write(content)
            file.flush()
            return Image.of(file, 0, len(content))

        yield make


@pytest.fixture
def tables(packed, opened) -> Tables:
    return Tables(opened(packed), TREE)


@pytest.fixture
def metadata(opened):
    """Makes a table of metadata blocks, each compressed where that is asked for; `more` lies behind its end."""

    def make(*blocks: bytes, compressed: bool = False, end: int | None = None, more: bytes = b"") -> MetadataBlocks:
        content = b"start"
        for block in blocks:
            stored = zlib.compress(block) if compressed else block
            content += struct.pack("<H", len(stored) | (0 if compressed else 0x8000)) + stored
        return MetadataBlocks(opened(content + more), decompressor(GZIP), 5, len(content) if end is None else end)

    return make


def test_the_superblock_says_what_mksquashfs_was_told(packed, opened):
    block = Superblock.read(opened(packed), TREE)

    assert (block.inodes, block.block_size, block.compression, block.owners) == (INODES, 4096, GZIP, 1)
    assert block.data == 96
    assert None not in (block.xattr_table, block.fragment_table, block.export_table)
    assert len(packed) - 4096 < block.used <= len(packed)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"magic": 1}, "is no squashfs 4.0"),
        ({"major": 3}, "is no squashfs 4.0"),
        ({"block_size": 8192}, "unknown block size"),
        ({"block_log": 21, "block_size": 1 << 21}, "unknown block size"),
        ({"flags": 0x1000}, "unknown flags"),
        ({"inodes": 0}, "impossible counts"),
        ({"owners": 0}, "impossible counts"),
        ({"fragments": INODES + 1}, "impossible counts"),
        ({"used": 4096}, "not as long as its partition"),
        ({"directory_table": 0}, "tables in an unknown order"),
        ({"fragment_table": (1 << 64) - 1}, "tables in an unknown order"),
    ],
)
def test_a_superblock_that_contradicts_itself_is_refused(packed, opened, fields, said):
    content = bytes(Patched(packed).superblock(**fields).content)
    with pytest.raises(NotComparable, match=said):
        Superblock.read(opened(content), TREE)


def test_what_hides_behind_the_end_is_refused(packed, opened):
    used = Patched(packed).says("used")
    with pytest.raises(NotComparable, match="not as long as its partition"):
        Superblock.read(opened(packed[:used] + b"\0" * 100 + b"x"), TREE)


def test_no_room_is_made_for_more_inodes_than_are_allowed(packed, opened):
    image = opened(packed)
    assert Superblock.read(image, TREE._replace(entries=INODES)).inodes == INODES
    with pytest.raises(NotComparable, match=f"more than {INODES - 1} entries"):
        Superblock.read(image, TREE._replace(entries=INODES - 1))


def test_all_tables_of_a_real_image_are_read(tables):
    assert list(tables.owners) == [0]
    assert tables.inodes.length > INODES * 20
    assert b"blocks-too" in tables.directories.read(0, tables.directories.length)


def test_a_table_that_does_not_end_where_the_next_begins_is_refused(packed, opened):
    image = Patched(packed)
    image.superblock(directory_table=image.says("directory_table") + 1)
    with pytest.raises(NotComparable):
        Tables(opened(bytes(image.content)), TREE)


def test_a_fragment_is_where_its_entry_says(tables, packed):
    start, word = tables.fragment(0)
    stored = packed[start : start + (word & 0xFFFFFF)]
    content = stored if word & 0x1000000 else zlib.decompress(stored)

    assert b"the tool" in content
    assert b"the evil" in content
    with pytest.raises(NotComparable, match="a fragment that is not there"):
        tables.fragment(tables.superblock.fragments)


def test_the_export_table_has_to_name_the_inodes_that_are_there(tables):
    references = array("Q", [0] * INODES)
    for inode in InodeTable(tables, TREE):
        references[inode.number - 1] = inode.reference
    tables.check_export(references)

    references[3] += 1
    with pytest.raises(NotComparable, match="the export table"):
        tables.check_export(references)


def test_capabilities_are_found_among_extended_attributes_and_others_are_not(tables):
    assert sorted(tables.xattrs.capability(number) for number in (0, 1)) == [b"", RAW_SOCKETS]
    assert tables.xattrs.capability(NO_XATTRS) == b""


def test_extended_attributes_that_are_not_there_are_refused(tables):
    with pytest.raises(NotComparable, match="extended attributes that are not there"):
        tables.xattrs.capability(2)


@pytest.mark.parametrize(("old", "new"), [(b"note", b"capa"), (b"note", b"over"), (b"capability", b"capabilitX")])
def test_attributes_that_change_nothing_are_told_from_those_that_do(packed, opened, old, new):
    tables = Tables(opened(bytes(Patched(packed).replace(old, new).content)), TREE)
    found = {tables.xattrs.capability(number) for number in (0, 1)}
    assert found == ({b""} if old == b"capability" else {b"", RAW_SOCKETS})


def test_capabilities_of_an_unknown_length_are_refused(packed, opened):
    image = Patched(packed)
    at = bytes(image.content).index(b"capability" + struct.pack("<I", len(RAW_SOCKETS))) + len(b"capability")
    image.put(at, "I", len(RAW_SOCKETS) - 1)
    tables = Tables(opened(bytes(image.content)), TREE)
    with pytest.raises(NotComparable, match="capabilities of an unknown kind"):
        [tables.xattrs.capability(number) for number in (0, 1)]


@pytest.mark.parametrize("compressed", [False, True])
def test_blocks_are_read_as_if_they_were_one(metadata, compressed):
    table = metadata(FIRST, FIRST[::-1], b"last", compressed=compressed)

    assert table.length == 2 * METADATA + 4
    assert table.read(METADATA - 2, 4) == FIRST[-2:] + FIRST[::-1][:2]
    assert table.read(0, table.length) == FIRST + FIRST[::-1] + b"last"
    assert table.read(METADATA, 0) == b""


def test_what_ends_in_the_middle_is_refused_unless_less_will_do(metadata):
    table = metadata(FIRST, b"last")
    with pytest.raises(NotComparable, match="ends in the middle of an entry"):
        table.read(METADATA + 2, 3)
    assert table.some(METADATA + 2, 3) == b"st"
    assert table.some(METADATA + 4, 3) == b""


def test_a_table_may_be_empty(metadata):
    table = metadata()
    assert table.length == 0
    assert table.some(0, 10) == b""


def test_a_reference_and_a_position_say_the_same(metadata):
    table = metadata(FIRST, FIRST, b"last")
    for at in (0, 7, METADATA, 2 * METADATA + 3):
        reference = table.reference(at)
        assert table.position(reference >> 16, reference & 0xFFFF) == at


@pytest.mark.parametrize(("block", "offset"), [(1, 0), (METADATA, 0), (0, METADATA)])
def test_a_reference_to_the_middle_of_a_block_is_refused(metadata, block, offset):
    with pytest.raises(NotComparable, match="the middle of a block"):
        metadata(FIRST, b"last").position(block, offset)


def test_its_index_has_to_name_all_of_its_blocks_and_no_others(metadata):
    table = metadata(FIRST, b"last")
    assert table.lies_at(array("Q", [5, 5 + 2 + METADATA]))
    for wrong in ([5], [5, 6], [5, 5 + 2 + METADATA, 9000]):
        assert not table.lies_at(array("Q", wrong))


def test_every_block_but_the_last_is_full(metadata):
    with pytest.raises(NotComparable, match="too short"):
        metadata(b"first", b"last").read(0, 6)


@pytest.mark.parametrize("size", [0, METADATA + 1])
def test_a_block_of_an_impossible_size_is_refused(metadata, size):
    with pytest.raises(NotComparable, match="a block of an impossible size"):
        metadata(bytes(size), more=bytes(100))


def test_a_table_ends_with_a_block(metadata):
    whole = 5 + 2 + METADATA + 2 + 4
    for end in (whole - 1, whole + 1):
        with pytest.raises(NotComparable):
            metadata(FIRST, b"last", end=end, more=b"\x01\x80xx")


def test_more_blocks_than_are_kept_are_read_anew(metadata):
    blocks = [bytes([number]) * METADATA for number in range(40)]
    table = metadata(*blocks, compressed=True)
    for number in itertools.chain(range(40), reversed(range(40))):
        assert table.read(number * METADATA, 3) == bytes([number]) * 3


def test_a_table_is_read_whatever_the_order_though_its_file_is_read_in_pieces(metadata):
    blocks = [bytes([number]) * METADATA for number in range(40)] + [b"end"]
    table = metadata(*blocks)

    assert table.length == 40 * METADATA + 3
    for number in [*range(41), 40, 7, 39, 0, 23, 22]:
        assert table.read(number * METADATA, 3) == blocks[number][:3]
    assert table.read(0, table.length) == b"".join(blocks)
