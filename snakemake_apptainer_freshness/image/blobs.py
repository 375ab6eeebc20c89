"""Blobs: the bytes behind a digest, held to it while they pass by. Pure: streams in, streams out.

A blob is good once its stream came to its end without an error: it then had exactly the bytes that its descriptor
says. Until then nothing that follows from it may be believed. How a layer is compressed is read from its first bytes,
as Apptainer does it (go-containerregistry, ``pkg/v1/partial``), not from its media type.
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

from snakemake_apptainer_freshness.errors import DamagedAnswer
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.manifest import MAX_SIZE
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.settings import TREE

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_MAGIC_SIZE: Final = 4


class DamagedBlob(NotComparable):
    """A blob that is not what its digest says."""


def checked(pieces: Iterable[bytes], digest: Digest, size: int | None, *, limit: int = MAX_SIZE) -> Iterator[bytes]:
    """Yield `pieces`, as long as they are no more than `size` bytes.

    They are good if it comes to its end without an error.

    Where the `size` is not known they are no more than `limit`.

    Raises
    ------
    DamagedBlob
        where they are more, fewer, or do not hash to `digest`.
    """
    hasher, left = hashlib.new(digest.algorithm), limit if size is None else size
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            limits = f"than the {size} bytes that its descriptor says" if size is not None else f"than {limit} bytes"
            raise DamagedBlob(f"{digest.short} is longer {limits}")
        hasher.update(piece)
        yield piece
    if (left and size is not None) or hasher.hexdigest() != digest.hex:
        raise DamagedBlob(f"what is there as {digest.short} is not that")


def behind(pieces: Iterable[bytes], start: int) -> Iterator[bytes]:
    """Yield what stands in `pieces` from byte `start` on; all of them are gone through."""
    for piece in pieces:
        skipped = min(start, len(piece))
        start -= skipped
        if skipped < len(piece):
            yield piece[skipped:]


def hashed(pieces: Iterable[bytes], algorithm: str) -> str:
    """Return what `pieces` hash to, in hex."""
    hasher = hashlib.new(algorithm)
    for piece in pieces:
        hasher.update(piece)
    return hasher.hexdigest()


def unpacked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Return the tar archive in a blob, in pieces of bounded size.

    Raises
    ------
    NotComparable
        where it is compressed with zstd, or damaged.
    """
    source = iter(pieces)
    start = b""
    while len(start) < _MAGIC_SIZE and (piece := next(source, None)) is not None:
        start += piece
    if start.startswith(_ZSTD):
        raise NotComparable("a layer is compressed with zstd, which cannot be unpacked here")
    whole = _chain(start, source)
    return _gunzipped(whole) if start.startswith(_GZIP) else whole


def _chain(start: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield start
    yield from rest


def _gunzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what gzip members one after the other hold; however much a piece unpacks to, it comes in bounded parts."""
    member: Any = None
    try:
        for piece in pieces:
            data = piece
            while data:
                member = member or zlib.decompressobj(zlib.MAX_WBITS | 16)
                part = member.decompress(data, TREE.chunk)
                yield part
                data = member.unused_data if member.eof else member.unconsumed_tail
                while not member.eof and not data and len(part) == TREE.chunk:
                    yield (part := member.decompress(b"", TREE.chunk))
                if member.eof:
                    member = None
    except zlib.error as error:
        raise NotComparable(f"a layer is not sound gzip: {error}") from None
    if member is not None:
        raise NotComparable("a layer's gzip stream breaks off")


class Bounded:
    """Keeps a blob that is no longer than `size`, the bytes that its descriptor says; takes it in pieces."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.content = bytearray()

    @property
    def taken(self) -> int:
        """How many bytes it has."""
        return len(self.content)

    def restart(self) -> None:
        """Begin anew: what comes next is the first piece, perhaps once more."""
        self.content.clear()

    def __call__(self, piece: bytes) -> None:
        """Take the next piece; raises DamagedAnswer where that is too much."""
        self.content += piece
        if len(self.content) > self._size:
            raise DamagedAnswer(f"a blob is longer than the {self._size} bytes that its manifest says")
