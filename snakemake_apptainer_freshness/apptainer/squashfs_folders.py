"""The folders of a squashfs: what each lists, and that every inode is in one.

Every inode is there once and as often listed as it says, a folder once, in its parent. Names are sorted, and the index
of a large folder leads to where they stand. Listings fill their table: no byte of it is in none, or in two.
"""

import struct
from array import array
from collections.abc import Iterator
from typing import Final

from snakemake_apptainer_freshness.apptainer.squashfs_inodes import Inode, Listing, index_entries
from snakemake_apptainer_freshness.apptainer.squashfs_tables import Tables
from snakemake_apptainer_freshness.image.tree import FileType, Node, NotComparable, shown
from snakemake_apptainer_freshness.settings import TreeLimits

_RUN: Final = struct.Struct("<3I")
_ENTRY: Final = struct.Struct("<HhHH")
_MOST_IN_RUN: Final = 256
_LONGEST_NAME: Final = 255
_LONGEST_RUN: Final = _RUN.size + _MOST_IN_RUN * (_ENTRY.size + _LONGEST_NAME + 1)
_TYPES: Final = {
    FileType.FOLDER: 1,
    FileType.FILE: 2,
    FileType.LINK: 3,
    FileType.BLOCK: 4,
    FileType.CHARACTER: 5,
    FileType.FIFO: 6,
    FileType.SOCKET: 7,
}


