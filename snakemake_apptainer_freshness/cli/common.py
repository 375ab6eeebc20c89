"""What several commands share: their options, and how the lock and the image folder are found.

The lock is ``containers.lock`` in the working directory or in ``workflow/``, where Snakemake's own layout puts the main
Snakefile; ``--lockfile`` names another. The image folder is the one that Snakemake would choose here.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from snakemake_apptainer_freshness.errors import LocalIOError, UsageError
from snakemake_apptainer_freshness.settings import is_plain_path

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.lockfile import Lock

_Command = TypeVar("_Command", bound=Callable[..., Any])

UNKNOWN_LIBRARIES: Final = (
    "an image in a library that only the workflow's configuration names (images) is not seen here: say it with --images"
)
"""What a verb that does not read the workflow has to say of an image that is absent."""
PLACES: Final = ("containers.lock", "workflow/containers.lock")


def lockfile_option(command: _Command) -> _Command:
    """Return ``--lockfile``."""
    return click.option(
        "--lockfile",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="The lock to go by.  [default: containers.lock, else workflow/containers.lock]",
    )(command)


def prefix_option(command: _Command) -> _Command:
    """Return ``--prefix``, which Snakemake calls ``--apptainer-prefix``."""
    return click.option(
        "--prefix",
        "--apptainer-prefix",
        "prefix",
        metavar="FOLDER",
        help="Snakemake's image folder.  [default: $APPTAINER_CACHEDIR, else .snakemake/singularity]",
    )(command)


def images_option(command: _Command) -> _Command:
    """Return ``--images``, which a workflow's configuration calls ``images``."""
    return click.option(
        "--images",
        "libraries",
        metavar="FOLDER",
        multiple=True,
        type=click.Path(path_type=Path),
        callback=lambda _context, _option, chosen: _libraries(chosen),
        help="An image library that the workflow's own configuration names, beside the site's; may be repeated.",
    )(command)


def _libraries(chosen: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return the folders by their absolute paths.

    Raises
    ------
    UsageError
        where one is not there, or its path is one that Snakemake cannot put into a command.
    """
    folders = tuple(Path(os.path.abspath(path)) for path in chosen)  # noqa: PTH100  links stay as a configuration has them
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"there is no image library {folder}", hint="check the path that --images gives")
        if not is_plain_path(str(folder)):
            raise UsageError(
                f"the image library {folder} cannot be used: Snakemake puts its path into commands without quotes",
                hint="its path may have letters, digits and ._/+:@%=,- in it",
            )
    return folders


def json_option(command: _Command) -> _Command:
    """Return ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def sarif_option(command: _Command) -> _Command:
    """Return ``--sarif``."""
    return click.option(
        "--sarif",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Write the findings into a file that code hosts and editors read (SARIF 2.1.0).",
    )(command)


def snakemake_arguments(command: _Command) -> _Command:
    """Take Snakemake's own arguments, after ``--``; the command gets them as ``arguments``, as they were typed."""
    return click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- SNAKEMAKE ARGUMENTS]")(command)


def find_lock(chosen: Path | None) -> Path | None:
    """Return the lock file that is `chosen`, else the one that is here, if there is one.

    Raises
    ------
    UsageError
        where the chosen one is not there.
    """
    if chosen is None:
        return next((path for path in map(Path, PLACES) if path.exists()), None)
    if not chosen.exists():
        raise UsageError(f"there is no lock file {chosen}", hint="check the path that --lockfile gives")
    if chosen.is_dir():
        raise UsageError(f"the lock file {chosen} is a folder", hint="give --lockfile the file itself")
    return chosen


def lock_place(chosen: Path | None) -> Path:
    """Return where the lock belongs: where it was `chosen` or is, else beside the main Snakefile of this folder.

    Raises
    ------
    UsageError
        where the chosen one is a folder.
    """
    if chosen is not None:
        if chosen.is_dir():
            raise UsageError(f"the lock file {chosen} is a folder", hint="give --lockfile the file itself")
        return chosen
    beside = Path(PLACES[1]) if Path("workflow/Snakefile").exists() and not Path("Snakefile").exists() else None
    return find_lock(None) or beside or Path(PLACES[0])


def need_lock(chosen: Path | None, *, hint: str) -> "tuple[Path, Lock]":
    """Return the lock file and what it says; `hint` is what a person can do where there is none.

    Raises
    ------
    UsageError
        where there is none; InvalidLock and LocalIOError as :func:`~.actions.pinning.read_lock` has them.
    """
    from snakemake_apptainer_freshness.actions.lock_io import read_lock

    path = find_lock(chosen)
    if path is None:
        raise UsageError(f"there is no lock file here: neither {PLACES[0]} nor {PLACES[1]}", hint=hint)
    return path, read_lock(path)


def register(folder: Path, lock_path: Path, lock: "Lock") -> None:
    """Make known in the image `folder` what `lock` needs, so that a clean-up keeps it; say so where that fails."""
    from snakemake_apptainer_freshness.cli import output
    from snakemake_apptainer_freshness.store import claims

    try:
        claims.register(folder, lock_path, lock)
    except LocalIOError as error:
        output.note(f"{error.message}; {error.hint}")


def image_folder(chosen: str | None, *, may_be_made: bool = False) -> Path:
    """Return Snakemake's image folder; one that was `chosen` must be there, unless it `may_be_made`.

    Raises
    ------
    UsageError
        where it is no folder, or the chosen one is not there.
    LocalIOError
        where it cannot be asked.
    """
    from snakemake_apptainer_freshness.store.prefix import folder

    if chosen is not None and not chosen.strip():
        raise UsageError("--prefix is empty", hint="give it Snakemake's image folder, or leave it out")
    path = folder(chosen)
    try:
        exists, is_folder = path.exists(), path.is_dir()
    except OSError as error:
        raise LocalIOError(f"cannot look at the image folder {path}: {error.strerror}") from error
    if exists and not is_folder:
        raise UsageError(f"the image folder {path} is not a folder", hint="give --prefix Snakemake's image folder")
    if chosen is not None and not exists and not may_be_made:
        raise UsageError(f"there is no image folder {path}", hint="check the path that --prefix gives")
    return path
