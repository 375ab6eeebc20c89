"""``apptainer-freshness bundle``: a lock with its images, carried to where no registry can be reached."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
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
    from snakemake_apptainer_freshness.actions.bundle import Advance, BundleContent
    from snakemake_apptainer_freshness.actions.unpack import Loaded

_PIPE: Final = "-"
_ASKING: Final = "asking what the images are made of"
_SAVING: Final = "saving"


@click.group("bundle", short_help="Carry a lock and its images to a machine without a registry.")
def command() -> None:
    """Carry a lock and its images to where no registry can be reached, in one file that proves itself.

    Exit status: 0 where it is done, 1 where an image is not proven, 2 where the bundle or the lock cannot be used, 3
    where a registry, a file or Apptainer fails.
    """


@command.command("save", short_help="Put the lock and what its images are made of into one file.")
@click.argument("file", metavar="FILE")
@lockfile_option
@prefix_option
@click.option("--all-platforms", is_flag=True, help="The layers for every platform, not for this machine's alone.")
@click.option("--with-images", is_flag=True, help="The ready images of the image folder, too; they need no building.")
@json_option
def save_command(
    file: str, lockfile: Path | None, prefix: str | None, *, all_platforms: bool, with_images: bool, as_json: bool
) -> int:
    """Put the lock, and what its images are made of, into FILE; '-' is standard output.

    FILE is an OCI image layout in a tar archive: the manifests, configurations and layers that the lock's digests lead
    to, each hashed on the way. They come from Apptainer's cache where they are there and sound, else from a mirror of
    this machine, else from the registry.
    Who loads it can prove every image against the lock. Images that are pinned by their own hash are carried as they
    are; only verified ones are taken.

    FILE appears when it is complete. What was written when it was stopped stays as FILE.partial, and the same command
    goes on with it. Files of this machine cannot be carried, and are named.

    Exit status: 0 where FILE is written, 1 where an image is not proven, 2 wrong use or bad input, 3 where a registry
    cannot be asked, or a file not be read or written.
    """
    from snakemake_apptainer_freshness.actions.bundle import BundleSelection, gather
    from snakemake_apptainer_freshness.actions.elsewhere import Elsewhere
    from snakemake_apptainer_freshness.actions.layer_sources import LayerSources
    from snakemake_apptainer_freshness.actions.pack import save, stream
    from snakemake_apptainer_freshness.common.parallel import stopping_cleanly
    from snakemake_apptainer_freshness.common.progress import ProgressBars
    from snakemake_apptainer_freshness.registry.resolver import Resolver

    if file == _PIPE and (as_json or sys.stdout.isatty()):
        raise UsageError("'-' writes the bundle to standard output: send that into a file or a pipe, without --json")
    path, lock = need_lock(lockfile, hint="make one with: apptainer-freshness lock")
    target = _target(file, path)
    selection = BundleSelection(prefix=image_folder(prefix), all_platforms=all_platforms, with_images=with_images)
    with stopping_cleanly(threading.Event()), Resolver() as registry, Elsewhere() as mirrors, ProgressBars() as bars:
        bars.begin(_ASKING, len(lock))
        sources = LayerSources(registry=registry, mirrors=mirrors)
        bundle = gather(path, selection, registry=sources, advance=lambda count: bars.advance(_ASKING, count))
        bars.end(_ASKING)
        bars.begin(_SAVING, bundle.contents.size)
        if target is None:
            stream(bundle, sys.stdout.buffer, lambda count: bars.advance(_SAVING, count))
        else:
            _save(save, bundle, target, lambda count: bars.advance(_SAVING, count))
    if as_json:
        _print_saved(bundle, file, path)
    elif target is not None:
        rows = [(image.pin.reference.text, output.size(image.size)) for image in bundle.images]
        output.table(("image", "size"), rows)
    for left in bundle.left:
        output.note(f"not in the bundle: {left.reference}: {left.why}")
    output.note(
        f"{output.counted(len(bundle.images), 'image')}, {output.size(bundle.contents.size)}"
        + ("" if target is None else f", in {file}")
    )
    return 0


def _target(file: str, lock: Path) -> Path | None:
    """Return the file that the bundle is written to; None where that is standard output."""
    if file == _PIPE:
        return None
    target = Path(file)
    if target.is_dir() or not target.name:
        raise UsageError(f"cannot save the bundle as {file}: that is a folder", hint="name a file in it")
    if not target.parent.is_dir():
        raise UsageError(f"cannot save the bundle as {file}: there is no folder {target.parent}", hint="make it first")
    if target.resolve() == lock.resolve():
        raise UsageError(f"cannot save the bundle as {file}: that is the lock", hint="name another file")
    return target


def _save(save: "Callable[..., None]", bundle: "BundleContent", target: Path, advance: "Advance") -> None:
    """Write the bundle to `target`; where it is stopped, say what is kept."""
    from snakemake_apptainer_freshness.actions.pack import partial_of

    try:
        save(bundle, target, advance)
    except BaseException:
        partial = partial_of(target)
        if partial.exists():
            output.note(f"what was written so far is kept as {partial}; the same command goes on with it")
        raise


@command.command("load", short_help="Put the lock and the images of a bundle in their places.")
@click.argument("file", metavar="FILE")
@lockfile_option
@prefix_option
@click.option(
    "--pin",
    type=click.Choice(["index", "platform"]),
    default="index",
    show_default=True,
    help="Which digest the workflow pins to: its option 'pin'.",
)
@json_option
def load_command(file: str, lockfile: Path | None, prefix: str | None, pin: str, *, as_json: bool) -> int:
    """Put the lock and the images of the bundle FILE in their places; '-' is standard input.

    FILE can be the folder of an unpacked bundle, too, or an archive that 'audit --archive' wrote.

    Each image is built of the layers that the digest in the lock leads to, all of them hashed, or is a ready one that
    is compared with them. So it does not matter who made the bundle. Images that are there and verified are kept,
    others moved aside. A lock that is there must be the bundle's; where there is none, the bundle's is taken.
    Afterwards mode 'frozen' runs with no network.

    Exit status: 0 where all is in place, 2 where the bundle cannot be used, 3 where an image cannot be built, or a file
    not be read or written.
    """
    from snakemake_apptainer_freshness.actions.unpack import Loader
    from snakemake_apptainer_freshness.common.progress import ProgressBars
    from snakemake_apptainer_freshness.settings import PinKind

    path, folder = lock_place(lockfile), image_folder(prefix, may_be_made=True)
    with _read(file) as source, ProgressBars() as bars:
        loader = Loader(lock_path=path, prefix=folder, kind=PinKind(pin), bars=bars, note=output.note)
        loaded = loader.load(source)
    if as_json:
        output.document(lockfile=str(path), prefix=str(folder), image=[_as_json(image) for image in loaded.images])
        return 0
    output.table(
        ("what", "image", "size", "how"),
        [
            ("kept" if image.kept else "loaded", image.pin.reference.text, output.size(image.size), image.how)
            for image in loaded.images
        ],
    )
    for image in loaded.images:
        if image.quarantined is not None:
            output.note(f"{image.pin.reference.text}: its former image was moved aside as {image.quarantined.name}")
    if loaded.brought_lock:
        output.note(
            f"{path} came with the bundle: that it is the workflow's lock is its sender's word, so compare them"
        )
    output.note(f"{output.counted(len(loaded.images), 'image')} proven and in place: mode frozen needs no network")
    return 0


@contextlib.contextmanager
def _read(file: str) -> Iterator[BinaryIO | Path]:
    if file == _PIPE:
        if sys.stdin.isatty():
            raise UsageError("'-' reads the bundle from standard input: send it through a pipe")
        yield sys.stdin.buffer
        return
    if os.path.isdir(file):  # noqa: PTH112  as it was typed
        yield _unpacked(Path(file))
        return
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(Path(file).open("rb"))
        except FileNotFoundError:
            raise UsageError(f"there is no bundle {file}", hint="check its path") from None
        except OSError as error:
            raise LocalIOError(f"cannot read the bundle {file}: {error.strerror}") from error
        yield source


def _unpacked(folder: Path) -> Path:
    """Return where in `folder` an unpacked bundle lies: there itself, or in the archive that it is."""
    from snakemake_apptainer_freshness.audit.archive_replay import images_of
    from snakemake_apptainer_freshness.store.bag import is_bag
    from snakemake_apptainer_freshness.store.bundle_layout import CONTENTS

    if is_bag(folder):
        return images_of(folder)
    if not (folder / CONTENTS).exists():
        raise UsageError(
            f"the folder {folder} is neither an unpacked bundle nor an archive",
            hint="give the file that 'bundle save' wrote, or the folder that 'audit --archive' wrote",
        )
    return folder


def _print_saved(bundle: "BundleContent", file: str, lockfile: Path) -> None:
    output.document(
        bundle=file,
        lockfile=str(lockfile),
        image=[
            {
                "reference": image.pin.reference.text,
                "pinned": image.pin.url,
                "digest": str(image.pin.digest),
                "platform": str(image.pin.platform),
                "size": image.size,
            }
            for image in bundle.images
        ],
        left=[{"reference": left.reference, "why": left.why} for left in bundle.left],
    )


def _as_json(loaded: "Loaded") -> dict[str, Any]:
    return {
        "reference": loaded.pin.reference.text,
        "pinned": loaded.pin.url,
        "digest": str(loaded.pin.digest),
        "platform": str(loaded.pin.platform),
        "action": "kept" if loaded.kept else "loaded",
        "how": loaded.how,
        "path": str(loaded.path),
        "size": loaded.size,
        "quarantined": str(loaded.quarantined) if loaded.quarantined else None,
    }
