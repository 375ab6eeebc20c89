"""The inodes of a squashfs: its table, read once from its beginning to its end.

Every inode of the table is read, whether a folder lists it or not, so that none can hide: each has a number of its own,
and all numbers from one to the superblock's count are there. What a folder lists is linked to them afterwards
(:mod:`.squashfs`).
"""

import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from snakemake_apptainer_freshness.apptainer.squashfs_tables import NO_XATTRS, Metadata, Tables
from snakemake_apptainer_freshness.image.tree import PERMISSIONS, FileType, Node, NotComparable
from snakemake_apptainer_freshness.settings import TreeLimits

_HEADER: Final = struct.Struct("<4H2I")
_INDEX: Final = struct.Struct("<3I")
_LONGEST_INODE: Final = 56
"""Of what has a fixed length in an inode."""
_EXTENDED: Final = 7
"""Added to an inode's type where it has more fields."""
_TYPES: Final = (
    FileType.FOLDER,
    FileType.FILE,
    FileType.LINK,
    FileType.BLOCK,
    FileType.CHARACTER,
    FileType.FIFO,
    FileType.SOCKET,
)
_BODIES: Final = {
    1: struct.Struct("<2I2HI"),
    2: struct.Struct("<4I"),
    3: struct.Struct("<2I"),
    4: struct.Struct("<2I"),
    5: struct.Struct("<2I"),
    6: struct.Struct("<I"),
    7: struct.Struct("<I"),
    8: struct.Struct("<4I2HI"),
    9: struct.Struct("<3Q4I"),
    10: struct.Struct("<2I"),
    11: struct.Struct("<3I"),
    12: struct.Struct("<3I"),
    13: struct.Struct("<2I"),
    14: struct.Struct("<2I"),
}
_NO_FRAGMENT: Final = 0xFFFFFFFF
_LONGEST_TARGET: Final = 4095
_LONGEST_NAME: Final = 255
_MOST_BLOCKS: Final = 1 << 22
"""Of one file: 512 GiB in blocks of 128 KiB."""
_DOTS: Final = 3
"""A listing is so much shorter than its inode says, for ``.`` and ``..``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Where the content of a file is: blocks from `start` on, and its end in the fragment `fragment` at `offset`.

    `length` are the bytes in blocks, `tail` those in the fragment, which is None where there are none.
    """

    start: int
    words: "array[int]"
    length: int
    fragment: int | None
    offset: int
    tail: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Where the listing of a folder is: `size` bytes at `offset` of the metadata block at `block`.

    `index_at` is the position in the table of inodes of `index_count` entries that say where in the listing to look.
    """

    block: int
    offset: int
    size: int
    parent: int
    index_at: int = 0
    index_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Inode:
    """One inode: `reference` is what folders call it, `links` how many entries it says that it has.

    `content` is there for files, `listing` for folders.
    """

    number: int
    reference: int
    node: Node
    links: int
    content: Content | None = None
    listing: Listing | None = None


class InodeTable:
    """The inodes of a squashfs, in the order in which they stand there."""

    def __init__(self, tables: Tables, limits: TreeLimits) -> None:
        self._tables = tables
        self._table = tables.inodes
        self._block_size = tables.superblock.block_size
        self._owners: dict[tuple[int, int], tuple[int, int]] = {}
        self._size = 0
        self._limits = limits

    def __iter__(self) -> Iterator[Inode]:
        at = 0
        while at < self._table.length:
            inode, at = self._inode(at)
            yield inode

    def _inode(self, at: int) -> tuple[Inode, int]:
        """The inode at position `at`, and the position after it."""
        fixed = self._table.some(at, _LONGEST_INODE)
        if len(fixed) < _HEADER.size:
            raise NotComparable("the table of inodes of its file system breaks off")
        kind, mode, user, group, _time, number = _HEADER.unpack_from(fixed)
        body = _BODIES.get(kind)
        if body is None or mode & ~PERMISSIONS or len(fixed) < _HEADER.size + body.size:
            raise NotComparable("its file system has an inode of an unknown kind")
        fields = body.unpack_from(fixed, _HEADER.size)
        extended = kind > _EXTENDED
        node = Node(kind=_TYPES[(kind - 1) % _EXTENDED], mode=mode, owner=self._owner(user, group))
        reference, after = self._table.reference(at), at + _HEADER.size + body.size
        content, listing, xattrs = None, None, NO_XATTRS
        match node.kind:
            case FileType.FOLDER:
                links, xattrs, listing, after = self._folder(fields, after, extended=extended)
                node.children = {}
            case FileType.FILE:
                links, xattrs, node.size, content, after = self._file(fields, after, extended=extended)
            case _:
                links, xattrs, after = self._other(node, fields, after, extended=extended)
        node.capability = self._capability(xattrs)
        found = Inode(number=number, reference=reference, node=node, links=links, content=content, listing=listing)
        return found, after

    def _other(self, node: Node, fields: tuple[int, ...], after: int, *, extended: bool) -> tuple[int, int, int]:
        """Links, extended attributes and end of what is neither file nor folder."""
        xattrs = NO_XATTRS
        if node.kind is FileType.LINK:
            node.target, after = self._target(after, fields[1])
            if extended:
                xattrs, after = int.from_bytes(self._table.read(after, 4), "little"), after + 4
        elif extended:
            xattrs = fields[-1]
        if node.kind.is_device:
            node.device = _device(fields[1])
        return fields[0], xattrs, after

    def _capability(self, xattrs: int) -> bytes:
        if xattrs == NO_XATTRS:
            return b""
        if self._tables.xattrs is None:
            raise NotComparable("its file system refers to extended attributes that are not there")
        return self._tables.xattrs.capability(xattrs)

    def _owner(self, user: int, group: int) -> tuple[int, int]:
        known = self._owners.get((user, group))
        if known is not None:
            return known
        owners = self._tables.owners
        if max(user, group) >= len(owners):
            raise NotComparable("its file system has an owner that is not in its table")
        return self._owners.setdefault((user, group), (owners[user], owners[group]))

    def _target(self, at: int, size: int) -> tuple[bytes, int]:
        if not 0 < size <= _LONGEST_TARGET:
            raise NotComparable("its file system has a symbolic link with an impossible target")
        target = self._table.read(at, size)
        if b"\0" in target:
            raise NotComparable("its file system has a symbolic link with an impossible target")
        return target, at + size

    def _folder(self, fields: tuple[int, ...], after: int, *, extended: bool) -> tuple[int, int, Listing, int]:
        count, index_at, xattrs = 0, after, NO_XATTRS
        if extended:
            links, size, block, parent, count, offset, xattrs = fields
            after = index_at + sum(
                _INDEX.size + len(name) for _, _, name in index_entries(self._table, index_at, count)
            )
        else:
            block, links, size, offset, parent = fields
        if size < _DOTS:
            raise NotComparable("its file system has a folder of an impossible size")
        listing = Listing(
            block=block, offset=offset, size=size - _DOTS, parent=parent, index_at=index_at, index_count=count
        )
        return links, xattrs, listing, after

    def _file(self, fields: tuple[int, ...], after: int, *, extended: bool) -> tuple[int, int, int, Content, int]:
        links, xattrs, sparse = 1, NO_XATTRS, 0
        if extended:
            start, size, sparse, links, number, offset, xattrs = fields
        else:
            start, number, offset, size = fields
        fragment = None if number == _NO_FRAGMENT else number
        self._size += size
        if self._size > self._limits.size:
            raise NotComparable(f"its files are larger than {self._limits.size} bytes")
        tail = 0 if fragment is None else size % self._block_size
        blocks = -(-(size - tail) // self._block_size)
        if (fragment is not None and not tail) or sparse > size:
            raise NotComparable("its file system has a file whose end is not where it says")
        if blocks > _MOST_BLOCKS:
            raise NotComparable(f"its file system has a file of more than {_MOST_BLOCKS} blocks")
        words = array("I")
        if blocks:
            words.frombytes(self._table.read(after, 4 * blocks))
            if sys.byteorder == "big":
                words.byteswap()
        content = Content(start=start, words=words, length=size - tail, fragment=fragment, offset=offset, tail=tail)
        return links, xattrs, size, content, after + 4 * blocks


def index_entries(table: Metadata, at: int, count: int) -> Iterator[tuple[int, int, bytes]]:
    """The index of an extended folder: offset in its listing, metadata block, and the name that stands there."""
    for _ in range(count):
        offset, block, longest = _INDEX.unpack(table.read(at, _INDEX.size))
        if longest >= _LONGEST_NAME:
            raise NotComparable("its file system has an index with an impossible name")
        name = table.read(at + _INDEX.size, longest + 1)
        at += _INDEX.size + len(name)
        yield offset, block, name


def _device(number: int) -> tuple[int, int]:
    """Major and minor number, as ``new_decode_dev`` of the kernel has them."""
    return (number >> 8) & 0xFFF, (number & 0xFF) | ((number >> 12) & 0xFFF00)
