"""``apptainer-freshness bundle``: a lock with its images, carried to where no registry can be reached."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from snakemake_apptainer_freshness.cli import output
from snakemake_apptainer_freshness.cli.common import (
    image_folder,
    json_option,
    lock_place,
    lockfile_option,
    need_lock,
    prefix_option,
)
from snakemake_apptainer_freshness.errors import LocalIOError, UsageError

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.actions.bundle import BundleContent
    from snakemake_apptainer_freshness.actions.unpack import Loaded

_PIPE: Final = "-"
_SAVING: Final = "saving"
_LOADING: Final = "loading"


@click.group("bundle", short_help="Carry a lock and its images to where there is no registry.")
def command() -> None:
    """Carry a lock, its images and their records to where no registry can be reached, in one file.

    Exit status: 0 where it is done, 1 where an image is not proven, 2 where the bundle or the lock cannot be used, 3
    where a file could not be read or written.
    """


@command.command("save", short_help="Put the lock and its images into one file.")
@click.argument("file", metavar="FILE")
@lockfile_option
@prefix_option
@json_option
def save_command(file: str, lockfile: Path | None, prefix: str | None, *, as_json: bool) -> int:
    """Put the lock, the images that it names and their records into FILE, a tar archive; '-' is standard output.

    Only verified images are taken, and each is hashed once more on the way; one that is not proven to be what the lock
    names stops it. FILE appears when it is complete. Files of this machine cannot be carried, and are named.

    Exit status: 0 where FILE is written, 1 where an image is not proven, 2 wrong use or bad input, 3 where a file could
    not be read or written.
    """
    from snakemake_apptainer_freshness.actions.bundle import gather, save
    from snakemake_apptainer_freshness.actions.fetch import stopping_cleanly
    from snakemake_apptainer_freshness.common.progress import ProgressBars

    if file == _PIPE and (as_json or sys.stdout.isatty()):
        raise UsageError("'-' writes the bundle to standard output: send that into a file or a pipe, without --json")
    path, _ = need_lock(lockfile, hint="make one with: apptainer-freshness lock")
    if file != _PIPE and Path(file).resolve() == path.resolve():
        raise UsageError(f"cannot save the bundle as {file}: that is the lock", hint="name another file")
    freight = gather(path, image_folder(prefix))
    with stopping_cleanly(threading.Event()), _written(file) as out, ProgressBars() as bars:
        bars.begin(_SAVING, sum(one.packed.image.size for one in freight.images))
        save(freight, out, lambda count: bars.advance(_SAVING, count))
    if as_json:
        _print_saved(freight, file, path)
    elif file != _PIPE:
        output.table(
            ("image", "size"),
            [(one.pin.reference.text, output.size(one.packed.image.size)) for one in freight.images],
        )
    for one in freight.left:
        output.note(f"not in the bundle: {one.reference}: {one.why}")
    output.note(
        f"{output.counted(len(freight.images), 'image')}, {output.size(freight.contents.size)}"
        + ("" if file == _PIPE else f", in {file}")
    )
    return 0


@contextlib.contextmanager
def _written(file: str) -> Iterator[BinaryIO]:
    """Where the bundle goes: a file that appears when all is well, or standard output."""
    from snakemake_apptainer_freshness.common.files import appearing

    if file == _PIPE:
        yield sys.stdout.buffer
        return
    target = Path(file)
    if target.is_dir() or not target.name:
        raise UsageError(f"cannot save the bundle as {file}: that is a folder", hint="name a file in it")
    try:
        with appearing(target) as out:
            yield out
    except OSError as error:
        raise LocalIOError(
            f"cannot write the bundle {file}: {error.strerror or error}", hint="choose a folder that you may write"
        ) from error


@command.command("load", short_help="Put the lock and the images of a bundle in their places.")
@click.argument("file", metavar="FILE")
@lockfile_option
@prefix_option
@json_option
def load_command(file: str, lockfile: Path | None, prefix: str | None, *, as_json: bool) -> int:
    """Put the lock and the images of the bundle FILE in their places; '-' is standard input.

    Every byte is read and verified before anything appears under its name. Images that are there and verified are
    kept, others moved aside. A lock that is there must be the bundle's. Afterwards mode 'frozen' runs with no network.

    Exit status: 0 where all is in place, 2 where the bundle cannot be used, 3 where a file could not be read or
    written.
    """
    from snakemake_apptainer_freshness.actions.unpack import Loader
    from snakemake_apptainer_freshness.common.progress import ProgressBars

    path, folder = lock_place(lockfile), image_folder(prefix, may_be_made=True)
    with _read(file) as source, ProgressBars() as bars:
        loader = Loader(source, lock_path=path, prefix=folder)
        contents = loader.begin()
        bars.begin(_LOADING, sum(one.image.size for one in contents.images))
        loaded = loader.load(contents, lambda count: bars.advance(_LOADING, count))
    if as_json:
        output.document(lockfile=str(path), prefix=str(folder), image=[_as_json(one) for one in loaded])
        return 0
    output.table(
        ("what", "image", "size"),
        [("kept" if one.kept else "loaded", one.pin.reference.text, output.size(one.size)) for one in loaded],
    )
    for one in loaded:
        if one.quarantined is not None:
            output.note(f"{one.pin.reference.text}: its former image was moved aside as {one.quarantined.name}")
    output.note(f"{path} and {output.counted(len(loaded), 'image')} are in place: mode frozen needs no network")
    return 0


@contextlib.contextmanager
def _read(file: str) -> Iterator[BinaryIO]:
    if file == _PIPE:
        if sys.stdin.isatty():
            raise UsageError("'-' reads the bundle from standard input: send it through a pipe")
        yield sys.stdin.buffer
        return
    if os.path.isdir(file):  # noqa: PTH112  as it was typed
        raise UsageError(f"the bundle {file} is a folder", hint="give the file that 'bundle save' wrote")
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(Path(file).open("rb"))
        except FileNotFoundError:
            raise UsageError(f"there is no bundle {file}", hint="check its path") from None
        except OSError as error:
            raise LocalIOError(f"cannot read the bundle {file}: {error.strerror}") from error
        yield source


def _print_saved(freight: "BundleContent", file: str, lockfile: Path) -> None:
    output.document(
        bundle=file,
        lockfile=str(lockfile),
        image=[
            {
                "reference": one.pin.reference.text,
                "pinned": one.pin.url,
                "digest": str(one.pin.digest),
                "platform": str(one.pin.platform),
                "path": str(one.path),
                "size": one.packed.image.size,
                "sha256": one.packed.image.sha256,
            }
            for one in freight.images
        ],
        left=[{"reference": one.reference, "why": one.why} for one in freight.left],
    )


def _as_json(one: "Loaded") -> dict[str, Any]:
    return {
        "reference": one.pin.reference.text,
        "pinned": one.pin.url,
        "digest": str(one.pin.digest),
        "platform": str(one.pin.platform),
        "action": "kept" if one.kept else "loaded",
        "path": str(one.path),
        "size": one.size,
        "quarantined": str(one.quarantined) if one.quarantined else None,
    }
