"""Garbage collection: which files of the image folder and of Apptainer's caches no known lock needs.

What may be freed, and how that is known:

* An **image** that this user fetched, as is known of its place (:mod:`.store.places`), and that no known lock needs:
  neither the lock here, nor one that is registered in the folder (:mod:`.store.claims`).
* A **foreign** image, that this user did not fetch, and no known lock needs. A plain run of Snakemake may use it,
  for a tag or a digest that stands in its rules, and nothing says so. It is listed, and freed only where that is asked.
* An **alias** that a killed run left: a link from the name of a tag's image to that of its pin.
* A **record** whose image is gone; what was moved aside (**quarantined**); a **partial** file whose maker is dead, or
  that no process wrote to for a day where another host made it; a **claim** whose lock has been gone for the grace
  time.
* In the caches: **leftovers** of killed pulls, a day old and not open in any process here; and, again, what was moved
  aside and records of what is gone.

:func:`plan` deletes nothing. :func:`free` asks all claims once more before it starts, and takes our lock of each image
that it deletes, so that a run that fetches the image at that moment is not disturbed. It deletes by descriptors
(:mod:`.common.removal`): what another user swaps meanwhile in a shared folder leads it nowhere else.
"""

import contextlib
import os
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.actions.folders import File, existing
from snakemake_apptainer_freshness.apptainer import sif
from snakemake_apptainer_freshness.apptainer.cache import BLOB, FOLDERS, CacheFolder
from snakemake_apptainer_freshness.common.files import StatKey, is_left_behind
from snakemake_apptainer_freshness.common.locks import exclusive
from snakemake_apptainer_freshness.common.removal import open_folder, remove_at
from snakemake_apptainer_freshness.errors import CorruptImage, FreshnessError, LocalIOError, one_line
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import claims, places, records
from snakemake_apptainer_freshness.store import prefix as image_folder
from snakemake_apptainer_freshness.store.claims import Registered
from snakemake_apptainer_freshness.store.prefix import QUARANTINE, RECORD, FolderItem, ItemKind


class WasteKind(StrEnum):
    """What kind of file it is that no lock needs."""

    IMAGE = "image"
    FOREIGN = "foreign"
    ALIAS = "alias"
    RECORD = "record"
    QUARANTINED = "quarantined"
    PARTIAL = "partial"
    LEFTOVER = "leftover"
    CLAIM = "claim"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waste:
    """One file that may be freed; `reference` where it is known of which image it is, `why` in one line."""

    what: WasteKind
    file: File
    why: str
    reference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeededImages:
    """The images that are needed, by the `lock` at hand, the claims in `prefix`, and the `grace` days."""

    prefix: Path
    lock: Lock
    grace: int

    def claims(self) -> list[Registered]:
        """Return every registered lock; raises as :func:`.claims.registered` does."""
        return list(claims.registered(self.prefix))

    def names(self, registered: Iterable[Registered]) -> set[str]:
        """Return the names of the image files that are needed."""
        own = {image_folder.image_name(url) for url in claims.urls_of(self.lock)}
        return own | claims.needed(registered, grace=self.grace)


@dataclass(frozen=True, slots=True, kw_only=True)
class GcPlan:
    """What may be freed, what is foreign and may be freed only where that is asked for, and who was asked."""

    waste: list[Waste]
    foreign: list[Waste]
    registered: list[Registered]


def plan(known: NeededImages, caches: Iterable[CacheFolder]) -> GcPlan:
    """Return what no known lock needs. Nothing is written but, in a claim, that its lock is missed from now on.

    Raises
    ------
    UsageError
        where a claim cannot be understood.
    LocalIOError
        where the folder cannot be read.
    """
    registered = known.claims()
    for claim in registered:
        claims.remember(claim)
    names = known.names(registered)
    items = list(image_folder.survey(known.prefix))
    images = [
        waste for item in items if item.kind is ItemKind.IMAGE and item.image not in names for waste in _image(item)
    ]
    others = [waste for item in items for waste in _other(item)]
    run_out = [waste for claim in registered if claim.has_run_out(known.grace) for waste in _claim(claim)]
    cached = [waste for cache in caches for waste in _in_cache(cache)]
    ours = [waste for waste in images if waste.what is WasteKind.IMAGE]
    foreign = [waste for waste in images if waste.what is WasteKind.FOREIGN]
    return GcPlan(waste=[*ours, *others, *run_out, *cached], foreign=foreign, registered=registered)


def _waste_at(what: WasteKind, path: Path, why: str, reference: str = "") -> Iterator[Waste]:
    """Yield the file at `path`, if it is there; of folders only those that pulls make."""
    for file in existing([path]):
        if what is WasteKind.PARTIAL or not stat.S_ISDIR(file.status.st_mode):
            yield Waste(what=what, file=file, why=why, reference=reference)


def _image(item: FolderItem) -> Iterator[Waste]:
    with contextlib.suppress(OSError):
        place = places.load(item.path)
        fact = place.content if place is not None else None
        if (
            fact is not None
            and fact.proven_by.is_fetched
            and image_folder.image_name(fact.pinned) == item.image
            and fact.size == item.path.lstat().st_size
        ):
            yield from _waste_at(WasteKind.IMAGE, item.path, "no known lock needs it", fact.reference)
            return
    yield from _waste_at(
        WasteKind.FOREIGN, item.path, "not fetched by us; another workflow may use it", _label(item.path)
    )


