"""The blocks of a squashfs: how they are decompressed, and how what is in them is hashed in parallel.

**A block is hostile until it is decompressed.** The most that it may unpack to is known before, so a bomb ends there.
What another program could understand in another way is refused: bytes that follow the end of a compressed stream, a
block that unpacks to less than the file needs.

Files are hashed by a pool of threads, because zlib, lzma, zstandard and hashlib let go of the interpreter. What waits
in it is bounded, so memory does not go with the size of an image. Of a large file the threads decompress pieces, which
are hashed in their order; small files are hashed whole, some hundred at a time. The ends of files that share a
*fragment* (a block with the ends of several files) come last, so that each fragment is decompressed once, however many
files share it.
"""

import hashlib
import lzma
import os
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, Self

from snakemake_apptainer_freshness.common.parallel import AS_LONG_AS_IT_TAKES, Task, Workers, available_cpus
from snakemake_apptainer_freshness.image.tree import Node, NotComparable
from snakemake_apptainer_freshness.settings import TreeLimits

if TYPE_CHECKING:
    from hashlib import _Hash

Decompress = Callable[[bytes, int], bytes]
"""Unpacks a compressed block (first argument) to at most so many bytes (second argument)."""

_XZ_MEMORY: Final = 32 * 1024 * 1024
"""For one block: its dictionary is at most one block long, 1 MiB."""
_ZSTD_WINDOW: Final = 8 * 1024 * 1024
"""The largest window that every decoder must support (RFC 8878, 3.1.1.1.2)."""
_SIZE: Final = (1 << 24) - 1
_UNCOMPRESSED: Final = 1 << 24
_MOST_WORKERS: Final = 8
"""More would wait for the thread that hashes, and for the disk."""
_SMALL: Final = 4 * 1024 * 1024
"""Files up to this size are hashed whole by one thread, so many bytes at a time."""
_MOST_SMALL: Final = 512
_PIECE: Final = 1024 * 1024
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


def _gzip(block: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(block, limit)
        if not stream.eof:  # the checksum at the end may be left where the output is full
            content += stream.decompress(stream.unconsumed_tail, 1)
    except zlib.error as error:
        raise NotComparable(f"{_DAMAGED}: {error}") from None
    return _whole(content, limit, ended=stream.eof and not stream.unused_data)


def _xz(block: bytes, limit: int) -> bytes:
    try:
        stream = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        content = stream.decompress(block, limit)
        if not stream.eof:
            content += stream.decompress(b"", 1)
    except (lzma.LZMAError, EOFError) as error:
        raise NotComparable(f"{_DAMAGED}: {error}") from None
    return _whole(content, limit, ended=stream.eof and not stream.unused_data)


def _zstd() -> Decompress:
    try:
        import zstandard
    except ImportError:
        return _zstd_of_python()

    def unpack(block: bytes, limit: int) -> bytes:
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

    def unpack(block: bytes, limit: int) -> bytes:
        try:
            stream = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 23})
            content = stream.decompress(block, limit)
            if not stream.eof:
                content += stream.decompress(b"", 1)
        except (zstd.ZstdError, EOFError) as error:
            raise NotComparable(f"{_DAMAGED}: {error}") from None
        return _whole(content, limit, ended=stream.eof and not stream.unused_data)

    return unpack


def _lz4() -> Decompress:
    try:
        from lz4 import block as lz4
    except ImportError:
        raise NotComparable(f"its file system is compressed with lz4; to read that, {_INSTALL}") from None

    def unpack(block: bytes, limit: int) -> bytes:
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


class FileBlocks(NamedTuple):
    """The blocks of one file: they follow each other from `start` on, and unpack to `length` bytes.

    `words` say of each block how many bytes it takes, and whether it is compressed; 0 is a block of zeros that takes
    none. `tail` says that the file ends in a fragment.
    """

    node: Node
    start: int
    words: Sequence[int]
    length: int
    tail: bool


class FragmentUse(NamedTuple):
    """The end of one file in a fragment: `size` bytes at `offset` of what the fragment unpacks to."""

    node: Node
    offset: int
    size: int


def stored_size(word: int, block_size: int) -> int:
    """Return the bytes that a block takes, by the word that describes it.

    Raises
    ------
    NotComparable
        where the word says what no mksquashfs writes.
    """
    size = word & _SIZE
    if word & ~(_SIZE | _UNCOMPRESSED) or size > block_size or (size == 0 and word):
        raise NotComparable("its file system has a block of an impossible size")
    return size


