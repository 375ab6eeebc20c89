"""The superblock and the tables of a squashfs 4.0, as the kernel documents them (``filesystems/squashfs``).

A squashfs is a superblock, the data of the files, and then tables, each in *metadata blocks* of 8 KiB that are
compressed one by one: inodes, directories, fragments, the export table, owners, extended attributes. Positions here
are those in the unpacked table; a reference on disk is the place of a metadata block and an offset in it.

**A file system that two readers could understand in two ways proves nothing.** The tables stand in the order in which
mksquashfs writes them, each ends where the next begins, every metadata block but a table's last holds 8 KiB, and what
counts something counts exactly what is there. Counts are compared with a limit before anything is made for them.
"""

import struct
import sys
from array import array
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Self

from snakemake_apptainer_freshness.apptainer.squashfs_blocks import Decompress, Image, decompressor, stored_size
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.settings import TreeLimits

_SUPERBLOCK: Final = struct.Struct("<5I6H8Q")
_FRAGMENT: Final = struct.Struct("<QII")
_XATTR_TABLE: Final = struct.Struct("<QII")
_XATTR_ID: Final = struct.Struct("<QII")
_MAGIC: Final = 0x73717368
METADATA: Final = 8192
"""What a metadata block holds, unpacked."""
_STORED_AS_IT_IS: Final = 0x8000
_CACHED: Final = 32
_PIECE: Final = 8 * METADATA
"""So much of a table is read of the file at once."""
_MOST_BLOCKS: Final = 1 << 18
"""Of one table: 2 GiB, unpacked. The limit of entries is reached long before, but for tables that are mostly gaps."""
_ABSENT: Final = (1 << 64) - 1
_KNOWN_FLAGS: Final = 0xFFF
_HAS_OPTIONS: Final = 0x400
_BLOCK_LOGS: Final = range(12, 21)
"""Blocks of 4 KiB to 1 MiB."""
_PADDING: Final = 4096
NO_XATTRS: Final = 0xFFFFFFFF
"""The number of an inode's extended attributes where it has none."""
_PREFIXES: Final = (b"user.", b"trusted.", b"security.")
_ELSEWHERE: Final = 0x100
"""Marks an extended attribute whose value stands with another inode's."""
_LONGEST_VALUE: Final = 65536
"""XATTR_SIZE_MAX"""
_LONGEST_NAME: Final = 255
"""XATTR_NAME_MAX"""
_MOST_XATTRS: Final = 65536 // len(b"user.x\0")
"""Of one file: so many of the shortest names are as long as a list of names may be (XATTR_LIST_MAX)."""
_MOST_XATTRS_READ: Final = 1 << 22
"""Of all files, each set of them read once."""
_CAPABILITIES: Final = (12, 20, 24)
"""How long the three versions of ``security.capability`` are (``linux/capability.h``)."""
_SECURITY: Final = 2
_CAPABILITY: Final = b"capability"
_OBEYED: Final = (b"overlay.", b"fuseoverlayfs.", b"containers.")
"""What makes overlayfs and fuse-overlayfs show another file, hide one, or give it another owner and mode.

Whatever the prefix: asked for one name, squashfuse (0.5.2) gives the first attribute whose name is the same behind it.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Superblock:
    """What a squashfs says of itself; tables by where they start, None for one that is not there."""

    inodes: int
    block_size: int
    fragments: int
    compression: int
    owners: int
    root: int
    used: int
    owner_table: int
    xattr_table: int | None
    inode_table: int
    directory_table: int
    fragment_table: int | None
    export_table: int | None
    data: int

    @classmethod
    def read(cls, image: Image, limits: TreeLimits) -> Self:
        """Return the superblock of `image`, with nothing in it that contradicts itself or the image's size."""
        (
            magic, inodes, _time, block_size, fragments, compression, block_log, flags, owners, major, minor,
            root, used, owner_table, xattr_table, inode_table, directory_table, fragment_table, export_table,
        ) = _SUPERBLOCK.unpack(image.read(0, _SUPERBLOCK.size))  # fmt: skip
        if (magic, major, minor) != (_MAGIC, 4, 0):
            raise NotComparable("its file system is no squashfs 4.0")
        if block_log not in _BLOCK_LOGS or block_size != 1 << block_log or flags & ~_KNOWN_FLAGS:
            raise NotComparable("its file system has an unknown block size or unknown flags")
        if inodes > limits.entries:
            raise NotComparable(f"its file system has more than {limits.entries} entries")
        if inodes < 1 or owners < 1 or fragments > inodes:
            raise NotComparable("its file system has impossible counts")
        padding = image.size - used
        if not 0 <= padding < _PADDING or image.read(used, padding).strip(b"\0"):
            raise NotComparable("its file system is not as long as its partition")
        block = cls(
            inodes=inodes, block_size=block_size, fragments=fragments, compression=compression, owners=owners,
            root=root, used=used, owner_table=owner_table, xattr_table=_place(xattr_table), inode_table=inode_table,
            directory_table=directory_table, fragment_table=_place(fragment_table), export_table=_place(export_table),
            data=_SUPERBLOCK.size + (_options(image, compression) if flags & _HAS_OPTIONS else 0),
        )  # fmt: skip
        order = [
            block.data, inode_table, directory_table, block.fragment_table, block.export_table, owner_table,
            block.xattr_table, used,
        ]  # fmt: skip
        there = [place for place in order if place is not None]
        if there != sorted(there) or (fragments and block.fragment_table is None):
            raise NotComparable("its file system has its tables in an unknown order")
        return block