def _label(image: Path) -> str:
    try:
        pulled = sif.read(image).pulled_reference
    except (CorruptImage, OSError):
        return ""
    return f"docker://{pulled}" if pulled else ""


def _other(item: FolderItem) -> Iterator[Waste]:
    match item.kind:
        case ItemKind.RECORD if not _is_there(item.path.with_name(item.image)):
            yield from _waste_at(WasteKind.RECORD, item.path, "its image is gone")
        case ItemKind.ALIAS if not item.path.exists():
            yield from _waste_at(WasteKind.ALIAS, item.path, "the image that it stood for is gone")
        case ItemKind.ALIAS:
            yield from _old(WasteKind.ALIAS, item.path, "its run did not end well, or takes more than a day")
        case ItemKind.QUARANTINE:
            yield from _waste_at(WasteKind.QUARANTINED, item.path, _ASIDE)
        case ItemKind.PARTIAL if is_left_behind(item.path.name):
            yield from _waste_at(WasteKind.PARTIAL, item.path, "the process that wrote it was killed")
        case ItemKind.PARTIAL:
            yield from _old(WasteKind.PARTIAL, item.path, "no process has written to it for a day")


def _old(what: WasteKind, path: Path, why: str) -> Iterator[Waste]:
    """Return the file at `path`, if it was not written to for a day."""
    return (item for item in _waste_at(what, path, why) if time.time() - item.file.status.st_mtime > DISK.leftover)


_ASIDE: Final = "was moved aside, not being what its pin names"


def _claim(claim: Registered) -> Iterator[Waste]:
    why = f"its lock {claim.claim.lockfile} has been gone since {claim.claim.missing_since or 'now'}"
    yield from _waste_at(WasteKind.CLAIM, claim.file, why)


def _in_cache(cache: CacheFolder) -> Iterator[Waste]:
    old = [left.path for left in cache.leftovers() if left.age > DISK.leftover]
    in_use = _open_files() if old else set()
    for path in old:
        for waste in _waste_at(WasteKind.LEFTOVER, path, "a pull was killed"):
            if (waste.file.status.st_dev, waste.file.status.st_ino) not in in_use:
                yield waste
    for path in _all_in(cache):
        if QUARANTINE in path.name:
            yield from _waste_at(WasteKind.QUARANTINED, path, _ASIDE)
        elif path.name.endswith(RECORD) and not _is_there(_image_of(path)):
            yield from _waste_at(WasteKind.RECORD, path, "its image is gone")


def _all_in(cache: CacheFolder) -> Iterator[Path]:
    for folder in (*(cache.root / name for name in FOLDERS), cache.root / BLOB):
        yield from sorted(Path(root, name) for root, _, names in os.walk(folder) for name in names)


def _open_files() -> set[tuple[int, int]]:
    """Return every file that a process of this host has open, as far as we may know, as (device, inode)."""
    opened = set()
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            status = descriptor.stat()
            opened.add((status.st_dev, status.st_ino))
    return opened


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)


def _image_of(record: Path) -> Path:
    return record.with_name(record.name.removesuffix(RECORD))


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """The result for one file: it was deleted, it is `kept` for a reason, or it has an `error`."""

    waste: Waste
    kept: str = ""
    error: FreshnessError | None = None

    @property
    def is_done(self) -> bool:
        """Whether the file is gone."""
        return not self.kept and self.error is None


def free(waste: Iterable[Waste], known: NeededImages) -> Iterator[Freed]:
    """Delete `waste`, as far as it is still what it was and no lock needs it now.

    Raises
    ------
    UsageError, LocalIOError
        as :func:`plan` does.
    """
    registered = known.claims()
    names = known.names(registered)
    live = {claim.file for claim in registered if not claim.has_run_out(known.grace)}
    for item in waste:
        path = item.file.path
        try:
            if path.name in names or path in live:
                yield Freed(waste=item, kept="a lock needs it now")
            elif item.what in _LOCKED:
                with exclusive(_image_of(path), timeout=DISK.lock_patience):
                    yield _deleted(item)
            else:
                yield _deleted(item)
        except OSError as error:
            yield Freed(waste=item, error=_cannot(path, error))
        except FreshnessError as error:
            yield Freed(waste=item, error=error)


_LOCKED: Final = (WasteKind.IMAGE, WasteKind.FOREIGN, WasteKind.RECORD)
"""What a run that fetches an image also writes, under the lock of that image."""


def _deleted(item: Waste) -> Freed:
    """Delete one file, whose lock we have where it has one."""
    path = item.file.path
    if item.what is WasteKind.RECORD and _is_there(_image_of(path)):
        return Freed(waste=item, kept="its image is there again")
    try:
        with open_folder(path.parent) as parent:
            now = os.stat(path.name, dir_fd=parent, follow_symlinks=False)
            if not StatKey.of(now).same_file(StatKey.of(item.file.status)):
                return Freed(waste=item, kept="it has changed meanwhile")
            remove_at(parent, path.name)
            if item.what is WasteKind.IMAGE:
                places.forget(path)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(records.path_of(path).name, dir_fd=parent)
    except FileNotFoundError:
        return Freed(waste=item, kept="another process has deleted it")
    return Freed(waste=item)


def _cannot(path: Path, error: OSError) -> LocalIOError:
    return LocalIOError(
        f"cannot delete {one_line(path)}: {error.strerror}", hint=f"make {path.parent} writable, or ask its owner"
    )
