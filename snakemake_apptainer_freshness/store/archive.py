"""The archive of a bundle: an OCI image layout in a plain tar file, of which nothing is believed but by its hash.

It starts with its table of contents, ``bundle.json``: name, size and digest of every file that follows, in order. Then
come the two folders of a layout, which Apptainer wants to be told of, ``oci-layout``, the lock, ``index.json`` and the
blobs. Layers and SIFs are compressed, so the archive is not.

What is written any ``tar`` can unpack, and what reads OCI archives can read. Reading here is strict, since an archive
may come from anywhere: nothing is taken but what the table of contents announces, in that order, as regular files, each
with its size, and then the end. So a link, a device, a folder, a path, a duplicate, a file too many or too few, a size
that is not the announced one, and bytes after the end are all refused by one rule, before anything else is done. The
names are those of an image layout; no name out of an archive is ever used as a path.

A blob is read where it is needed, and hashed while it is read. What a digest of the lock leads to is proven that way,
and its maker is not trusted. The table of contents and ``index.json`` say where things are, and nothing else.
"""

import hashlib
import tarfile
from collections.abc import Generator, Iterator
from typing import BinaryIO, Final

from snakemake_apptainer_freshness.errors import NotFound
from snakemake_apptainer_freshness.image import layout
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.settings import DISK, LIMITS
from snakemake_apptainer_freshness.store.bundle import CONTENTS, FOLDERS, LOCK, Contents, Member, refused

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


class Archive:
    """An archive in a seekable file: its table of contents, its small files, and its blobs as an image's source.

    It can stand where a registry would (:class:`~.actions.image_content.BlobSource`).
    """

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
        self.contents = read_contents(file)
        self._places: dict[str, tuple[int, Member]] = {}
        for member in self.contents.files:
            self._file.seek(self._next())
            _announced(self._file, member)
            self._places[member.name] = (self._file.tell(), member)
        self._file.seek(self._next())
        _end(self._file)
        self.lock, self.index, _ = (self._small(name) for name in (LOCK, layout.INDEX, layout.LAYOUT))
        """The lock that came with it, and what it says by name; both are claims."""

    def _next(self) -> int:
        """Return where the next header stands, after checking that nothing is hidden in between."""
        if not self._places:
            return self._file.tell()
        offset, member = next(reversed(self._places.values()))
        self._file.seek(offset + member.size)
        _pad(self._file, member.size)
        return self._file.tell()

    def size_of(self, digest: Digest) -> int | None:
        """Return how long the blob `digest` is said to be; None where it is not in here."""
        found = self._places.get(layout.blob_name(digest))
        return None if found is None else found[1].size

    def manifest(self, reference: Reference, digest: Digest) -> bytes:
        """Return what lies under the name of the manifest or index `digest`, unchecked.

        Raises
        ------
        NotFound
            where it is not in here, or too large to be one.
        """
        size = self.size_of(digest)
        if size is None or size > LIMITS.manifest_size:
            raise NotFound(f"the bundle lacks {digest}, which {reference.text} needs")
        return b"".join(self.blob(reference, digest))

    def blob(self, reference: Reference, digest: Digest) -> Generator[bytes, None, None]:
        """Give what lies under the name of the blob `digest`, a piece at a time, unchecked.

        Raises
        ------
        NotFound
            where it is not in here.
        """
        found = self._places.get(layout.blob_name(digest))
        if found is None:
            raise NotFound(f"the bundle lacks {digest}, which {reference.text} needs")
        yield from self._pieces(*found)

    def _pieces(self, offset: int, member: Member) -> Generator[bytes, None, None]:
        left = member.size
        while left:
            self._file.seek(offset + member.size - left)
            piece = self._file.read(min(left, DISK.chunk))
            if not piece:
                raise refused("it was cut short while it was read")
            left -= len(piece)
            yield piece

    def _small(self, name: str) -> bytes:
        offset, member = self._places[name]
        content = b"".join(self._pieces(offset, member))
        if not member.digest.matches(content):
            raise refused(f"{name} is not what its table of contents says")
        return content


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
