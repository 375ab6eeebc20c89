"""Folders of images and of Apptainer: where they are, what they hold, how much room is left on their disks.

Facts only; nothing is opened. A folder that is not there or cannot be read holds nothing.
"""

import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
from snakemake_apptainer_freshness.common import environment as environment_of
from snakemake_apptainer_freshness.errors import LocalIOError
from snakemake_apptainer_freshness.store import prefix as image_folder
from snakemake_apptainer_freshness.store.prefix import FolderItem, ItemKind
from snakemake_apptainer_freshness.store.sites import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file in one of the folders, as ``lstat`` has it."""

    path: Path
    status: os.stat_result

    @property
    def size(self) -> int:
        """In bytes."""
        return self.status.st_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder that matters; `free` bytes on its disk, where that can be asked; `note` says why it matters not."""

    name: str
    path: str
    exists: bool = False
    writable: bool = False
    mode: int = 0
    free: int | None = None
    images: int = 0
    size: int = 0
    note: str = ""


def describe(name: str, path: Path, images: Iterable[File] = ()) -> Folder:
    """Return the folder `path`, which has a `name` for people and holds `images`."""
    files = list(images)
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        free = shutil.disk_usage(there).free
    except OSError:
        free = None
    exists = path.is_dir()
    return Folder(
        name=name,
        path=str(path),
        exists=exists,
        writable=os.access(there, os.W_OK | os.X_OK),
        mode=stat.S_IMODE(path.stat().st_mode) if exists else 0,
        free=free,
        images=len(files),
        size=total(files),
    )


def cache_folders(caches: Mapping[str, CacheFolder | None]) -> Iterator[Folder]:
    """Yield the caches of each family of programs, each folder once; a cache that is turned off says so."""
    names = {"apptainer": "Apptainer's cache", "singularity": "Singularity's cache"}
    seen = set()
    for family, cache in caches.items():
        if cache is None:
            if family == "apptainer":
                yield Folder(name=names[family], path="", note="turned off by APPTAINER_DISABLE_CACHE")
            continue
        if cache.root not in seen and (family == "apptainer" or cache.root.exists()):
            yield describe(names[family], cache.root, entries_in(cache))
        seen.add(cache.root)


def temporary_folder(environment: Mapping[str, str]) -> Folder:
    """Return where Apptainer unpacks images while it builds them."""
    return describe("temporary files", environment_of.temporary_folder(environment))


def site_folders(site: Site) -> Iterator[Folder]:
    """Yield what `site` names, which is only read: its fact stores and its libraries of images."""
    for store in site.stores:
        yield _only_read("fact store of this site", store.path)
    for library in site.libraries:
        yield _only_read("image library of this site", library)


def _only_read(name: str, path: Path) -> Folder:
    is_readable = os.access(path, os.R_OK | os.X_OK)
    note = "" if path.is_dir() and is_readable else "not read: no folder that this user can read is there"
    return replace(describe(name, path), note=note)


def existing(paths: Iterable[Path]) -> Iterator[File]:
    """Yield those of `paths` that are there, links not followed."""
    for path in paths:
        try:
            yield File(path=path, status=path.lstat())
        except OSError:
            continue


def items_in(prefix: Path) -> list[FolderItem]:
    """Return all that lies in Snakemake's image folder."""
    try:
        return list(image_folder.survey(prefix))
    except LocalIOError:
        return []


def images_in(prefix: Path) -> list[File]:
    """Return the images in Snakemake's image folder."""
    return list(existing(item.path for item in items_in(prefix) if item.kind is ItemKind.IMAGE))


def entries_in(cache: CacheFolder) -> list[File]:
    """Return the images of a cache."""
    return list(existing(cache.entries()))


def total(files: Iterable[File]) -> int:
    """Return the bytes that `files` take; a file with two names takes them once."""
    return sum({(file.status.st_dev, file.status.st_ino): file.size for file in files}.values())