def _place(table: int) -> int | None:
    return None if table == _ABSENT else table


def _options(image: Image, compression: int) -> int:
    """Return the size of the metadata block with a compressor's options, none of which matter for unpacking.

    But xz: the kernel refuses a dictionary that is larger than these options say; none is larger than a block.
    """
    (word,) = struct.unpack("<H", image.read(_SUPERBLOCK.size, 2))
    size = word & ~_STORED_AS_IT_IS
    if not word & _STORED_AS_IT_IS or size > METADATA or compression not in range(1, 7):
        raise NotComparable("its file system has unknown options of its compressor")
    return 2 + int(size)


class MetadataBlocks:
    """A run of metadata blocks, as if it were one array of bytes; the blocks lie from `start` to `end` exactly."""

    def __init__(self, image: Image, unpack: Decompress, start: int, end: int) -> None:
        self._image = image
        self._unpack = unpack
        self._starts = array("Q")
        self._start = start
        self._end = end
        self._piece, self._piece_at = b"", 0
        self._cached: OrderedDict[int, bytes] = OrderedDict()
        at = start
        while at < end:
            self._starts.append(at - start)
            at += 2 + self._stored(at)[1]
            if len(self._starts) > _MOST_BLOCKS:
                raise NotComparable("a table of its file system is unreasonably large")
        if at != end:
            raise NotComparable("a table of its file system does not end where the next one begins")
        self._numbers: dict[int, int] | None = None
        last = len(self._starts) - 1
        self.length = last * METADATA + len(self._block(last)) if self._starts else 0

    def _stored(self, at: int) -> tuple[bool, int]:
        """Return whether the block at `at` is compressed, and how many bytes it takes after its header."""
        word = int.from_bytes(self._read_stored(at, 2), "little")
        size = word & ~_STORED_AS_IT_IS
        if not 0 < size <= METADATA:
            raise NotComparable("a table of its file system has a block of an impossible size")
        return not word & _STORED_AS_IT_IS, size

    def _read_stored(self, at: int, size: int) -> bytes:
        """Return bytes of the table as they are stored, of which many are read at once."""
        offset = at - self._piece_at
        if not 0 <= offset <= len(self._piece) - size:
            self._piece = self._image.read(at, max(size, min(_PIECE, self._end - at)))
            self._piece_at, offset = at, 0
        return self._piece[offset : offset + size]

    def _block(self, number: int) -> bytes:
        cached = self._cached.get(number)
        if cached is not None:
            self._cached.move_to_end(number)
            return cached
        at = self._start + self._starts[number]
        compressed, size = self._stored(at)
        content = self._read_stored(at + 2, size)
        if compressed:
            content = self._unpack(content, METADATA)
        if len(content) != METADATA and (number < len(self._starts) - 1 or not content):
            raise NotComparable("a table of its file system has a block that is too short")
        self._cached[number] = content
        if len(self._cached) > _CACHED:
            self._cached.popitem(last=False)
        return content

    def read(self, at: int, size: int) -> bytes:
        """Return the `size` bytes at position `at`."""
        if at + size > self.length:
            raise NotComparable("a table of its file system ends in the middle of an entry")
        number, offset = divmod(at, METADATA)
        content = self._block(number)[offset : offset + size] if size else b""
        if len(content) == size:
            return content
        parts = [content]
        left = size - len(content)
        while left > 0:
            number += 1
            parts.append(self._block(number)[:left])
            left -= len(parts[-1])
        return b"".join(parts)

    def some(self, at: int, size: int) -> bytes:
        """Return at most `size` bytes at position `at`: fewer where the table ends."""
        return self.read(at, max(0, min(size, self.length - at)))

    def reference(self, at: int) -> int:
        """Return how an inode at position `at` is referred to."""
        return self._starts[at // METADATA] << 16 | at % METADATA

    def lies_at(self, pointers: "array[int]") -> bool:
        """Return whether `pointers` are where its blocks lie, from the start of the file system."""
        return len(pointers) == len(self._starts) and all(
            self._start + start == pointer for start, pointer in zip(self._starts, pointers, strict=True)
        )

    def position(self, block: int, offset: int) -> int:
        """Return the position at `offset` in the metadata block that lies at `block`, from the table's start."""
        if self._numbers is None:
            self._numbers = {start: number for number, start in enumerate(self._starts)}
        number = self._numbers.get(block)
        if number is None or not 0 <= offset < METADATA:
            raise NotComparable("its file system refers to the middle of a block of a table")
        return number * METADATA + offset


class Tables:
    """All tables of a squashfs; that they are whole, and lie one after the other, is checked here."""

    def __init__(self, image: Image, limits: TreeLimits) -> None:
        block = Superblock.read(image, limits)
        self.superblock = block
        self.unpack = decompressor(block.compression)
        self._image = image
        ends_at = block.used
        self.xattrs: Xattrs | None = None
        if block.xattr_table is not None:
            ends_at, self.xattrs = self._xattrs(block.xattr_table, ends_at)
        ends_at, self.owners = self._owners(block, ends_at)
        self._export: MetadataBlocks | None = None
        if block.export_table is not None:
            ends_at, self._export = self._indexed(block.export_table, block.inodes, 8, ends_at)
        self._fragments: MetadataBlocks | None = None
        if block.fragment_table is not None:
            ends_at, self._fragments = self._indexed(block.fragment_table, block.fragments, 16, ends_at)
        self.inodes = MetadataBlocks(image, self.unpack, block.inode_table, block.directory_table)
        self.directories = MetadataBlocks(image, self.unpack, block.directory_table, ends_at)

    def _indexed(self, index: int, count: int, size: int, ends_at: int) -> tuple[int, MetadataBlocks]:
        """Return where a table begins that has `count` entries of `size` bytes, and the table.

        Its index stands at its end.
        """
        pointers = self._pointers(index, count * size)
        if index + 8 * len(pointers) != ends_at:
            raise NotComparable("a table of its file system does not end where the next one begins")
        start = pointers[0] if pointers else index
        return start, self._table(start, index, pointers, count * size)

    def _pointers(self, index: int, length: int) -> "array[int]":
        pointers = array("Q")
        pointers.frombytes(self._image.read(index, 8 * -(-length // METADATA)))
        if sys.byteorder == "big":
            pointers.byteswap()
        return pointers

    def _table(self, start: int, end: int, pointers: "array[int]", length: int) -> MetadataBlocks:
        table = MetadataBlocks(self._image, self.unpack, start, end)
        if table.length != length or not table.lies_at(pointers):
            raise NotComparable("a table of its file system is not where its index says, or not as long")
        return table

    def _owners(self, block: Superblock, ends_at: int) -> tuple[int, "array[int]"]:
        start, table = self._indexed(block.owner_table, block.owners, 4, ends_at)
        return start, array("I", struct.unpack(f"<{block.owners}I", table.read(0, table.length)))

    def _xattrs(self, index: int, ends_at: int) -> tuple[int, "Xattrs"]:
        values_at, count, unused = _XATTR_TABLE.unpack(self._image.read(index, _XATTR_TABLE.size))
        if unused or not 0 < count <= self.superblock.inodes:
            raise NotComparable("its file system has an unknown table of extended attributes")
        pointers = self._pointers(index + _XATTR_TABLE.size, count * _XATTR_ID.size)
        if index + _XATTR_TABLE.size + 8 * len(pointers) != ends_at:
            raise NotComparable("a table of its file system does not end where the next one begins")
        numbers = self._table(pointers[0], index, pointers, count * _XATTR_ID.size)
        return values_at, Xattrs(count, numbers, MetadataBlocks(self._image, self.unpack, values_at, pointers[0]))

    def fragment(self, number: int) -> tuple[int, int]:
        """Return where the fragment `number` lies, and the word that describes it."""
        if self._fragments is None or number >= self.superblock.fragments:
            raise NotComparable("its file system refers to a fragment that is not there")
        start, word, unused = _FRAGMENT.unpack(self._fragments.read(number * _FRAGMENT.size, _FRAGMENT.size))
        if unused or not stored_size(word, self.superblock.block_size):
            raise NotComparable("its file system has a fragment of an impossible size")
        return start, word

    def check_export(self, references: "array[int]") -> None:
        """Compare the export table with what inodes are referred to by, `references` by their number less one."""
        if self._export is None:
            return
        for at in range(0, len(references), METADATA // 8):
            part = references[at : at + METADATA // 8]
            if self._export.read(8 * at, 8 * len(part)) != struct.pack(f"<{len(part)}Q", *part):
                raise NotComparable("the export table of its file system names other inodes than there are")


class Xattrs:
    """The extended attributes of a squashfs, by the number that inodes have of them."""

    def __init__(self, count: int, numbers: MetadataBlocks, values: MetadataBlocks) -> None:
        self._count = count
        self._numbers = numbers
        self._values = values
        self._known: OrderedDict[int, bytes] = OrderedDict()
        self._read_already = 0

    def capability(self, number: int) -> bytes:
        """Return the file capabilities among the extended attributes `number`; empty where there are none.

        Raises
        ------
        NotComparable
            where they cannot be read for certain, or where one of them makes a file be seen as another: overlayfs and
            fuse-overlayfs, by which Apptainer lays folders over images, obey them.
        """
        if number == NO_XATTRS:
            return b""
        if number in self._known:
            return self._known[number]
        if number >= self._count:
            raise NotComparable("its file system refers to extended attributes that are not there")
        # The third field is a size that only ``stat`` shows, and writers of squashfs do not agree what it counts.
        reference, count, _ = _XATTR_ID.unpack(self._numbers.read(number * _XATTR_ID.size, _XATTR_ID.size))
        capability = self._read(self._values.position(reference >> 16, reference & 0xFFFF), count)
        self._known[number] = capability
        if len(self._known) > _CACHED:
            self._known.popitem(last=False)
        return capability

    def _read(self, at: int, count: int) -> bytes:
        names = set[bytes]()
        capability = b""
        self._read_already += count
        if not 0 < count <= _MOST_XATTRS or self._read_already > _MOST_XATTRS_READ:
            raise NotComparable("its file system has too many extended attributes")
        for _ in range(count):
            kind, length = struct.unpack("<HH", self._values.read(at, 4))
            prefix = kind & ~_ELSEWHERE
            if prefix >= len(_PREFIXES) or not 0 < length <= _LONGEST_NAME:
                raise NotComparable("its file system has an unknown extended attribute")
            name = self._values.read(at + 4, length)
            value, at = self._value(at + 4 + length, elsewhere=bool(kind & _ELSEWHERE))
            whole = _PREFIXES[prefix] + name
            if whole in names or name.startswith(_OBEYED) or (name == _CAPABILITY and prefix != _SECURITY):
                raise NotComparable(f"its file system has an extended attribute that changes what is seen: {whole!r}")
            names.add(whole)
            if name == _CAPABILITY:
                capability = value
                if len(capability) not in _CAPABILITIES:
                    raise NotComparable("its file system has a file with capabilities of an unknown kind")
        return capability

    def _value(self, at: int, *, elsewhere: bool) -> tuple[bytes, int]:
        """Return a value, and where what follows it begins."""
        (size,) = struct.unpack("<I", self._values.read(at, 4))
        after = at + 4 + size
        if elsewhere:
            if size != 8:  # noqa: PLR2004  a reference
                raise NotComparable("its file system has an extended attribute that refers to nothing")
            (reference,) = struct.unpack("<Q", self._values.read(at + 4, 8))
            at = self._values.position(reference >> 16, reference & 0xFFFF)
            (size,) = struct.unpack("<I", self._values.read(at, 4))
        if size > _LONGEST_VALUE:
            raise NotComparable("its file system has an unreasonably large extended attribute")
        return self._values.read(at + 4, size), after
