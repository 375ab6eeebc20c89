"""The blocks of a squashfs, read from its file, and how they are decompressed.

**A block is hostile until it is decompressed.** The most that it may unpack to is known before, so a bomb ends there.
What another program could understand in another way is refused: bytes that follow the end of a compressed stream, a
word that describes a block as no mksquashfs does.
"""

import lzma
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Self

from snakemake_apptainer_freshness.image.tree import NotComparable

Buffer = bytes | memoryview
Decompress = Callable[[Buffer, int], bytes]
"""Unpacks a compressed block (first argument) to at most so many bytes (second argument)."""

_XZ_MEMORY: Final = 32 * 1024 * 1024
"""For one block: its dictionary is at most one block long, 1 MiB."""
_ZSTD_WINDOW: Final = 8 * 1024 * 1024
"""The largest window that every decoder must support (RFC 8878, 3.1.1.1.2)."""
SIZE: Final = (1 << 24) - 1
UNCOMPRESSED: Final = 1 << 24
_DAMAGED: Final = "a block of its file system is damaged"
_INSTALL: Final = "pip install 'snakemake-apptainer-freshness[squashfs]'"


def decompressor(number: int) -> Decompress:
    """Return the function that unpacks blocks of the compression `number` of a superblock.

    Raises
    ------
    NotComparable
        where this Python cannot unpack it; the text names what to install.
    """
    match number:
        case 1:
            return _gzip
        case 4:
            return _xz
        case 5:
            return _lz4()
        case 6:
            return _zstd()
        case 2 | 3:
            name = {2: "lzma", 3: "lzo"}[number]
            raise NotComparable(f"its file system is compressed with {name}, for which there is no reader here")
    raise NotComparable(f"its file system has an unknown compression, {number}")


def _gzip(block: Buffer, limit: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(block, limit + 1)  # one more, so that it gets to the checksum at the end
    except zlib.error as error:
        raise NotComparable(f"{_DAMAGED}: {error}") from None
    return _whole(content, limit, ended=stream.eof and not stream.unused_data)


def _xz(block: Buffer, limit: int) -> bytes:
    try:
        stream = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        content = stream.decompress(block, limit + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise NotComparable(f"{_DAMAGED}: {error}") from None
    return _whole(content, limit, ended=stream.eof and not stream.unused_data)


def _zstd() -> Decompress:
    try:
        import zstandard
    except ImportError:
        return _zstd_of_python()

    def unpack(block: Buffer, limit: int) -> bytes:
        try:
            size = zstandard.frame_content_size(block)
            if size > limit:  # the library would make room for as much as the frame claims
                raise NotComparable(f"{_DAMAGED}: it unpacks to more than {limit} bytes")
            stream = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
            return stream.decompress(block, max_output_size=limit, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise NotComparable(f"{_DAMAGED}: {error}") from None

    return unpack


def _zstd_of_python() -> Decompress:
    """Return what Python itself has from 3.14 on."""
    import importlib

    try:
        zstd: Any = importlib.import_module("compression.zstd")
    except ImportError:
        raise NotComparable(f"its file system is compressed with zstd; to read that, {_INSTALL}") from None

    def unpack(block: Buffer, limit: int) -> bytes:
        try:
            stream = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 23})
            content = stream.decompress(block, limit + 1)
        except (zstd.ZstdError, EOFError) as error:
            raise NotComparable(f"{_DAMAGED}: {error}") from None
        return _whole(content, limit, ended=stream.eof and not stream.unused_data)

    return unpack


def _lz4() -> Decompress:
    try:
        from lz4 import block as lz4
    except ImportError:
        raise NotComparable(f"its file system is compressed with lz4; to read that, {_INSTALL}") from None

    def unpack(block: Buffer, limit: int) -> bytes:
        try:
            return bytes(lz4.decompress(block, uncompressed_size=limit))
        except (lz4.LZ4BlockError, ValueError) as error:
            raise NotComparable(f"{_DAMAGED}: {error}") from None

    return unpack


def _whole(content: bytes, limit: int, *, ended: bool) -> bytes:
    if len(content) > limit:
        raise NotComparable(f"{_DAMAGED}: it unpacks to more than {limit} bytes")
    if not ended:
        raise NotComparable(f"{_DAMAGED}: it is not one whole compressed stream")
    return content


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A squashfs in an open file: bytes `offset` to `offset + size`. Threads may read it at once."""

    descriptor: int
    offset: int
    size: int

    @classmethod
    def of(cls, file: BinaryIO, offset: int, size: int) -> Self:
        """Return the squashfs of `size` bytes at `offset` of `file`."""
        return cls(descriptor=file.fileno(), offset=offset, size=size)

    def read(self, start: int, size: int) -> bytes:
        """Return the `size` bytes at `start` of the squashfs.

        Raises
        ------
        NotComparable
            where it does not have them.
        OSError
            where the file cannot be read.
        """
        if start < 0 or size < 0 or start + size > self.size:
            raise NotComparable("its file system refers to something behind its end")
        content = os.pread(self.descriptor, size, self.offset + start)
        while len(content) < size:  # a signal, or a file system that gives less at a time
            more = os.pread(self.descriptor, size - len(content), self.offset + start + len(content))
            if not more:
                raise NotComparable("its file system breaks off")
            content += more
        return content


def stored_size(word: int, block_size: int) -> int:
    """Return the bytes that a block takes, by the word that describes it.

    Raises
    ------
    NotComparable
        where the word says what no mksquashfs writes.
    """
    size = word & SIZE
    if word & ~(SIZE | UNCOMPRESSED) or size > block_size or (size == 0 and word):
        raise NotComparable("its file system has a block of an impossible size")
    return size
