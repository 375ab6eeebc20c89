"""How blocks of a squashfs are decompressed: to what they are, or not at all."""

import importlib.util
import lzma
import sys
import zlib

import pytest
import zstandard
from lz4 import block as lz4

from snakemake_apptainer_freshness.apptainer.squashfs_blocks import decompressor
from snakemake_apptainer_freshness.image.tree import NotComparable

CONTENT = b"".join(b"line %d\n" % number for number in range(500))
COMPRESSED = {
    1: zlib.compress(CONTENT),
    4: lzma.compress(CONTENT, check=lzma.CHECK_CRC32),
    5: lz4.compress(CONTENT, store_size=False),
    6: zstandard.compress(CONTENT),
}
BOMBS = {
    1: zlib.compress(bytes(1 << 24)),
    4: lzma.compress(bytes(1 << 24)),
    5: lz4.compress(bytes(1 << 24), store_size=False),
    6: zstandard.compress(bytes(1 << 24)),
}
ALL = pytest.mark.parametrize("number", COMPRESSED, ids=["gzip", "xz", "lz4", "zstd"])
_STREAM = zstandard.ZstdCompressor(write_content_size=False)


@ALL
def test_a_block_is_unpacked(number):
    unpack = decompressor(number)
    assert unpack(COMPRESSED[number], len(CONTENT)) == CONTENT
    assert unpack(COMPRESSED[number], len(CONTENT) + 100) == CONTENT


@ALL
@pytest.mark.parametrize("limit", [1, len(CONTENT) - 1])
def test_no_more_is_unpacked_than_there_may_be(number, limit):
    with pytest.raises(NotComparable, match="a block of its file system is damaged"):
        decompressor(number)(COMPRESSED[number], limit)


@ALL
def test_a_bomb_ends_at_the_limit(number):
    with pytest.raises(NotComparable, match="a block of its file system is damaged"):
        decompressor(number)(BOMBS[number], 8192)


@ALL
@pytest.mark.parametrize(
    "change",
    [
        lambda block: block[:-1],
        lambda block: block + b"\0",
        lambda block: block[:5],
        lambda _: b"",
        lambda _: b"\xff" * 50,
    ],
    ids=["shorter", "longer", "cut", "empty", "none"],
)
def test_what_is_not_one_whole_stream_is_refused(number, change):
    with pytest.raises(NotComparable, match="a block of its file system is damaged"):
        decompressor(number)(change(COMPRESSED[number]), len(CONTENT))


def test_a_zstd_frame_need_not_say_its_size():
    assert decompressor(6)(_STREAM.compress(CONTENT), len(CONTENT)) == CONTENT
    with pytest.raises(NotComparable, match="damaged"):
        decompressor(6)(_STREAM.compress(CONTENT), len(CONTENT) - 1)


@pytest.mark.parametrize(("number", "module"), [(5, "lz4"), (6, "zstandard")], ids=["lz4", "zstd"])
def test_where_no_binding_is_there_what_to_install_is_said(monkeypatch, number, module):
    monkeypatch.setitem(sys.modules, module, None)
    if number == 6 and importlib.util.find_spec("compression"):  # Python 3.14 has its own
        assert decompressor(number)(COMPRESSED[number], len(CONTENT)) == CONTENT
        return
    with pytest.raises(NotComparable, match=r"pip install 'snakemake-apptainer-freshness\[squashfs\]'"):
        decompressor(number)