class Hashing:
    """A pool of threads that hash the files of a squashfs, as long as the ``with`` block lasts.

    :meth:`blocks` for every file that has some, then :meth:`fragments`; only then does every node have its SHA-256.
    Both raise :class:`NotComparable` for what any thread refused.
    """

    def __init__(self, image: Image, decompress: Decompress, block_size: int, limits: TreeLimits) -> None:
        self._image = image
        self._decompress = decompress
        self._block_size = block_size
        self._workers = min(_MOST_WORKERS, max(2, available_cpus()))
        self._pool = Workers(self._workers, "squashfs", grace=AS_LONG_AS_IT_TAKES)
        self._waiting: deque[tuple[Task[Any], Callable[[Any], None] | None]] = deque()
        self._small: list[FileBlocks] = []
        self._small_bytes = 0
        self._unfinished: dict[int, _Hash] = {}
        self._give_up = time.monotonic() + limits.timeout
        self._timeout = limits.timeout
        self._zeros = bytes(block_size)

    def __enter__(self) -> Self:
        self._pool.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.__exit__(kind, error, traceback)

    def blocks(self, file: FileBlocks) -> None:
        """Have the blocks of `file` hashed."""
        if file.length > _SMALL:
            self._pieces(file)
            return
        self._small.append(file)
        self._small_bytes += file.length
        if self._small_bytes > _SMALL or len(self._small) >= _MOST_SMALL:
            self._flush()

    def fragments(self, fragments: Iterable[tuple[int, int, Sequence[FragmentUse]]]) -> None:
        """Hash the ends of files that are in fragments (start, word, uses), and wait until everything is hashed."""
        self._drain()  # an end is hashed after the blocks of its file
        for start, word, uses in fragments:
            self._submit(self._hash_uses, start, word, uses)
        self._drain()

    def _drain(self) -> None:
        self._flush()
        while self._waiting:
            self._take()

    def _flush(self) -> None:
        if self._small:
            self._submit(self._hash_files, self._small)
            self._small, self._small_bytes = [], 0

    def _submit(self, work: Callable[..., Any], *arguments: object, then: Callable[[Any], None] | None = None) -> None:
        while len(self._waiting) > 2 * self._workers:
            self._take()
        self._waiting.append((self._pool.submit(work, *arguments), then))

    def _take(self) -> None:
        task, then = self._waiting.popleft()
        self._check_time()
        result = task.result()
        if then is not None:
            then(result)

    def _check_time(self) -> None:
        if time.monotonic() > self._give_up:
            raise NotComparable(f"its file system could not be read in {self._timeout:.0f} s")

    def _pieces(self, file: FileBlocks) -> None:
        """Have a large file unpacked in pieces, which are hashed here in their order."""
        hasher = hashlib.sha256()

        def update(blocks: list[bytes]) -> None:
            for block in blocks:
                hasher.update(block)

        start, left = file.start, file.length
        many = max(1, _PIECE // self._block_size)
        for at in range(0, len(file.words), many):
            words = file.words[at : at + many]
            length = min(left, many * self._block_size)
            self._submit(self._unpacked, start, words, length, then=update)
            start += sum(word & _SIZE for word in words)
            left -= length
        self._submit(_nothing, then=lambda _: self._store(file, hasher))

    def _unpacked(self, start: int, words: Sequence[int], length: int) -> list[bytes]:
        return list(self._contents(start, words, length))

    def _contents(self, start: int, words: Sequence[int], length: int) -> Iterator[bytes]:
        for word in words:
            wanted = min(length, self._block_size)
            length -= wanted
            size = stored_size(word, self._block_size)
            content = self._block(start, word, wanted) if word else self._zeros[:wanted]
            if len(content) != wanted:
                raise NotComparable("a block of its file system is shorter than the file that it belongs to")
            start += size
            yield content

    def _block(self, start: int, word: int, limit: int) -> bytes:
        stored = self._image.read(start, word & _SIZE)
        if not word & _UNCOMPRESSED:
            return self._decompress(stored, limit)
        if len(stored) > limit:
            raise NotComparable("a block of its file system is longer than the file that it belongs to")
        return stored

    def _hash_files(self, files: Sequence[FileBlocks]) -> None:
        for file in files:
            hasher = hashlib.sha256()
            for content in self._contents(file.start, file.words, file.length):
                hasher.update(content)
            self._store(file, hasher)
            self._check_time()

    def _store(self, file: FileBlocks, hasher: "_Hash") -> None:
        if file.tail:
            self._unfinished[id(file.node)] = hasher
        else:
            file.node.sha256 = hasher.digest()

    def _hash_uses(self, start: int, word: int, uses: Sequence[FragmentUse]) -> None:
        stored_size(word, self._block_size)
        content = memoryview(self._block(start, word, self._block_size))
        before, digest = (0, 0), b""
        for use in uses:
            if use.offset + use.size > len(content):
                raise NotComparable("a file of its file system ends behind the end of its fragment")
            self._check_time()
            part, hasher = content[use.offset : use.offset + use.size], self._unfinished.pop(id(use.node), None)
            if hasher is not None:
                hasher.update(part)
                use.node.sha256 = hasher.digest()
                continue
            if (use.offset, use.size) != before:  # a million files may be the same bytes
                before, digest = (use.offset, use.size), hashlib.sha256(part).digest()
            use.node.sha256 = digest


def _nothing() -> None:
    """Do nothing: this task is done when all tasks before it are."""