class Folders:
    """What is in which folder, and that every inode is in one."""

    def __init__(self, tables: Tables, limits: TreeLimits) -> None:
        self._tables = tables
        self._limits = limits
        self._count = tables.superblock.inodes
        self._nodes: list[Node | None] = [None] * self._count
        self._references = array("Q", bytes(8 * self._count))
        self._links = array("I", bytes(4 * self._count))
        self._listings: dict[int, Listing] = {}
        self._found = 0
        self._names = 0

    def add(self, inode: Inode) -> None:
        """Take the next inode of the table."""
        at = inode.number - 1
        if not 0 <= at < self._count or self._nodes[at] is not None:
            raise NotComparable("two inodes of its file system have one number, or one that is too large")
        self._nodes[at] = inode.node
        self._references[at] = inode.reference
        self._links[at] = inode.links
        self._found += 1
        self._count_names(inode.node.target)
        if inode.listing is not None:
            self._listings[at] = inode.listing

    def _count_names(self, name: bytes) -> None:
        self._names += len(name)
        if self._names > self._limits.names:
            raise NotComparable(f"its file system has names of more than {self._limits.names} bytes")

    def linked(self) -> Node:
        """Return the root folder, with everything linked to the folder that lists it."""
        if self._found != self._count:
            raise NotComparable("its file system has another number of inodes than it says")
        self._tables.check_export(self._references)
        listed = array("I", bytes(4 * self._count))
        entries = 0
        for at, listing in self._listings.items():
            folder, below = self._node(at), 2
            for name, child in self._entries(at, listing):
                node = self._node(child)
                assert folder.children is not None  # noqa: S101  it has a listing
                folder.children[name] = node
                listed[child] += 1
                self._count_names(name)
                below += node.kind is FileType.FOLDER
                entries += 1
                if entries > self._limits.entries:
                    raise NotComparable(f"its file system has more than {self._limits.entries} entries")
            if below != self._links[at]:
                raise NotComparable("a folder of its file system has another number of links than folders in it")
        self._check_listings()
        return self._root(listed)

    def _root(self, listed: "array[int]") -> Node:
        roots = [at for at in self._listings if self._references[at] == self._tables.superblock.root]
        if len(roots) != 1 or listed[roots[0]]:
            raise NotComparable("its file system has no root folder, or one that is in another folder")
        for at, count in enumerate(listed):
            wanted = (at != roots[0]) if at in self._listings else self._links[at]
            if count != wanted or (not count and at != roots[0]):
                raise NotComparable("something in its file system is in fewer or more folders than it says")
        root = self._node(roots[0])
        self._check_depth(root)
        return root

    def _check_depth(self, root: Node) -> None:
        """Refuse a folder that is not below the root: folders that contain each other would be in none."""
        waiting, reached = [(root, 0)], 0
        while waiting:
            folder, length = waiting.pop()
            reached += 1
            for name, node in (folder.children or {}).items():
                if node.kind is FileType.FOLDER:
                    waiting.append((node, length + 1 + len(name)))
            if length > self._limits.path:
                raise NotComparable(f"its file system has a path of more than {self._limits.path} bytes")
        if reached != len(self._listings):
            raise NotComparable("its file system has folders that are in a circle")

    def _check_listings(self) -> None:
        """Refuse listings that do not fill their table, each byte once."""
        end = 0
        for start, size in sorted((self._start(listing), listing.size) for listing in self._listings.values()):
            if start != end and size:
                raise NotComparable("listings of folders of its file system overlap, or leave something out")
            end += size
        if end != self._tables.directories.length:
            raise NotComparable("listings of folders of its file system overlap, or leave something out")

    def _node(self, at: int) -> Node:
        node = self._nodes[at]
        assert node is not None  # noqa: S101  all numbers are there, see linked
        return node

    def _start(self, listing: Listing) -> int:
        return self._tables.directories.position(listing.block, listing.offset) if listing.size else 0

    def _entries(self, folder: int, listing: Listing) -> Iterator[tuple[bytes, int]]:
        """Yield each name in a folder, and which inode it leads to (its number less one)."""
        index = index_entries(self._tables.inodes, listing.index_at, listing.index_count)
        hint = next(index, None)
        start = at = self._start(listing)
        end, before = at + listing.size, b""
        while at < end:
            run = self._tables.directories.read(at, min(_LONGEST_RUN, end - at))
            if hint is not None and hint[0] == at - start:
                place = self._tables.directories.reference(at) >> 16
                if hint[1] != place or hint[2] != _first_name(run):
                    raise NotComparable("the index of a folder of its file system leads elsewhere than its listing")
                hint = next(index, None)
            position, names = self._run(run)
            at += position
            for name, child in names:
                if name <= before:
                    raise NotComparable(f"a folder of its file system lists {shown(name)} twice, or in no order")
                before = name
                inner = self._listings.get(child)
                if inner is not None and inner.parent != folder + 1:
                    raise NotComparable("a folder of its file system has another parent than the one that lists it")
                yield name, child
        if hint is not None:
            raise NotComparable("the index of a folder of its file system leads elsewhere than its listing")

    def _run(self, run: bytes) -> tuple[int, list[tuple[bytes, int]]]:
        """Return the length of a run of entries, whose inodes lie in one metadata block, and what it lists."""
        if len(run) < _RUN.size:
            raise NotComparable("a listing of a folder of its file system breaks off")
        last, block, base = _RUN.unpack_from(run)
        if last >= _MOST_IN_RUN:
            raise NotComparable("a listing of a folder of its file system has too many entries")
        at, entries = _RUN.size, list[tuple[bytes, int]]()
        for _ in range(last + 1):
            if at + _ENTRY.size > len(run):
                raise NotComparable("a listing of a folder of its file system breaks off")
            offset, delta, kind, length = _ENTRY.unpack_from(run, at)
            at += _ENTRY.size + length + 1
            name = run[at - length - 1 : at]
            if at > len(run) or length >= _LONGEST_NAME or name in (b".", b"..") or b"/" in name or b"\0" in name:
                raise NotComparable(f"a folder of its file system lists {shown(name)}, which is no name")
            child = base + delta - 1
            if (
                not 0 <= child < self._count
                or self._references[child] != block << 16 | offset
                or _TYPES[self._node(child).kind] != kind
            ):
                raise NotComparable(f"a folder of its file system lists {shown(name)} as another inode than it is")
            entries.append((name, child))
        return at, entries


def _first_name(run: bytes) -> bytes:
    """Return the name of the first entry of a run."""
    if len(run) < _RUN.size + _ENTRY.size:
        return b""
    length = int.from_bytes(run[_RUN.size + 6 : _RUN.size + 8], "little") + 1
    return run[_RUN.size + _ENTRY.size :][:length]
