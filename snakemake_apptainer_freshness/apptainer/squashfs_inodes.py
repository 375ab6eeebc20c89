"""The inodes of a squashfs: its table, read once from its beginning to its end.

Every inode of the table is read, whether a folder lists it or not, so that none can hide: each has a number of its own,
and all numbers from one to the superblock's count are there. What a folder lists is linked to them afterwards
(:mod:`.squashfs`).
"""

import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from snakemake_apptainer_freshness.apptainer.squashfs_tables import METADATA, NO_XATTRS, MetadataBlocks, Tables
from snakemake_apptainer_freshness.image.tree import PERMISSIONS, FileType, Node, NotComparable
from snakemake_apptainer_freshness.settings import TreeLimits

_HEADER: Final = "<4H2I"
"""Of every inode: kind, mode, user, group, time, number."""
_INDEX: Final = struct.Struct("<3I")
_SHORTEST_INODE: Final = 20
_WINDOW: Final = 8 * METADATA
"""So much of the table is read at once: most inodes take some thirty bytes."""
_EXTENDED: Final = 7
"""Added to an inode's type where it has more fields."""
FOLDER: Final = 1
FILE: Final = 2
_TYPES: Final = {
    FOLDER: FileType.FOLDER,
    FILE: FileType.FILE,
    3: FileType.LINK,
    4: FileType.BLOCK,
    5: FileType.CHARACTER,
    6: FileType.FIFO,
    7: FileType.SOCKET,
}
_BODIES: Final = (
    "2I2HI", "4I", "2I", "2I", "2I", "I", "I",
    "4I2HI", "3Q4I", "2I", "3I", "3I", "2I", "2I",
)  # fmt: skip
_INODES: Final = {kind: struct.Struct(_HEADER + body) for kind, body in enumerate(_BODIES, 1)}
"""What has a fixed length in an inode, by its kind."""
_LONGEST_INODE: Final = max(layout.size for layout in _INODES.values())
"""Without what follows those fields: blocks, an index, a target."""
_FILE: Final = FileType.FILE
_NO_WORDS: Final = array("I")
_NO_FRAGMENT: Final = 0xFFFFFFFF
_LONGEST_TARGET: Final = 4095
_LONGEST_NAME: Final = 255
_MOST_BLOCKS: Final = 1 << 22
"""Of one file: 512 GiB in blocks of 128 KiB."""
_DOTS: Final = 3
"""A listing is so much shorter than its inode says, for ``.`` and ``..``."""


# Not frozen: there may be a million of each, and it takes four times as long to make one that is.


@dataclass(slots=True)
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


@dataclass(slots=True)
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


@dataclass(slots=True)
class Inode:
    """One inode: `reference` is what folders call it, `links` how many entries it says that it has.

    `type` is what entries of folders call its type, whether it is extended or not. `content` is there for files,
    `listing` for folders.
    """

    number: int
    type: int
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
        table, at = self._table, 0
        window, window_at = b"", 0
        while at < table.length:
            start = at - window_at
            if len(window) - start < _LONGEST_INODE:
                window, window_at, start = table.some(at, _WINDOW), at, 0
            if len(window) - start < _SHORTEST_INODE:
                raise NotComparable("the table of inodes of its file system breaks off")
            kind = window[start] | window[start + 1] << 8
            layout = _INODES.get(kind)
            if layout is None or len(window) - start < layout.size:
                raise NotComparable("its file system has an inode of an unknown kind")
            fields = layout.unpack_from(window, start)
            inode = self._small_file(fields, at) if kind == FILE else None
            if inode is not None:
                at += layout.size
            else:
                inode, at = self._inode(fields, at, at + layout.size)
            yield inode

    def _small_file(self, fields: tuple[int, ...], at: int) -> Inode | None:
        """Return a file that lies in a fragment with all that it has, as most do; None for another or a wrong one."""
        _, mode, user, group, _, number, start, fragment, offset, size = fields
        total = self._size + size
        if (
            not 0 < size < self._block_size
            or fragment == _NO_FRAGMENT
            or mode & ~PERMISSIONS
            or total > self._limits.size
        ):
            return None
        self._size = total
        node = Node(kind=_FILE, mode=mode, owner=self._owner(user, group), size=size)
        content = Content(start, _NO_WORDS, 0, fragment, offset, size)
        return Inode(number, FILE, self._table.reference(at), node, 1, content)

    def _inode(self, fields: tuple[int, ...], at: int, after: int) -> tuple[Inode, int]:
        """Return the inode of these `fields` at position `at`, and the position after it; the fields end at `after`."""
        kind, mode, user, group, _time, number = fields[:6]
        if mode & ~PERMISSIONS:
            raise NotComparable("its file system has an inode with an impossible mode")
        extended = kind > _EXTENDED
        if extended:
            kind -= _EXTENDED
        node = Node(kind=_TYPES[kind], mode=mode, owner=self._owner(user, group))
        content, listing, xattrs = None, None, NO_XATTRS
        if kind == FILE:
            links, xattrs, node.size, content, after = self._file(fields[6:], after, extended=extended)
        elif kind == FOLDER:
            links, xattrs, listing, after = self._folder(fields[6:], after, extended=extended)
            node.children = {}
        else:
            links, xattrs, after = self._other(node, fields[6:], after, extended=extended)
        if xattrs != NO_XATTRS:
            node.capability = self._capability(xattrs)
        return Inode(number, kind, self._table.reference(at), node, links, content, listing), after

    def _other(self, node: Node, fields: Sequence[int], after: int, *, extended: bool) -> tuple[int, int, int]:
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
        return links, xattrs, Listing(block, offset, size - _DOTS, parent, index_at, count), after

    def _file(self, fields: tuple[int, ...], after: int, *, extended: bool) -> tuple[int, int, int, Content, int]:
        if extended:
            start, size, sparse, links, number, offset, xattrs = fields
        else:
            start, number, offset, size = fields
            links, xattrs, sparse = 1, NO_XATTRS, 0
        self._size += size
        if self._size > self._limits.size:
            raise NotComparable(f"its files are larger than {self._limits.size} bytes")
        fragment, tail = (None, 0) if number == _NO_FRAGMENT else (number, size % self._block_size)
        blocks = -(-(size - tail) // self._block_size)
        if (fragment is not None and not tail) or sparse > size:
            raise NotComparable("its file system has a file whose end is not where it says")
        if not blocks:
            return links, xattrs, size, Content(start, _NO_WORDS, 0, fragment, offset, tail), after
        if blocks > _MOST_BLOCKS:
            raise NotComparable(f"its file system has a file of more than {_MOST_BLOCKS} blocks")
        words = array("I", self._table.read(after, 4 * blocks))
        if sys.byteorder == "big":
            words.byteswap()
        return links, xattrs, size, Content(start, words, size - tail, fragment, offset, tail), after + 4 * blocks


def index_entries(table: MetadataBlocks, at: int, count: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield the index of an extended folder: offset in its listing, metadata block, and the name that stands there."""
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
