"""The archive of a bundle: an OCI image layout in a plain tar file; nothing in it is believed unless its hash fits.

It starts with its table of contents, ``bundle.json``: name, size and digest of every file that follows, in order. Then
come the two folders of a layout, which Apptainer wants to be told of, ``oci-layout``, the lock, ``index.json`` and the
blobs. Layers and SIFs are compressed, so the archive is not.

What is written any ``tar`` can unpack, and what reads OCI archives can read. Reading here is strict, since an archive
may come from anywhere: nothing is taken but what the table of contents announces, in that order, as regular files, each
with its size, and then the end. So a link, a device, a folder, a path, a duplicate, a file too many or too few, a size
that is not the announced one, and bytes after the end are all refused by one rule, before anything else is done. A blob
is read where it is needed (:mod:`.bundle_layout`).
"""

import hashlib
import os
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, Final

from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store.bundle_layout import CONTENTS, FOLDERS, Bundle, Contents, Member, refused

_BLOCK: Final = tarfile.BLOCKSIZE


def header(name: str, size: int) -> bytes:
    """Return what stands before a file of `size` bytes: the same each time; beyond 8 GiB as GNU tar has it."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf(tarfile.GNU_FORMAT)


def _folder_header(name: str) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    return entry.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """Return what stands after a file of `size` bytes."""
    return bytes(-size % _BLOCK)


END: Final = bytes(2 * _BLOCK)
"""What stands at the end."""


class Archive(Bundle):
    """An archive in a seekable file."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the table of contents of `file` and see that all that it announces is there, and nothing else.

        Raises
        ------
        InvalidBundle
            where it is damaged, hostile, or of another version.
        OSError
            where it cannot be read.
        """
        self._file = file
        file.seek(0)
        contents = read_contents(file)
        self._offsets: dict[str, int] = {}
        for member in contents.files:
            _announced(file, member)
            self._offsets[member.name] = file.tell()
            file.seek(member.size, os.SEEK_CUR)
            _pad(file, member.size)
        _end(file)
        super().__init__(contents)

    def _pieces(self, member: Member) -> Iterator[bytes]:
        offset, left = self._offsets[member.name], member.size
        while left:
            self._file.seek(offset + member.size - left)
            piece = self._file.read(min(left, DISK.chunk))
            if not piece:
                raise refused("it was cut short while it was read")
            left -= len(piece)
            yield piece


def read_contents(file: BinaryIO) -> Contents:
    """Return the table of contents of `file`, which is then read up to the first file that it announces.

    Raises
    ------
    InvalidBundle
        where there is none that can be used.
    """
    size = _next_entry(file, CONTENTS)
    if size > DISK.contents_size:
        raise refused(f"its table of contents is larger than {DISK.contents_size} bytes")
    content = _exactly(file, size)
    _pad(file, size)
    contents = Contents.loads(content)
    for name in FOLDERS:
        _next_entry(file, name, tarfile.DIRTYPE)
    return contents


def spool(file: BinaryIO, out: BinaryIO, contents: Contents) -> Iterator[int]:
    """Copy an archive of which `contents` was read from a pipe to `out`, and give how many bytes each step took.

    No more is read than the table of contents announces, and an end.

    Raises
    ------
    InvalidBundle
        where it breaks off before.
    """
    out.write(start_of(contents))
    for member in contents.files:
        out.write(header(member.name, member.size))
        _announced(file, member)
        left = member.size + len(padding(member.size))
        while left:
            piece = file.read(min(left, DISK.chunk))
            if not piece:
                raise refused("it is cut short")
            out.write(piece)
            left -= len(piece)
            yield len(piece)
    _end(file)
    out.write(END)
    out.flush()


def start_of(contents: Contents) -> bytes:
    """Return the bytes with which the archive of `contents` starts: its table of contents, and the folders."""
    table = contents.dumps()
    folders = b"".join(_folder_header(name) for name in FOLDERS)
    return header(CONTENTS, len(table)) + table + padding(len(table)) + folders


def whole_files(file: BinaryIO, contents: Contents) -> int | None:
    """Return how many of the files of `contents` an unfinished archive has, whole and sound; `file` stands behind them.

    None where it is another archive, or nothing yet. Every byte that counts is read and hashed.
    """
    start = start_of(contents)
    file.seek(0)
    if file.read(len(start)) != start:
        return None
    for number, member in enumerate(contents.files):
        place = file.tell()
        if not _is_whole(file, member):
            file.seek(place)
            return number
    return len(contents.files)


def begun(file: BinaryIO, member: Member) -> int:
    """Return how many bytes of `member` an unfinished archive has behind its last whole file; 0 where it is another.

    `file` stands there, and is left there. Nothing is said of what these bytes are.
    """
    place, start = file.tell(), header(member.name, member.size)
    is_this = file.read(len(start)) == start
    there = file.seek(0, os.SEEK_END) - place - len(start)
    file.seek(place)
    return there if is_this and there <= member.size else 0


def _is_whole(file: BinaryIO, member: Member) -> bool:
    start = header(member.name, member.size)
    if file.read(len(start)) != start:
        return False
    digest, left = hashlib.new(member.digest.algorithm), member.size
    while left and (piece := file.read(min(left, DISK.chunk))):
        digest.update(piece)
        left -= len(piece)
    whole = not left and digest.hexdigest() == member.digest.hex
    return whole and file.read(len(padding(member.size))) == padding(member.size)


def _announced(file: BinaryIO, member: Member) -> None:
    if _next_entry(file, member.name) != member.size:
        raise refused(f"{member.name} has not the announced size")


def _next_entry(file: BinaryIO, name: str, kind: bytes = tarfile.REGTYPE) -> int:
    """Return the size of what comes next, which must be called `name` and be of this `kind`."""
    block = _exactly(file, _BLOCK)
    if not any(block):
        raise refused(f"it ends before {name}")
    try:
        entry = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    except (tarfile.HeaderError, ValueError, OverflowError):
        raise refused("it is no tar archive, or damaged") from None
    if entry.type != kind or entry.name != name or entry.linkname or entry.size < 0:
        raise refused(f"{name} should come, and there is {entry.name[:80]!r}, of type {entry.type!r}")
    return entry.size


def _pad(file: BinaryIO, size: int) -> None:
    if _exactly(file, len(padding(size))) != padding(size):
        raise refused("it is damaged between two files")


def _end(file: BinaryIO) -> None:
    """See that nothing follows but the end."""
    if any(_exactly(file, len(END))):
        raise refused("it holds more than it announces")
    rest = 0
    while piece := file.read(DISK.chunk):
        rest += len(piece)
        if rest > DISK.bundle_end or any(piece):
            raise refused("something follows its end")


def _exactly(file: BinaryIO, size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        piece = file.read(min(size - len(content), DISK.chunk))
        if not piece:
            raise refused("it is cut short")
        content += piece
    return bytes(content)
