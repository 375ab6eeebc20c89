"""Writing a bundle: into a pipe, into a file that appears under its name when it is whole, or unpacked into a folder.

What was written of a file stays where the writing was stopped, under a name that says so (``….partial``). The same
command goes on with it, in the middle of a blob: it reads what is there, hashes it, and writes what is missing. A part
of a blob that does not come to its digest with the rest is written anew. In a folder each file has its name once it is
whole; a blob that another folder has already is linked, once it was hashed.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from snakemake_apptainer_freshness.actions.bundle import Advance, BundleContent
from snakemake_apptainer_freshness.common.files import (
    NotAFile,
    appearing,
    opened,
    sha256_of,
    status_of,
    sync_folder,
    write_atomically,
)
from snakemake_apptainer_freshness.common.locks import exclusive
from snakemake_apptainer_freshness.errors import LocalIOError, UnprovenImage
from snakemake_apptainer_freshness.image.blobs import DamagedBlob
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import bundle_tar
from snakemake_apptainer_freshness.store.bundle_layout import CONTENTS, FOLDERS, Member


def partial_of(target: Path) -> Path:
    """Return where the unfinished bundle `target` lies."""
    return target.with_name(f"{target.name}.partial")


def save(bundle: BundleContent, target: Path, advance: Advance) -> None:
    """Write the bundle to the file `target`, going on with what is there of it.

    Raises
    ------
    UnprovenImage
        where an image changes while it is read.
    RegistryError
        where a layer cannot be had.
    LocalIOError
        where something cannot be read or written.
    """
    partial = partial_of(target)
    with _writing(str(target)), exclusive(partial):
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with open(descriptor, "r+b") as file:  # noqa: PTH123  a descriptor, not a path
            done = bundle_tar.whole_files(file, bundle.contents)
            if done is None:
                file.seek(0)
                file.truncate()
                file.write(bundle_tar.start_of(bundle.contents))
            advance(sum(member.size for member in bundle.contents.files[: done or 0]))
            missing = bundle.contents.files[done or 0 :]
            if missing and _continued(bundle, file, missing[0], advance):
                missing = missing[1:]
            file.truncate(file.tell())
            _write(bundle, file, missing, advance)
            os.fsync(descriptor)
        partial.replace(target)
        sync_folder(target.parent)


def stream(bundle: BundleContent, out: BinaryIO, advance: Advance) -> None:
    """Write the bundle to `out`; what was written is one only once this returns. Raises as :func:`save` does."""
    with _writing("standard output"):
        out.write(bundle_tar.start_of(bundle.contents))
        _write(bundle, out, bundle.contents.files, advance)


def unpacked(bundle: BundleContent, folder: Path, advance: Advance, *, earlier: Sequence[Path] = ()) -> None:
    """Write the bundle into `folder` as ``tar`` would unpack it (:mod:`.store.bundle_folder`); last its contents.

    What is there already and sound stays, what `earlier` folders have is linked from there. Raises as :func:`save`
    does.
    """
    with _writing(str(folder)):
        for name in FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True)
        for member in bundle.contents.files:
            target = folder / member.name
            if _has(target, member) or any(_linked(other / member.name, target, member) for other in earlier):
                advance(member.size)
                continue
            with appearing(target) as out:
                for piece in bundle.pieces[member.name](0):
                    out.write(piece)
                    advance(len(piece))
        write_atomically(folder / CONTENTS, bundle.contents.dumps())


def there_already(bundle: BundleContent, folders: Sequence[Path]) -> int:
    """Return how many bytes of the bundle one of the `folders` seems to have: by name and size, nothing is hashed."""
    files = bundle.contents.files
    return sum(member.size for member in files if any(_seen(folder / member.name, member) for folder in folders))


def _seen(path: Path, member: Member) -> bool:
    with contextlib.suppress(OSError, NotAFile):
        return status_of(path).st_size == member.size
    return False


def _has(path: Path, member: Member) -> bool:
    """Return whether `path` is the file `member`: every byte is hashed."""
    if not _seen(path, member):
        return False
    with contextlib.suppress(OSError, NotAFile), opened(path) as file:
        return member.digest.algorithm == "sha256" and sha256_of(file) == member.digest.hex
    return False


def _linked(source: Path, target: Path, member: Member) -> bool:
    """Link `target` to `source`, if that is the file `member` and both lie on one file system."""
    if not _has(source, member):
        return False
    with contextlib.suppress(OSError):
        target.unlink(missing_ok=True)
        os.link(source, target, follow_symlinks=False)
        return _has(target, member)
    return False


def _continued(bundle: BundleContent, file: BinaryIO, member: Member, advance: Advance) -> bool:
    """Complete `member`, a part of which stands where `file` is; False where that does not come to what it has to be.

    Then, and where there is nothing of it, `file` stands where it was. What is there is not believed: all of it is
    hashed, and the rest with it.
    """
    start, done = file.tell(), bundle_tar.begun(file, member)
    if not done:
        return False
    file.seek(len(bundle_tar.header(member.name, member.size)), os.SEEK_CUR)
    hasher = hashlib.new(member.digest.algorithm)
    left = done
    while left and (piece := file.read(min(left, DISK.chunk))):
        hasher.update(piece)
        left -= len(piece)
    advance(done)
    if done < member.size:
        for piece in bundle.pieces[member.name](done):
            file.write(piece)
            hasher.update(piece)
            advance(len(piece))
            done += len(piece)
            if done > member.size:
                break
    if _is_whole(member, done, hasher.hexdigest()):
        file.write(bundle_tar.padding(member.size))
        return True
    advance(-done)
    file.seek(start)
    return False


def _is_whole(member: Member, size: int, hashed: str) -> bool:
    return size == member.size and hashed == member.digest.hex


def _write(bundle: BundleContent, out: BinaryIO, files: tuple[Member, ...], advance: Advance) -> None:
    for member in files:
        out.write(bundle_tar.header(member.name, member.size))
        for piece in bundle.pieces[member.name](0):
            out.write(piece)
            advance(len(piece))
        out.write(bundle_tar.padding(member.size))
    out.write(bundle_tar.END)
    out.flush()


@contextlib.contextmanager
def _writing(target: str) -> Iterator[None]:
    try:
        yield
    except DamagedBlob as error:
        raise UnprovenImage(
            f"cannot save a bundle: {error}", hint="do not use what the registry serves: it is not what the lock names"
        ) from None
    except OSError as error:
        raise LocalIOError(
            f"cannot write the bundle {target}: {error.strerror or error}",
            hint="check that you may write there, and that there is room for it",
        ) from error
