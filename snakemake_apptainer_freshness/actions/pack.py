"""Writing a bundle: into a pipe, or into a file that appears under its name when it is whole.

What was written of a file stays where the writing was stopped, under a name that says so (``….partial``). The same
command goes on with it: it reads what is there, hashes it, and writes what is missing.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from snakemake_apptainer_freshness.actions.bundle import Advance, BundleContent
from snakemake_apptainer_freshness.common.files import exclusive, sync_folder
from snakemake_apptainer_freshness.errors import LocalIOError, UnprovenImage
from snakemake_apptainer_freshness.image.blobs import DamagedBlob
from snakemake_apptainer_freshness.store import archive
from snakemake_apptainer_freshness.store.archive import Member


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
            done = archive.whole_files(file, bundle.contents)
            if done is None:
                file.seek(0)
                file.truncate()
                file.write(archive.start_of(bundle.contents))
            file.truncate(file.tell())
            advance(sum(member.size for member in bundle.contents.files[: done or 0]))
            _write(bundle, file, bundle.contents.files[done or 0 :], advance)
            os.fsync(descriptor)
        partial.replace(target)
        sync_folder(target.parent)


def stream(bundle: BundleContent, out: BinaryIO, advance: Advance) -> None:
    """Write the bundle to `out`; what was written is one only once this returns. Raises as :func:`save` does."""
    with _writing("standard output"):
        out.write(archive.start_of(bundle.contents))
        _write(bundle, out, bundle.contents.files, advance)


def _write(bundle: BundleContent, out: BinaryIO, files: tuple[Member, ...], advance: Advance) -> None:
    for member in files:
        out.write(archive.header(member.name, member.size))
        for piece in bundle.pieces[member.name]():
            out.write(piece)
            advance(len(piece))
        out.write(archive.padding(member.size))
    out.write(archive.END)
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
