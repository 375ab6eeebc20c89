"""The folders of a squashfs: what each lists, and that every inode is in one.

Every inode is there once and as often listed as it says, a folder once, in its parent. Names are sorted, and the index
of a large folder leads to where they stand. Listings fill their table: no byte of it is in none, or in two.
"""

import struct
from array import array
from collections.abc import Iterator
from typing import Final

from snakemake_apptainer_freshness.apptainer.squashfs_inodes import FOLDER, Inode, Listing, index_entries
from snakemake_apptainer_freshness.apptainer.squashfs_tables import Tables
from snakemake_apptainer_freshness.image.tree import FileType, Node, NotComparable, shown
from snakemake_apptainer_freshness.settings import TreeLimits

_RUN: Final = struct.Struct("<3I")
_ENTRY: Final = struct.Struct("<HhHH")
_HEAD: Final = _ENTRY.size
"""What stands before the name of an entry."""
_MOST_IN_RUN: Final = 256
_LONGEST_NAME: Final = 255
_LONGEST_RUN: Final = _RUN.size + _MOST_IN_RUN * (_HEAD + _LONGEST_NAME + 1)
_DOTS: Final = (b".", b"..")
_NO_INDEX: Final[Iterator[tuple[int, int, bytes]]] = iter(())
_NOTHING: Final = Node(kind=FileType.FILE)
"""In the place of inodes that are still to come."""


