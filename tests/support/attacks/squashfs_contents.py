"""Blocks, tables and extended attributes of a squashfs that two readers would understand in two ways, and bombs."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from tests.support.squashfs_tables import NO_FRAGMENT, Patched, table_at
from tests.support.squashfses import BLOCK, TEXT


def blocks_of_two_files_that_overlap(image: Patched) -> object:
    return image.inode("blocks-too", start=image.of_inode("blocks", "start") + 1)


def blocks_in_the_superblock(image: Patched) -> object:
    return image.inode("blocks", start=10)


def fragment_in_the_table_of_inodes(image: Patched) -> object:
    image.put(table_at(image, "fragment_table") + 2, "Q", image.says("inode_table") - 5)
    return image


def blocks_behind_the_end(image: Patched) -> object:
    return image.inode("blocks", start=2**32 - 1)


def block_of_an_impossible_size(image: Patched) -> object:
    return image.inode("blocks", word=5 * BLOCK)


def block_that_takes_no_bytes(image: Patched) -> object:
    return image.inode("blocks", word=1 << 24)


def block_that_is_stored_too_short(image: Patched) -> object:
    return image.inode("blocks", word=image.of_inode("blocks", "word") | 1 << 24)


def file_that_is_shorter_than_its_stored_block(image: Patched) -> object:
    """The only block of a file holds more than the file: its end could be seen or not."""
    taken = image.of_inode("blocks", "word")
    return image.inode("blocks", word=min(taken, BLOCK), size=2 * BLOCK - 1)


def stream_with_bytes_behind_its_end(image: Patched) -> object:
    at, size = image.of_inode("blocks", "start"), image.of_inode("blocks", "word")
    stream = zlib.compress(bytes(BLOCK))
    image.content[at : at + size] = stream.ljust(size, b"\xa5")
    return image


def block_that_unpacks_to_less(image: Patched) -> object:
    return stored(image, zlib.compress(TEXT[: BLOCK - 1], 9))


def block_that_is_a_bomb(image: Patched) -> object:
    return stored(image, zlib.compress(bytes(64 << 20), 9)[: image.of_inode("blocks", "word")])


def block_that_is_no_stream(image: Patched) -> object:
    return stored(image, b"no zlib")


def block_that_breaks_off(image: Patched) -> object:
    return stored(image, zlib.compress(TEXT[:BLOCK], 9)[:-1])


def stored(image: Patched, stream: bytes) -> Patched:
    """`image` with the first block of `blocks` replaced by `stream`, which is not longer."""
    at, size = image.of_inode("blocks", "start"), image.of_inode("blocks", "word")
    assert len(stream) <= size, (len(stream), size)
    image.content[at + size - len(stream) : at + size] = stream
    return image.inode("blocks", start=at + size - len(stream), word=len(stream))


def ends_of_two_files_that_overlap(image: Patched) -> object:
    return image.inode("evil", offset=image.of_inode("tool", "offset") + 1)


def end_behind_the_end_of_its_fragment(image: Patched) -> object:
    return image.inode("evil", offset=5000)


def file_of_a_size_that_its_blocks_have_not(image: Patched) -> object:
    return image.inode("blocks", size=2 * BLOCK + 8, fragment=7)


def fragment_that_is_not_there(image: Patched) -> object:
    return image.inode("evil", fragment=7)


def fragment_for_a_file_without_an_end(image: Patched) -> object:
    return image.inode("blocks", fragment=0)


def fragment_over_a_file(image: Patched) -> object:
    image.put(table_at(image, "fragment_table") + 2, "Q", image.of_inode("blocks", "start"))
    return image


def fragment_of_an_impossible_size(image: Patched) -> object:
    image.put(table_at(image, "fragment_table") + 2 + 8, "I", 0)
    return image


def more_fragments_than_files(image: Patched) -> object:
    return image.superblock(fragments=2**32 - 1)


def sparse_file_of_a_petabyte(image: Patched) -> object:
    return image.inode("tool", size=1 << 50)


def sparse_file_of_countless_blocks(image: Patched) -> object:
    return image.inode("tool", size=(1 << 35), fragment=NO_FRAGMENT)


def more_zeros_than_bytes(image: Patched) -> object:
    return image.inode("tool", sparse=1 << 40)


def export_table_that_names_another(image: Patched) -> object:
    at = table_at(image, "export_table") + 2
    image.put(at, "Q", image.get(at + 8, "Q"))
    return image


def not_a_squashfs(image: Patched) -> object:
    return image.superblock(magic=0)


def another_version(image: Patched) -> object:
    return image.superblock(major=3)


def block_size_against_its_logarithm(image: Patched) -> object:
    return image.superblock(block_log=13)


def unknown_flags(image: Patched) -> object:
    return image.superblock(flags=1 << 15)


def unknown_compression(image: Patched) -> object:
    return image.superblock(compression=9)


def compression_that_is_not_read(image: Patched) -> object:
    return image.superblock(compression=3)


def compressors_options_that_are_none(image: Patched) -> object:
    return image.superblock(flags=image.says("flags") | 0x400)


def bytes_behind_the_end(image: Patched) -> object:
    image.content += b"hidden".ljust(4096, b"\0")
    return image


def file_system_behind_the_end(image: Patched) -> object:
    image.content += bytes(2 * 4096)
    return image


def breaks_off_before_its_end(image: Patched) -> object:
    return image.superblock(used=len(image.content) + 1)


def tables_in_another_order(image: Patched) -> object:
    return image.superblock(inode_table=image.says("directory_table"), directory_table=image.says("inode_table"))


def gap_between_two_tables(image: Patched) -> object:
    return image.superblock(owner_table=image.says("owner_table") - 8)


def table_of_inodes_that_ends_early(image: Patched) -> object:
    return image.superblock(directory_table=image.says("directory_table") - 1)


def table_with_an_endless_block(image: Patched) -> object:
    image.put(image.says("inode_table"), "H", 0x8000 | 0x7FFF)
    return image


def table_that_is_not_where_its_index_says(image: Patched) -> object:
    return image.superblock(owners=image.says("owners") + 1)


def extended_attributes_that_are_not_there(image: Patched) -> object:
    return image.inode("evil", xattrs=99)


def extended_attributes_without_a_table(image: Patched) -> object:
    """The table is cut off, the inodes refer to it still."""
    end = image.says("owner_table") + 8
    del image.content[end:]
    return image.superblock(xattr_table=2**64 - 1, used=end)


def extended_attribute_that_overlayfs_obeys(image: Patched) -> object:
    return image.replace(b"\x00\x00\x04\x00note\x04\x00\x00\x00some", b"\x00\x00\x08\x00overlay.\x00\x00\x00\x00")


def capability_under_another_prefix(image: Patched) -> object:
    """The kernel sees ``user.capability``; squashfuse, asked for ``security.capability``, gives it."""
    return image.replace(b"\x02\x00\x0a\x00capability", b"\x00\x00\x0a\x00capability")


def extended_attribute_of_an_unknown_kind(image: Patched) -> object:
    return image.replace(b"\x00\x00\x04\x00note", b"\x07\x00\x04\x00note")


def extended_attribute_that_refers_to_nothing(image: Patched) -> object:
    return image.replace(b"\x00\x00\x04\x00note", b"\x00\x01\x04\x00note")


def extended_attribute_without_an_end(image: Patched) -> object:
    return image.replace(b"note\x04\x00\x00\x00some", b"note\xff\xff\xff\x00some")


def extended_attributes_without_number(image: Patched) -> object:
    image.put(xattr_numbers(image) + 8, "I", 2**32 - 1)
    return image


def extended_attributes_of_an_unknown_table(image: Patched) -> object:
    image.put(image.says("xattr_table") + 12, "I", 1)
    return image


def gap_before_the_extended_attributes(image: Patched) -> object:
    image.put(image.says("xattr_table") + 8, "I", 1 + 8192 // 16)
    return image.superblock(inodes=8192)


def capability_of_an_unknown_kind(image: Patched) -> object:
    return image.replace(b"capability\x14\x00\x00\x00", b"capability\x13\x00\x00\x00")


def xattr_numbers(image: Patched) -> int:
    return image.get(image.says("xattr_table") + 16, "Q") + 2


ATTACKS: dict[Callable[[Patched], object], str] = {
    blocks_of_two_files_that_overlap: "two files of its file system overlap",
    blocks_in_the_superblock: "two files of its file system overlap",
    fragment_in_the_table_of_inodes: "overlaps a table",
    blocks_behind_the_end: "overlaps a table",
    block_of_an_impossible_size: "a block of an impossible size",
    block_that_takes_no_bytes: "a block of an impossible size",
    block_that_is_stored_too_short: "shorter than the file that it belongs to",
    file_that_is_shorter_than_its_stored_block: "unpacks to more than 4095 bytes|longer than the file",
    stream_with_bytes_behind_its_end: "not one whole compressed stream",
    block_that_unpacks_to_less: "shorter than the file that it belongs to",
    block_that_is_a_bomb: "unpacks to more than 4096 bytes",
    block_that_is_no_stream: "a block of its file system is damaged",
    block_that_breaks_off: "not one whole compressed stream",
    ends_of_two_files_that_overlap: "overlap in a fragment",
    end_behind_the_end_of_its_fragment: "behind the end of its fragment",
    file_of_a_size_that_its_blocks_have_not: "a fragment that is not there",
    fragment_that_is_not_there: "a fragment that is not there",
    fragment_for_a_file_without_an_end: "whose end is not where it says",
    fragment_over_a_file: "two files of its file system overlap",
    fragment_of_an_impossible_size: "a fragment of an impossible size",
    more_fragments_than_files: "impossible counts",
    sparse_file_of_a_petabyte: "its files are larger than",
    sparse_file_of_countless_blocks: "a file of more than 4194304 blocks",
    more_zeros_than_bytes: "whose end is not where it says",
    export_table_that_names_another: "the export table of its file system names other inodes",
    not_a_squashfs: "no squashfs 4.0",
    another_version: "no squashfs 4.0",
    block_size_against_its_logarithm: "an unknown block size",
    unknown_flags: "unknown flags",
    unknown_compression: "an unknown compression, 9",
    compression_that_is_not_read: "compressed with lzo, for which there is no reader here",
    compressors_options_that_are_none: "unknown options of its compressor",
    bytes_behind_the_end: "not as long as its partition",
    file_system_behind_the_end: "not as long as its partition",
    breaks_off_before_its_end: "not as long as its partition",
    tables_in_another_order: "its tables in an unknown order",
    gap_between_two_tables: "does not end where the next one begins",
    table_of_inodes_that_ends_early: "does not end where the next one begins",
    table_with_an_endless_block: "a block of an impossible size",
    table_that_is_not_where_its_index_says: "not where its index says, or not as long",
    extended_attributes_that_are_not_there: "refers to extended attributes that are not there",
    extended_attributes_without_a_table: "refers to extended attributes that are not there",
    extended_attribute_that_overlayfs_obeys: "changes what is seen",
    capability_under_another_prefix: "changes what is seen: b'user.capability'",
    extended_attribute_of_an_unknown_kind: "an unknown extended attribute",
    extended_attribute_that_refers_to_nothing: "refers to nothing",
    extended_attribute_without_an_end: "an unreasonably large extended attribute",
    extended_attributes_without_number: "too many extended attributes",
    extended_attributes_of_an_unknown_table: "an unknown table of extended attributes",
    gap_before_the_extended_attributes: "does not end where the next one begins",
    capability_of_an_unknown_kind: "capabilities of an unknown kind",
}
"""By what is refused of a small image: what is said."""
