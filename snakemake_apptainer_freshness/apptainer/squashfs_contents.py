"""The contents of the files of a squashfs: whose bytes are whose, and that every byte belongs to one thing.

The data of two files are the same blocks or have none in common, and so are their ends in a fragment (mksquashfs stores
equal files once). What they say of themselves is compared before their fragments are read.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from operator import itemgetter
from typing import Final

from snakemake_apptainer_freshness.apptainer.squashfs_blocks import stored_size
from snakemake_apptainer_freshness.apptainer.squashfs_hashing import FileBlocks, Fragment, FragmentUse, Hashing
from snakemake_apptainer_freshness.apptainer.squashfs_inodes import Inode
from snakemake_apptainer_freshness.apptainer.squashfs_tables import Tables
from snakemake_apptainer_freshness.image.tree import NotComparable

_EMPTY: Final = hashlib.sha256().digest()
_PLACE: Final = itemgetter(0, 1)
"""Of a :class:`FragmentUse` where it is."""


class FileContents:
    """Where the contents of all files are: whose bytes are whose."""

    def __init__(self, tables: Tables, hashing: Hashing) -> None:
        self._tables = tables
        self._hashing = hashing
        self._block_size = tables.superblock.block_size
        self._runs: list[tuple[int, int]] = []
        self._uses: defaultdict[int, list[FragmentUse]] = defaultdict(list)

    def add(self, inode: Inode) -> None:
        """Have the blocks of a file hashed, and remember where they are."""
        content, node = inode.content, inode.node
        if content is None:
            return
        if content.fragment is not None:
            self._uses[content.fragment].append((content.offset, content.tail, node))
        words = content.words
        if not words:
            if content.fragment is None:
                node.sha256 = _EMPTY
            return
        if taken := sum(stored_size(word, self._block_size) for word in words if word):
            self._runs.append((content.start, taken))
        self._hashing.blocks(FileBlocks(node, content.start, words, content.length, tail=content.fragment is not None))

    def check(self) -> None:
        """Refuse data that overlaps, or lies where no data belongs."""
        fragments = (self._tables.fragment(number) for number in range(self._tables.superblock.fragments))
        runs = sorted(
            [(start, size, 0) for start, size in self._runs]
            + [(start, stored_size(word, self._block_size), 1) for start, word in fragments]
        )
        self._runs = []
        before, end = (0, 0, 1), self._tables.superblock.data
        for run in runs:
            if run[0] < end and (run != before or run[2]):
                raise NotComparable("two files of its file system overlap")
            before, end = run, run[0] + run[1]
        if end > self._tables.superblock.inode_table:
            raise NotComparable("a file of its file system overlaps a table")

    def fragments(self) -> Iterator[Fragment]:
        """Yield every fragment that is used (start, word), with the ends of files that are in it, in their order."""
        for number, uses in self._uses.items():
            start, word = self._tables.fragment(number)
            uses.sort(key=_PLACE)
            end, before = 0, None
            for *place, _ in uses:
                if place[0] < end and place != before:
                    raise NotComparable("two files of its file system overlap in a fragment")
                before, end = place, place[0] + place[1]
            yield start, word, uses
