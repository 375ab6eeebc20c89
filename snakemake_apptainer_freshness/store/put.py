"""Putting an image that was obtained in its place in the image folder, under the lock of that image.

* What is known of it is kept in the user's state folder, and then it is renamed. No process ever sees half an image.
* A file that was in its place is not deleted but moved aside: it may be the only copy of what a result was made with.
* What killed runs left behind for this image is removed.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from snakemake_apptainer_freshness.common.files import (
    is_left_behind,
    open_to_folder,
    quarantine,
    status_of,
    sync_folder,
    unique,
    writable_by_all,
)
from snakemake_apptainer_freshness.common.own_folder import own_folder
from snakemake_apptainer_freshness.common.removal import open_folder, remove_at
from snakemake_apptainer_freshness.errors import FreshnessError, LocalIOError
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store import facts, places, state
from snakemake_apptainer_freshness.store.places import PlaceFact
from snakemake_apptainer_freshness.store.prefix import PARTIAL
from snakemake_apptainer_freshness.store.pull import Obtained, fact_of


@contextlib.contextmanager
def temporary_name(pin: Pin, image: Path) -> Iterator[Path]:
    """Provide the path of a file for the image of `pin`, which is to be put at `image`, that no other user can reach.

    What is left of it at the end is removed. Raises LocalIOError where the image folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            own = stack.enter_context(own_folder(image.with_name(f"{image.name}{PARTIAL}{unique()}")))
        except OSError as error:
            raise _cannot_put(pin, image, error) from error
        yield own / "image.sif"


def put(pin: Pin, temporary: Path, image: Path, obtained: Obtained) -> Path | None:
    """Give the file `temporary` its name `image`, once it is kept what it is; return where the former file went.

    None where there was no former file. The caller has the lock of `image`. Raises LocalIOError where that cannot be
    done; nothing is left of `temporary`.
    """
    try:
        _keep_facts(pin, image, obtained, exposed=writable_by_all(status_of(temporary).st_mode))
    except FreshnessError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    try:
        open_to_folder(temporary, image.parent)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        aside = quarantine(image)
        temporary.replace(image)
        sync_folder(image.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _cannot_put(pin, image, error) from error
    return aside


def _cannot_put(pin: Pin, image: Path, error: OSError) -> LocalIOError:
    return LocalIOError(
        f"cannot put the image of {pin.reference.text} in {image.parent}: {error.strerror or error}",
        hint="make the folder writable, or choose another one with --apptainer-prefix",
    )


def _keep_facts(pin: Pin, image: Path, obtained: Obtained, *, exposed: bool = False) -> None:
    """Keep in the state folder that `image` was obtained for `pin`.

    `exposed` says that its mode lets every user write it although we did not: its file system says so of all files.
    Raises LocalIOError where that cannot be done.
    """
    try:
        fact = obtained.known or fact_of(pin, obtained)
        if obtained.known is None:
            facts.keep(fact)
        places.keep(image, PlaceFact.of(fact, writable_by_all=exposed))
    except OSError as error:
        raise state.cannot_write(error) from error


def remove_leftovers(image: Path) -> None:
    """Remove what a killed run on this host left of `image`, whose lock the caller has: no other process writes it."""
    with contextlib.suppress(OSError), open_folder(image.parent) as parent:
        for name in os.listdir(parent):  # noqa: PTH208  a descriptor, not a path
            if name.startswith(f"{image.name}{PARTIAL}") and is_left_behind(name):
                with contextlib.suppress(OSError):  # it may be another user's
                    remove_at(parent, name)


def make_folder(prefix: Path) -> None:
    """Make the image folder `prefix`, where it is not there. Raises LocalIOError where that cannot be done."""
    try:
        prefix.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LocalIOError(
            f"cannot make the image folder {prefix}: {error.strerror}",
            hint="choose another one with --apptainer-prefix",
        ) from error
