"""Images of a site's library, used where they lie: proven like any other, never written to, not copied.

For a pin whose image Snakemake's folder does not have, the library is searched (:mod:`.store.image_library`). What is
there is judged like an image in that folder: by a fact of this user or of a site's store, else compared with its
layers, once. What says that it was pulled by the pin's digest or by its tag is compared with the layers from
Apptainer's cache or the registry, which is the download of a pull without its build and its file; where no network is
allowed, with those of the cache alone. What is not proven then is not used, and the image is fetched as usual.
"""

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.actions.attest import Attestor
from snakemake_apptainer_freshness.actions.check import check_one
from snakemake_apptainer_freshness.actions.sandboxes import check_sandbox, held_sandbox
from snakemake_apptainer_freshness.common.parallel import in_parallel
from snakemake_apptainer_freshness.common.progress import ProgressBars
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState, FileHash
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store import image_library
from snakemake_apptainer_freshness.store.held import held
from snakemake_apptainer_freshness.store.image_library import Catalog, LibraryItem

_SEARCH: Final = "looking through the site's image library"
_MOST_COMPARED: Final = 3
"""Images that are compared with the layers of one pin: those after the likeliest are hardly it."""

Begin = Callable[[Pin, DiskFact], None]


def is_folder(path: Path) -> bool:
    """Return whether a folder, and no link to one, is at `path`."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (OSError, ValueError):  # a record may name what no file can be called
        return False


def judge(pin: Pin, path: Path, *, full: bool = False, remember: bool = True) -> DiskFact:
    """Return what the SIF or sandbox folder at `path`, which nothing is written to, is to `pin`."""
    if is_folder(path):
        return check_sandbox(pin, path, full=full, remember=remember)
    return check_one(pin, path, full=full, remember=remember, read_only=True)


def known_images(pins: Iterable[Pin], libraries: Iterable[Path] = (), *, remember: bool = True) -> dict[str, DiskFact]:
    """Return, by url, the images of `pins` that were found in a library before and are what was proven then.

    `libraries` are those that a workflow names, beside those of the machine and the environment.
    """
    facts = {pin.url: look_again(pin, libraries, remember=remember) for pin in pins}
    return {url: fact for url, fact in facts.items() if fact is not None and fact.state is DiskState.VERIFIED}


def look_again(
    pin: Pin, libraries: Iterable[Path] = (), *, remember: bool = True, hashed: FileHash | None = None
) -> DiskFact | None:
    """Return what now lies where a library had the image of `pin`; None where none had it.

    Where it is known what it `hashed` to when this run proved it, it is held to that, and nothing else is looked into.
    """
    path = place_before(pin, libraries)
    return None if path is None else look_at(pin, path, remember=remember, hashed=hashed)


def place_before(pin: Pin, libraries: Iterable[Path] = ()) -> Path | None:
    """Return where a library had the image of `pin`, whatever lies there now; None where none had it."""
    folders = image_library.folders(libraries)
    return image_library.remembered(pin, folders) if folders else None


def look_at(pin: Pin, path: Path, *, remember: bool = True, hashed: FileHash | None = None) -> DiskFact:
    """Return what lies at `path`, where a library had the image of `pin`; `hashed` as :func:`look_again` has it."""
    if hashed is None:
        return judge(pin, path, remember=remember)
    return held_sandbox(path, hashed) if is_folder(path) else held(path, hashed, read_only=True)


def find(
    pins: Iterable[Pin],
    libraries: Iterable[Path] = (),
    *,
    attestor: Attestor,
    begin: Begin = lambda _pin, _fact: None,
    bars: ProgressBars | None = None,
) -> dict[str, DiskFact]:
    """Return, by url, the images of `pins` that lie in a library and are proven; all others are left out.

    `attestor` compares; `begin` is told before it does. `bars` show the search, where it takes longer than a moment.
    """
    folders = image_library.folders(libraries)
    wanted = [pin for pin in pins if pin.pinned.scheme is not Scheme.FILE]
    if not folders or not wanted:
        return {}
    if bars is not None:
        bars.begin(_SEARCH)
    catalogs = [Catalog.of(folder) for folder in folders]
    items = {pin.url: image_library.search(pin, catalogs) for pin in wanted}
    if bars is not None:
        bars.end(_SEARCH)

    def find_pin(pin: Pin) -> tuple[str, DiskFact | None]:
        fact = _best(pin, items[pin.url], attestor, begin)
        if fact is not None:
            image_library.remember(pin, Path(fact.path))
        return pin.url, fact

    best = in_parallel(find_pin, wanted, name="library", stop=attestor.stop.set)
    return {url: fact for url, fact in best if fact is not None}


def _best(pin: Pin, items: list[LibraryItem], attestor: Attestor, begin: Begin) -> DiskFact | None:
    """Return the first of `items` that is proven; by what is known, before any is compared."""
    unproven: list[tuple[LibraryItem, DiskFact]] = []
    for item in items:
        fact = judge(pin, item.path)
        if fact.state is DiskState.VERIFIED:
            return fact
        if fact.state in (DiskState.BOUND, DiskState.UNBOUND):
            unproven.append((item, fact))
    for item, fact in unproven[:_MOST_COMPARED]:
        begin(pin, fact)
        proven = attestor.attest(pin, item.path, fact, whole=bool(item.pulled))
        if proven.state is DiskState.VERIFIED:
            return proven
    return None
