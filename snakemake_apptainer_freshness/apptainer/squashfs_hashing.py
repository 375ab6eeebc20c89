"""The files of a squashfs, hashed in parallel.

They are hashed by a pool of threads, because zlib, lzma, zstandard and hashlib let go of the interpreter. Of a large
file the threads unpack pieces, which are hashed in their order; small files are hashed whole, a piece at a time. The
ends of files that share a *fragment* (a block with the ends of several files) come last, so that each fragment is
unpacked once, however many files share it. A block that unpacks to less than the file needs is refused.

What is unpacked and waits to be hashed is bounded, so memory does not go with the size of an image.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from snakemake_apptainer_freshness.apptainer.squashfs_blocks import (
    SIZE,
    UNCOMPRESSED,
    Buffer,
    Decompress,
    Image,
    stored_size,
)
from snakemake_apptainer_freshness.common.parallel import AS_LONG_AS_IT_TAKES, Task, Workers, available_cpus
from snakemake_apptainer_freshness.image.tree import Node, NotComparable
from snakemake_apptainer_freshness.settings import TreeLimits

if TYPE_CHECKING:
    from hashlib import _Hash

_MOST_WORKERS: Final = 8
"""More would wait for the thread that hashes, and for the disk."""
_PIECE: Final = 1024 * 1024
"""So much one thread unpacks at a time."""
_SMALL: Final = 4 * 1024 * 1024
"""Files up to this size are hashed whole by one thread."""
_MOST_SMALL: Final = 512
_ROOM: Final = 4 * 1024 * 1024
"""More than any block is."""


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


FragmentUse = tuple[int, int, Node]
"""The end of one file in a fragment: where it begins in what the fragment unpacks to, its size in bytes, and the file.

Not a named tuple: there may be a million, and it takes five times as long to make.
"""
Fragment = tuple[int, int, Sequence[FragmentUse]]
"""Where a fragment lies, the word that describes it, and the ends of files that are in it."""


class Hashing:
    """A pool of threads that hash the files of a squashfs, as long as the ``with`` block lasts.

    :meth:`blocks` for every file that has some, then :meth:`fragments`, then :meth:`finish`: only then does every node
    have its SHA-256. All three raise :class:`NotComparable` for what any thread refused.
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
        self._zeros = memoryview(bytes(block_size))
        self._blocks_in_piece = max(1, _PIECE // block_size)

    def __enter__(self) -> Self:
        self._pool.__enter__()
        _keep_freed_memory()
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
        if self._small_bytes > _PIECE or len(self._small) >= _MOST_SMALL:
            self._flush()

    def fragments(self, fragments: Iterable[Fragment]) -> None:
        """Have the ends of files hashed that are in `fragments`; the caller can do something else meanwhile."""
        self.finish()  # an end is hashed after the blocks of its file
        source = iter(fragments)
        while piece := list(islice(source, self._blocks_in_piece)):
            self._waiting.append((self._pool.submit(self._hash_fragments, piece), None))

    def finish(self) -> None:
        """Wait until all is hashed."""
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

        def update(blocks: list[Buffer]) -> None:
            for block in blocks:
                hasher.update(block)

        start, left = file.start, file.length
        for at in range(0, len(file.words), self._blocks_in_piece):
            words = file.words[at : at + self._blocks_in_piece]
            length = min(left, self._blocks_in_piece * self._block_size)
            self._submit(self._unpacked, start, words, length, then=update)
            start += sum(word & SIZE for word in words)
            left -= length
        self._submit(_nothing, then=lambda _: self._store(file, hasher))

    def _unpacked(self, start: int, words: Sequence[int], length: int) -> list[Buffer]:
        return list(self._contents(start, words, length))

    def _contents(self, start: int, words: Sequence[int], length: int) -> Iterator[Buffer]:
        sizes = [stored_size(word, self._block_size) for word in words]
        taken, at = sum(sizes), 0
        stored = memoryview(self._image.read(start, taken) if taken else b"")  # zeros alone are nowhere
        for word, size in zip(words, sizes, strict=True):
            wanted = min(length, self._block_size)
            length -= wanted
            content = self._block(stored[at : at + size], word, wanted) if word else self._zeros[:wanted]
            if len(content) != wanted:
                raise NotComparable("a block of its file system is shorter than the file that it belongs to")
            at += size
            yield content

    def _block(self, stored: Buffer, word: int, limit: int) -> Buffer:
        if not word & UNCOMPRESSED:
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

    def _hash_fragments(self, fragments: Sequence[Fragment]) -> None:
        for start, word, uses in fragments:
            stored = self._image.read(start, stored_size(word, self._block_size))
            self._hash_uses(memoryview(self._block(stored, word, self._block_size)), uses)

    def _hash_uses(self, content: memoryview, uses: Sequence[FragmentUse]) -> None:
        before, digest = (0, 0), b""
        for offset, size, node in uses:
            if offset + size > len(content):
                raise NotComparable("a file of its file system ends behind the end of its fragment")
            hasher = self._unfinished.pop(id(node), None)
            if hasher is not None:
                hasher.update(content[offset : offset + size])
                node.sha256 = hasher.digest()
                continue
            if (offset, size) != before:  # a million files may be the same bytes
                before, digest = (offset, size), hashlib.sha256(content[offset : offset + size]).digest()
            node.sha256 = digest


def _keep_freed_memory() -> None:
    """Have the memory of a block used for the next one.

    glibc gives the memory of a large value back to the system at once, and the system clears it each time it is asked
    for some: a tenth of all time that unpacking takes. Once something larger was freed it keeps what is smaller
    (``M_MMAP_THRESHOLD`` of ``mallopt``). This asks for memory and never touches it.
    """
    bytes(_ROOM)


def _nothing() -> None:
    """Do nothing: this task is done when all tasks before it are."""