class Folders:
    """What is in which folder, and that every inode is in one."""

    def __init__(self, tables: Tables, limits: TreeLimits) -> None:
        self._tables = tables
        self._limits = limits
        self._count = tables.superblock.inodes
        # By an inode's number less one.
        self._nodes = [_NOTHING] * self._count
        self._types = bytearray(self._count)
        self._references = array("Q", bytes(8 * self._count))
        self._links = array("I", bytes(4 * self._count))
        self._listed = array("I", bytes(4 * self._count))
        self._listings: dict[int, Listing] = {}
        self._found = 0
        self._names = 0
        self._entries = 0

    def add(self, inode: Inode) -> None:
        """Take the next inode of the table."""
        at = inode.number - 1
        if not 0 <= at < self._count or self._types[at]:
            raise NotComparable("two inodes of its file system have one number, or one that is too large")
        self._nodes[at] = inode.node
        self._types[at] = inode.type
        self._references[at] = inode.reference
        self._links[at] = inode.links
        self._found += 1
        if inode.listing is not None:
            self._listings[at] = inode.listing
        elif inode.node.target:
            self._take_room(entries=0, names=len(inode.node.target))

    def _take_room(self, *, entries: int, names: int) -> None:
        """Count entries of folders, and the bytes of their names or of the target of a link."""
        self._entries += entries
        self._names += names
        if self._entries > self._limits.entries:
            raise NotComparable(f"its file system has more than {self._limits.entries} entries")
        if self._names > self._limits.names:
            raise NotComparable(f"its file system has names of more than {self._limits.names} bytes")

    def linked(self) -> Node:
        """Return the root folder, with everything linked to the folder that lists it."""
        if self._found != self._count:
            raise NotComparable("its file system has another number of inodes than it says")
        self._tables.check_export(self._references)
        places = [self._link(at, listing) for at, listing in self._listings.items()]
        self._check_listings(places)
        return self._root()

    def _root(self) -> Node:
        roots = [at for at in self._listings if self._references[at] == self._tables.superblock.root]
        if len(roots) != 1 or self._listed[roots[0]]:
            raise NotComparable("its file system has no root folder, or one that is in another folder")
        self._links[roots[0]] = 0  # so often each has to be listed, see _link
        if self._listed != self._links or self._listed.count(0) != 1:
            raise NotComparable("something in its file system is in fewer or more folders than it says")
        root = self._nodes[roots[0]]
        self._check_depth(root)
        return root

    def _check_depth(self, root: Node) -> None:
        """Refuse a folder that is not below the root: folders that contain each other would be in none."""
        waiting, reached = [(root, 0)], 0
        while waiting:
            folder, length = waiting.pop()
            reached += 1
            for name, node in (folder.children or {}).items():
                if node.children is not None:
                    waiting.append((node, length + 1 + len(name)))
            if length > self._limits.path:
                raise NotComparable(f"its file system has a path of more than {self._limits.path} bytes")
        if reached != len(self._listings):
            raise NotComparable("its file system has folders that are in a circle")

    def _check_listings(self, places: list[tuple[int, int]]) -> None:
        """Refuse listings (where they begin, how long they are) that do not fill their table, each byte once."""
        end = 0
        for start, size in sorted(places):
            if start != end and size:
                raise NotComparable("listings of folders of its file system overlap, or leave something out")
            end += size
        if end != self._tables.directories.length:
            raise NotComparable("listings of folders of its file system overlap, or leave something out")

    def _link(self, folder: int, listing: Listing) -> tuple[int, int]:
        """Put into a folder what it lists, and return where the listing begins and how long it is."""
        index, size = _NO_INDEX, listing.size
        if listing.index_count:
            index = index_entries(self._tables.inodes, listing.index_at, listing.index_count)
        hint = next(index, None)
        directories = self._tables.directories
        start = at = directories.position(listing.block, listing.offset) if size else 0
        end, children = at + size, self._nodes[folder].children
        assert children is not None  # noqa: S101  it has a listing
        below, before = 2, b""
        while at < end:
            run = directories.read(at, min(_LONGEST_RUN, end - at))
            if hint is not None and hint[0] == at - start:
                place = directories.reference(at) >> 16
                if hint[1] != place or hint[2] != _first_name(run):
                    raise NotComparable("the index of a folder of its file system leads elsewhere than its listing")
                hint = next(index, None)
            more, length, before = self._link_run(folder, run, children, before)
            below += more
            at += length
        if hint is not None:
            raise NotComparable("the index of a folder of its file system leads elsewhere than its listing")
        if below != self._links[folder]:
            raise NotComparable("a folder of its file system has another number of links than folders in it")
        self._links[folder] = 1  # so often it has to be listed itself
        return start, size

    def _link_run(self, folder: int, run: bytes, children: dict[bytes, Node], before: bytes) -> tuple[int, int, bytes]:
        """Link what a run of entries lists, whose inodes lie in one metadata block.

        Return the number of folders in it, its length, and its last name; `before` is the name before it.
        """
        if len(run) < _RUN.size:
            raise NotComparable("a listing of a folder of its file system breaks off")
        last, block, base = _RUN.unpack_from(run)
        if last >= _MOST_IN_RUN:
            raise NotComparable("a listing of a folder of its file system has too many entries")
        at, below, names, place, size = _RUN.size, 0, 0, block << 16, len(run)
        for _ in range(last + 1):
            if at + _HEAD > size:
                raise NotComparable("a listing of a folder of its file system breaks off")
            offset, delta, kind, length = _ENTRY.unpack_from(run, at)
            begin, at = at + _HEAD, at + _HEAD + length + 1
            name = run[begin:at]
            if at > size or length >= _LONGEST_NAME or name in _DOTS or b"/" in name or b"\0" in name:
                raise NotComparable(f"a folder of its file system lists {shown(name)}, which is no name")
            child = base + delta - 1
            if not 0 <= child < self._count or self._references[child] != place | offset or self._types[child] != kind:
                raise NotComparable(f"a folder of its file system lists {shown(name)} as another inode than it is")
            if name <= before:
                raise NotComparable(f"a folder of its file system lists {shown(name)} twice, or in no order")
            if kind == FOLDER:
                below += 1
                if self._listings[child].parent != folder + 1:
                    raise NotComparable("a folder of its file system has another parent than the one that lists it")
            children[name] = self._nodes[child]
            self._listed[child] += 1
            names += length + 1
            before = name
        self._take_room(entries=last + 1, names=names)
        return below, at, before


def _first_name(run: bytes) -> bytes:
    """Return the name of the first entry of a run."""
    if len(run) < _RUN.size + _HEAD:
        return b""
    length = int.from_bytes(run[_RUN.size + 6 : _RUN.size + 8], "little") + 1
    return run[_RUN.size + _HEAD :][:length]
