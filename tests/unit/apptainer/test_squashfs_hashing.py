"""Files of a squashfs are hashed from their blocks and their ends, whatever thread has which part."""

import hashlib
import random
import tempfile
import zlib

import pytest

from snakemake_apptainer_freshness.apptainer.squashfs_blocks import Image, decompressor
from snakemake_apptainer_freshness.apptainer.squashfs_hashing import FileBlocks, Hashing
from snakemake_apptainer_freshness.image.tree import FileType, Node, NotComparable
from snakemake_apptainer_freshness.settings import TREE

BLOCK = 128 * 1024
STORED = 1 << 24
"""In the word of a block that is not compressed."""
GZIP = 1


class Data:
    """The blocks of an image that is being made."""

    def __init__(self) -> None:
        self.content = bytearray()

    def put(self, content: bytes, *, compressed: bool = True) -> tuple[int, int]:
        """Where a block lies, and the word that describes it."""
        stored = zlib.compress(content, 1) if compressed else content
        if len(stored) > len(content) > BLOCK // 2:  # as mksquashfs does
            return self.put(content, compressed=False)
        self.content += stored
        return len(self.content) - len(stored), len(stored) | (0 if compressed else STORED)

    def file(self, content: bytes, *, tail: bool = False) -> FileBlocks:
        """A file whose blocks follow each other; those of zeros are left out, as mksquashfs does."""
        start, words = len(self.content), []
        for at in range(0, len(content), BLOCK):
            block = content[at : at + BLOCK]
            words.append(self.put(block)[1] if block.strip(b"\0") else 0)
        return FileBlocks(node=node(), start=start, words=words, length=len(content), tail=tail)


def node() -> Node:
    return Node(kind=FileType.FILE)


def hashed(data: Data, files=(), fragments=(), *, limits=TREE) -> None:
    """Has all of it hashed."""
    with tempfile.TemporaryFile() as file:
        file.write(data.content)
        file.flush()
        image = Image.of(file, 0, len(data.content))
        with Hashing(image, decompressor(GZIP), BLOCK, limits) as hashing:
            for one in files:
                hashing.blocks(one)
            hashing.fragments(fragments)
            hashing.finish()


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 5 * 1024 * 1024 + 17])
def test_a_file_is_hashed_from_its_blocks_in_their_order(size):
    data, content = Data(), random.Random(1).randbytes(size)
    file = data.file(content)
    hashed(data, [file])

    assert file.node.sha256 == sha256(content)


def test_blocks_of_zeros_are_hashed_though_they_are_not_there():
    data, content = Data(), b"a" * BLOCK + bytes(2 * BLOCK) + b"b" * BLOCK + bytes(100)
    file = data.file(content)
    hashed(data, [file])

    assert file.words.count(0) == 3
    assert file.node.sha256 == sha256(content)


def test_zeros_alone_are_nowhere():
    file = FileBlocks(node=node(), start=1 << 40, words=[0, 0], length=2 * BLOCK, tail=False)
    hashed(Data(), [file])

    assert file.node.sha256 == sha256(bytes(2 * BLOCK))


def test_each_of_many_files_has_its_own_hash():
    data, chance = Data(), random.Random(2)
    contents = [chance.randbytes(chance.randrange(1, 5000)) for _ in range(1500)]
    contents += [chance.randbytes(6 * 1024 * 1024), chance.randbytes(10)]
    files = [data.file(content) for content in contents]
    hashed(data, files)

    assert [file.node.sha256 for file in files] == [sha256(content) for content in contents]


def test_ends_of_files_are_hashed_out_of_the_fragments_that_they_share():
    data, chance = Data(), random.Random(3)
    ends = [chance.randbytes(size) for size in (1, 2047, 2048, 4094, 4095, 16383, 16384, 16385, 40_000)]
    starts = [sum(map(len, ends[:number])) for number in range(len(ends))]
    nodes = [node() for _ in ends]
    uses = [(at, len(end), node) for node, at, end in zip(nodes, starts, ends, strict=True)]
    fragments = [
        (*data.put(b"".join(ends)), uses),
        (*data.put(b"whole", compressed=False), [(0, 5, node())]),
    ]
    hashed(data, fragments=fragments)

    assert [one.sha256 for one in nodes] == [sha256(end) for end in ends]
    assert fragments[1][2][0][2].sha256 == sha256(b"whole")


@pytest.mark.parametrize("blocks", [1, 50])
def test_the_end_of_a_file_is_hashed_after_its_blocks(blocks):
    data, content, end = Data(), random.Random(4).randbytes(blocks * BLOCK), b"end" * 1000
    file = data.file(content, tail=True)
    fragment = (*data.put(b"before" + end), [(6, len(end), file.node)])
    hashed(data, [file], [fragment])

    assert file.node.sha256 == sha256(content + end)


def test_files_may_be_the_same_bytes_of_a_fragment():
    data, nodes = Data(), [node(), node(), node()]
    uses = [(0, 4, nodes[0]), (0, 4, nodes[1]), (4, 2, nodes[2])]
    hashed(data, fragments=[(*data.put(b"samenx"), uses)])

    assert [one.sha256 for one in nodes] == [sha256(b"same"), sha256(b"same"), sha256(b"nx")]


@pytest.mark.parametrize("length", [BLOCK - 1, 3 * BLOCK - 1])
def test_a_block_that_unpacks_to_less_than_the_file_needs_is_refused(length):
    data = Data()
    file = data.file(bytes([1]) * length)._replace(length=length + 1)
    with pytest.raises(NotComparable, match="shorter than the file that it belongs to"):
        hashed(data, [file])


def test_a_stored_block_that_is_longer_than_the_file_is_refused():
    data = Data()
    start, word = data.put(b"1234", compressed=False)
    with pytest.raises(NotComparable, match="longer than the file that it belongs to"):
        hashed(data, [FileBlocks(node=node(), start=start, words=[word], length=3, tail=False)])


def test_an_end_behind_the_end_of_its_fragment_is_refused():
    data = Data()
    with pytest.raises(NotComparable, match="behind the end of its fragment"):
        hashed(data, fragments=[(*data.put(b"1234"), [(2, 3, node())])])


def test_a_fragment_of_an_impossible_size_is_refused():
    data = Data()
    start, _ = data.put(b"1234")
    with pytest.raises(NotComparable, match="a block of an impossible size"):
        hashed(data, fragments=[(start, BLOCK + 1, [(0, 1, node())])])


def test_it_ends_when_its_time_is_over():
    data = Data()
    file = data.file(b"content")
    with pytest.raises(NotComparable, match="could not be read in -1 s"):
        hashed(data, [file], limits=TREE._replace(timeout=-1))
