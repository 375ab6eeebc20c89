"""The file system inside a SIF as a tree, read from the very file that is judged; nothing is mounted or extracted.

squashfs 4.0 as the kernel documents it (``filesystems/squashfs``) and mksquashfs writes it. The tree has what a mount
by the kernel or by squashfuse shows: whatever the two, or a third reader, could see in two ways is refused.

* **Every inode is there once**: its number is its own, a folder's entry names number, place and type of the same inode,
  every inode is in a folder, as often as it says, and every folder in exactly one, which is its parent.
* **Every name is found as it is listed**: names are sorted, and the index of a large folder leads to where they stand.
* **Every byte belongs to one thing**: listings fill their table, and the data of two files are the same blocks or
  have none in common (mksquashfs stores equal files once).
* What is not understood proves nothing, and never does a count in the image make room for more than a limit allows.
"""

from typing import BinaryIO

from snakemake_apptainer_freshness.apptainer.squashfs_blocks import Image
from snakemake_apptainer_freshness.apptainer.squashfs_contents import FileContents
from snakemake_apptainer_freshness.apptainer.squashfs_folders import Folders
from snakemake_apptainer_freshness.apptainer.squashfs_hashing import Hashing
from snakemake_apptainer_freshness.apptainer.squashfs_inodes import InodeTable
from snakemake_apptainer_freshness.apptainer.squashfs_tables import Tables
from snakemake_apptainer_freshness.common.collector import collector_paused
from snakemake_apptainer_freshness.image.tree import Node
from snakemake_apptainer_freshness.settings import TREE, TreeLimits


def read(file: BinaryIO, offset: int, size: int, *, limits: TreeLimits = TREE) -> Node:
    """Return the tree of the squashfs that takes `size` bytes at `offset` in `file`, with the SHA-256 of every file.

    Raises
    ------
    NotComparable
        where it cannot be read for certain, exceeds a limit, or is compressed as nothing here can unpack; the text
        then says what to install.
    OSError
        where the file cannot be read.
    """
    image = Image.of(file, offset, size)
    tables = Tables(image, limits)
    with collector_paused(), Hashing(image, tables.unpack, tables.superblock.block_size, limits) as hashing:
        contents = FileContents(tables, hashing)
        folders = Folders(tables, limits)
        for inode in InodeTable(tables, limits):
            folders.add(inode)
            contents.add(inode)
        contents.check()
        hashing.fragments(contents.fragments())
        root = folders.linked()
        hashing.finish()
    return root


def names(file: BinaryIO, offset: int, size: int, *, limits: TreeLimits = TREE) -> Node:
    """As :func:`read`, without the SHA-256 of the files: which paths there are, not what is in them."""
    tables = Tables(Image.of(file, offset, size), limits)
    folders = Folders(tables, limits)
    with collector_paused():
        for inode in InodeTable(tables, limits):
            folders.add(inode)
        return folders.linked()
