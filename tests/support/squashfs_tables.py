"""The tables of a squashfs, changed field by field: what an attacker writes who wants two readers to see two things.

The real mksquashfs makes an image with tables that are not compressed; then any field of a superblock, an inode or an
entry of a folder is found by what it belongs to and replaced in place. This knows the format by itself (from the
kernel's ``squashfs_fs.h``), and nothing of the reader that is tested.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator

from snakemake_apptainer_freshness.apptainer import squashfs
from snakemake_apptainer_freshness.image.tree import Node
from snakemake_apptainer_freshness.settings import TREE, TreeLimits

METADATA = 8192
SUPERBLOCK = {
    "magic": (0, "I"), "inodes": (4, "I"), "block_size": (12, "I"), "fragments": (16, "I"), "compression": (20, "H"),
    "block_log": (22, "H"), "flags": (24, "H"), "owners": (26, "H"), "major": (28, "H"), "root": (32, "Q"),
    "used": (40, "Q"), "owner_table": (48, "Q"), "xattr_table": (56, "Q"), "inode_table": (64, "Q"),
    "directory_table": (72, "Q"), "fragment_table": (80, "Q"), "export_table": (88, "Q"),
}  # fmt: skip
HEADER = {"kind": (0, "H"), "mode": (2, "H"), "user": (4, "H"), "group": (6, "H"), "number": (12, "I")}
FIELDS = {
    1: {"block": (16, "I"), "links": (20, "I"), "size": (24, "H"), "offset": (26, "H"), "parent": (28, "I")},
    2: {"start": (16, "I"), "fragment": (20, "I"), "offset": (24, "I"), "size": (28, "I"), "word": (32, "I")},
    3: {"links": (16, "I"), "size": (20, "I"), "target": (24, "B")},
    5: {"links": (16, "I"), "device": (20, "I")},
    8: {
        "links": (16, "I"), "size": (20, "I"), "block": (24, "I"), "parent": (28, "I"), "index_count": (32, "H"),
        "offset": (34, "H"), "xattrs": (36, "I"), "index_offset": (40, "I"), "index_block": (44, "I"),
        "index_size": (48, "I"), "index_name": (52, "B"),
    },
    9: {
        "start": (16, "Q"), "size": (24, "Q"), "sparse": (32, "Q"), "links": (40, "I"), "fragment": (44, "I"),
        "offset": (48, "I"), "xattrs": (52, "I"), "word": (56, "I"),
    },
}  # fmt: skip
ENTRY = {"offset": (0, "H"), "delta": (2, "h"), "kind": (4, "H"), "length": (6, "H"), "first": (8, "B")}
RUN = {"last": (0, "I"), "block": (4, "I"), "base": (8, "I")}
NO_FRAGMENT = 0xFFFFFFFF


class Patched:
    """An image whose fields can be read and replaced; `content` is what it is now."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self._entries = dict(self._listed())

    def read(self, limits: TreeLimits = TREE) -> Node:
        """What our reader makes of it."""
        return read(bytes(self.content), limits)

    def get(self, at: int, code: str) -> int:
        """A number of the type `code` (see :mod:`struct`)."""
        return int(struct.unpack_from(f"<{code}", self.content, at)[0])

    def put(self, at: int, code: str, value: int) -> None:
        """Replace a number."""
        struct.pack_into(f"<{code}", self.content, at, value)

    def superblock(self, **values: int) -> Patched:
        """Replace fields of the superblock."""
        for name, value in values.items():
            self.put(*SUPERBLOCK[name], value)
        return self

    def says(self, name: str) -> int:
        """A field of the superblock."""
        return self.get(*SUPERBLOCK[name])

    def inode(self, name: str, **values: int) -> Patched:
        """Replace fields of the inode that the entry `name` leads to; the empty name is the root."""
        at = self.inode_at(name)
        for field, value in values.items():
            offset, code = (HEADER | FIELDS[self.get(at, "H")])[field]
            self.put(at + offset, code, value)
        return self

    def of_inode(self, name: str, field: str) -> int:
        """A field of the inode that the entry `name` leads to."""
        at = self.inode_at(name)
        offset, code = (HEADER | FIELDS[self.get(at, "H")])[field]
        return self.get(at + offset, code)

    def inode_at(self, name: str) -> int:
        """Where the inode is that the entry `name` leads to."""
        if not name:
            return self.says("inode_table") + 2 + self.says("root") % 65536 + (self.says("root") >> 16)
        entry = self.entry_at(name)
        block = self.get(self.run_at(name) + RUN["block"][0], "I")
        return self.says("inode_table") + 2 + block + self.get(entry, "H")

    def entry_at(self, name: str) -> int:
        """Where the entry `name` is: the last one of this name."""
        return self._entries[name.encode()][0]

    def run_at(self, name: str) -> int:
        """Where the run of entries begins that the entry `name` is in."""
        return self._entries[name.encode()][1]

    def _listed(self) -> Iterator[tuple[bytes, tuple[int, int]]]:
        """Each entry of the table of listings, which runs fill: its name, where it is, and where its run begins."""
        start, raw = self.says("directory_table"), bytearray()
        end = self.get(self.says("fragment_table"), "Q")
        for block in range(start, end, METADATA + 2):
            raw += self.content[block + 2 : min(block + 2 + METADATA, end)]

        def place(position: int) -> int:
            return start + 2 + position + position // METADATA * 2

        at = 0
        while at < len(raw):
            run, last = at, struct.unpack_from("<I", raw, at)[0]
            at += 12
            for _ in range(last + 1):
                length = struct.unpack_from("<H", raw, at + 6)[0] + 1
                yield bytes(raw[at + 8 : at + 8 + length]), (place(at), place(run))
                at += 8 + length

    def entry(self, name: str, **values: int) -> Patched:
        """Replace fields of the entry `name`."""
        at = self.entry_at(name)
        for field, value in values.items():
            offset, code = ENTRY[field]
            self.put(at + offset, code, value)
        return self

    def run(self, name: str, **values: int) -> Patched:
        """Replace fields of the run of entries that `name` is in."""
        at = self.run_at(name)
        for field, value in values.items():
            offset, code = RUN[field]
            self.put(at + offset, code, value)
        return self

    def leads_to(self, name: str, other: str) -> Patched:
        """Make the entry `name` lead to the inode of the entry `other`, as a hard link to it would."""
        at, there = self.entry_at(name), self.inode_at(other)
        base = self.get(self.run_at(name) + RUN["base"][0], "I")
        self.put(at, "H", there - self.says("inode_table") - 2)
        self.put(at + 2, "h", self.get(there + 12, "I") - base)
        kind = self.get(there, "H")
        self.put(at + 4, "H", kind - 7 if kind > 7 else kind)
        return self

    def replace(self, old: bytes, new: bytes) -> Patched:
        """Replace bytes that are there once."""
        assert self.content.count(old) == 1
        assert len(old) == len(new)
        self.content[:] = self.content.replace(old, new)
        return self


def read(content: bytes, limits: TreeLimits = TREE) -> Node:
    """What our reader makes of an image in memory."""

    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return squashfs.read(file, 0, len(content), limits=limits)


def table_at(image: Patched, name: str) -> int:
    """Where the first metadata block of a table is that has an index: `name` is that of the superblock's field."""
    return image.get(image.says(name), "Q")
