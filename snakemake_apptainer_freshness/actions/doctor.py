"""The doctor: folders of images, and what in them is wrong or only takes space.

A *problem* is what makes a run fail, or an image there worth nothing; *slow* is what makes it wait. *Space* is what no
lock needs any more, or what lies there twice: it does no harm, and its size is told. Nothing is deleted or moved;
nothing is hashed: two files are the same build where their headers (each build has its own identity) and sizes are.
"""

import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.actions import machine
from snakemake_apptainer_freshness.actions.folders import (
    File,
    Folder,
    cache_folders,
    describe,
    entries_in,
    existing,
    images_in,
    items_in,
    site_folders,
    temporary_folder,
    total,
)
from snakemake_apptainer_freshness.actions.lock_io import read_lock
from snakemake_apptainer_freshness.actions.machine import KnownLogin, MachineProblem, ProgramVersion, Variable
from snakemake_apptainer_freshness.actions.mounting import KIND as SLOW
from snakemake_apptainer_freshness.actions.mounting import cannot_mount, slowness
from snakemake_apptainer_freshness.actions.survey import LockedPins
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
from snakemake_apptainer_freshness.common.environment import temporary_folder as temporary_files
from snakemake_apptainer_freshness.common.files import NotAFile, opened, writable_by_all
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import prefix as image_folder
from snakemake_apptainer_freshness.store import sites
from snakemake_apptainer_freshness.store.prefix import ItemKind
from snakemake_apptainer_freshness.store.sites import Site

_HEADER: Final = 128
"""Bytes of a SIF that hold the identity of the build."""
_SCARCE: Final = 1024**3
"""Bytes of free space below which an image may well not fit."""
_STALE_LOCK: Final = 4 * DISK.lease
_LISTED: Final = 5
_FREE: Final = "free them with: apptainer-freshness gc"
_KEEP: Final = (
    "another workflow may need them, and 'apptainer-freshness adopt' proves by them what plain Snakemake made here; "
    "after that, see what is needed no more with: apptainer-freshness gc --foreign"
)


class Weight(StrEnum):
    """How severe a finding is."""

    PROBLEM = "problem"
    SLOW = "slow"
    SPACE = "space"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorFinding:
    """One thing that was found; `size` is the bytes that it takes, `paths` where it is."""

    weight: Weight
    kind: str
    text: str
    hint: str
    paths: tuple[str, ...] = ()
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All that the doctor has found."""

    versions: list[ProgramVersion]
    folders: list[Folder]
    variables: list[Variable]
    logins: list[KnownLogin]
    registries: list[str]
    findings: list[DoctorFinding]


def diagnose(prefix: Path, lockfile: Path | None, environment: Mapping[str, str] | None = None) -> Diagnosis:
    """Look at this machine, at Snakemake's image folder `prefix`, at the caches, and at the lock here, if any."""
    environment = os.environ if environment is None else environment
    caches = {family: CacheFolder.of(environment, family=family) for family in ("apptainer", "singularity")}
    roots = {cache.root: cache for cache in caches.values() if cache is not None}
    locked, problems = _lock(lockfile)
    logins, more = machine.logins(environment)
    problems += more
    registries, more = machine.registries(environment)
    problems += more
    problems += machine.wrong_values(environment)
    if (unmountable := cannot_mount(environment)) is not None:
        problems.append(unmountable)
    site, more = _site()
    problems += more
    versions = machine.versions(environment)
    if not any(version.version for version in versions if version.name in ("apptainer", "singularity")):
        problems.append(_no_program())
    folders = [
        describe("image folder", prefix, images_in(prefix)),
        *cache_folders(caches),
        temporary_folder(environment),
    ]
    findings = [_of_problem(problem) for problem in problems]
    findings += [_of_problem(problem) for problem in slowness(environment, temporary_files(environment))]
    findings += _of_folders(folders, environment)
    findings += _of_prefix(prefix, locked)
    for cache in roots.values():
        findings += _of_cache(cache)
    findings += _duplicates([*images_in(prefix), *(file for cache in roots.values() for file in entries_in(cache))])
    findings.sort(key=lambda finding: (list(Weight).index(finding.weight), -finding.size))
    return Diagnosis(
        versions=versions,
        folders=[*folders, *site_folders(site)],
        variables=machine.variables(environment),
        logins=logins,
        registries=registries,
        findings=findings,
    )


def _of_problem(problem: MachineProblem) -> DoctorFinding:
    weight = Weight.SLOW if problem.kind == SLOW else Weight.PROBLEM
    return DoctorFinding(weight=weight, kind=problem.kind, text=problem.text, hint=problem.hint)


def _lock(lockfile: Path | None) -> tuple[LockedPins | None, list[MachineProblem]]:
    if lockfile is None:
        return None, []
    try:
        return LockedPins.of(read_lock(lockfile)), []
    except FreshnessError as error:
        return None, [MachineProblem(kind="lock", text=error.message, hint=error.hint)]


def _site() -> tuple[Site, list[MachineProblem]]:
    """Return what this machine and its user name beside the user's own, and what of it cannot be believed."""
    try:
        site = sites.site()
    except FreshnessError as error:
        return Site(), [MachineProblem(kind="site", text=error.message, hint=error.hint)]
    refused = [refusal for store in site.stores if (refusal := store.refusal()) is not None]
    return site, [MachineProblem(kind="site", text=error.message, hint=error.hint) for error in refused]


def _no_program() -> MachineProblem:
    return MachineProblem(
        kind="program",
        text="neither apptainer nor singularity can be used from PATH",
        hint="install Apptainer 1.0 or later, or load its environment module",
    )


def _finding_about(
    weight: Weight, kind: str, what: tuple[str, str], files: Iterable[File], hint: str
) -> Iterator[DoctorFinding]:
    """Yield one finding for all of `files`; none where there are none. `what` is a noun, and what follows it."""
    listed = list(files)
    if listed:
        noun, rest = what
        yield DoctorFinding(
            weight=weight,
            kind=kind,
            text=f"{len(listed)} {noun}{'' if len(listed) == 1 else 's'} {rest}",
            hint=hint,
            paths=tuple(str(file.path) for file in listed),
            size=total(listed),
        )


def _of_folders(folders: Iterable[Folder], environment: Mapping[str, str]) -> Iterator[DoctorFinding]:
    for folder in folders:
        if not folder.path:
            continue
        problems = []
        if not folder.writable:
            problems.append(("permissions", "is not ours to write", "make it writable, or choose another one"))
        if folder.exists and folder.mode & stat.S_IWOTH and not folder.mode & stat.S_ISVTX:
            problems.append(
                ("permissions", f"can be written by every user (mode {folder.mode:04o})", f"chmod o-w {folder.path}")
            )
        if folder.free is not None and folder.free < _SCARCE:
            problems.append(("disk", "has less than 1 GiB free", "make room, or choose a larger disk"))
        for kind, what, hint in problems:
            text = f"the folder for {folder.name}, {folder.path}, {what}"
            yield DoctorFinding(weight=Weight.PROBLEM, kind=kind, text=text, hint=hint, paths=(folder.path,))
    if environment.get("APPTAINER_CACHEDIR") == "":
        yield DoctorFinding(
            weight=Weight.PROBLEM,
            kind="environment",
            text="APPTAINER_CACHEDIR is set and empty: Snakemake then keeps its images in the working directory itself",
            hint="unset it, or give it a folder",
        )


def _of_prefix(prefix: Path, locked: LockedPins | None) -> Iterator[DoctorFinding]:
    by_kind: dict[ItemKind, list[File]] = {kind: [] for kind in ItemKind}
    names = set()
    if prefix.is_dir() and not os.access(prefix, os.R_OK | os.X_OK):
        yield _of_problem(
            MachineProblem(kind="permissions", text=f"the image folder {prefix} cannot be read", hint="ask its owner")
        )
    for item in items_in(prefix):
        by_kind[item.kind] += existing([item.path])
        names.add(item.path.name)
    images = by_kind[ItemKind.IMAGE]
    yield from _of_images(images, "the image folder", "apptainer-freshness verify --repair")
    now = time.time()
    old_locks = [file for file in by_kind[ItemKind.LOCK] if now - file.status.st_mtime > _STALE_LOCK]
    yield from _finding_about(
        Weight.SPACE, "stale lock", ("lock", "in the image folder without a sign of life"), old_locks,
        "the next fetch of that image breaks such a lock; nothing to do",
    )  # fmt: skip
    partial = [file for file in by_kind[ItemKind.PARTIAL] if now - file.status.st_mtime > DISK.leftover]
    yield from _finding_about(
        Weight.SPACE, "leftover", ("unfinished file", "of killed pulls in the image folder"), partial, _FREE
    )
    yield from _finding_about(
        Weight.SPACE, "quarantined", ("file", "that was moved aside, not being what its pin names"),
        by_kind[ItemKind.QUARANTINE], f"once no result that was made with them is in doubt, {_FREE}",
    )  # fmt: skip
    orphans = [file for file in by_kind[ItemKind.RECORD] if file.path.name.removesuffix(".freshness.json") not in names]
    yield from _finding_about(Weight.SPACE, "orphan record", ("record", "whose image is gone"), orphans, _FREE)
    if locked is not None:
        unused = [file for file in images if file.path.name not in locked.by_name]
        yield from _finding_about(
            Weight.SPACE, "unreferenced", ("image", "in the image folder that the lock here does not name"), unused,
            _KEEP,
        )  # fmt: skip


def _of_cache(cache: CacheFolder) -> Iterator[DoctorFinding]:
    yield from _of_images(entries_in(cache), "Apptainer's cache", "apptainer-freshness verify --repair")
    leftovers = [left for left in cache.leftovers() if left.age > DISK.leftover]
    yield from _finding_about(
        Weight.SPACE, "leftover", ("leftover", f"of killed pulls in {cache.root}"),
        existing(left.path for left in leftovers), _FREE,
    )  # fmt: skip
    aside = [path for folder in sorted(cache.root.glob("*")) if folder.is_dir() for path in _quarantined(folder)]
    yield from _finding_about(
        Weight.SPACE, "quarantined", ("file", f"moved aside in {cache.root}"), existing(aside),
        f"once no result that was made with them is in doubt, {_FREE}",
    )  # fmt: skip


def _quarantined(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(path for path in folder.iterdir() if image_folder.QUARANTINE in path.name)
    except OSError:
        return


def _of_images(images: list[File], where: str, mend: str) -> Iterator[DoctorFinding]:
    regular = [file for file in images if stat.S_ISREG(file.status.st_mode)]
    yield from _finding_about(
        Weight.PROBLEM, "not a file", ("link, folder or device", f"in place of an image in {where}"),
        [file for file in images if file not in regular], f"move them away, then run: {mend}",
    )  # fmt: skip
    yield from _finding_about(
        Weight.PROBLEM, "empty", ("empty image", f"in {where}"), [file for file in regular if not file.size],
        f"run: {mend}",
    )  # fmt: skip
    yield from _finding_about(
        Weight.PROBLEM, "permissions", ("image", f"in {where} that every user can write to"),
        [file for file in regular if writable_by_all(file.status.st_mode)],
        f"they prove nothing: chmod o-w, then run: {mend}",
    )  # fmt: skip
    yield from _finding_about(
        Weight.PROBLEM, "permissions", ("image", f"in {where} that we cannot read"),
        [file for file in regular if not os.access(file.path, os.R_OK)], "ask their owner, or choose another folder",
    )  # fmt: skip


def _duplicates(files: Iterable[File]) -> Iterator[DoctorFinding]:
    """Yield files that are the same build, in whatever folders; only the size that could be saved is counted."""
    by_size: dict[int, list[File]] = {}
    for file in {(duplicate.status.st_dev, duplicate.status.st_ino): duplicate for duplicate in files}.values():
        if file.size > _HEADER and stat.S_ISREG(file.status.st_mode):
            by_size.setdefault(file.size, []).append(file)
    same: dict[tuple[int, bytes], list[File]] = {}
    for size, alike in by_size.items():
        if len(alike) > 1:
            for file in alike:
                same.setdefault((size, _identity(file.path)), []).append(file)
    extra = [file for (_, identity), alike in same.items() if identity for file in alike[1:]]
    yield from _finding_about(
        Weight.SPACE, "duplicate", ("image", "stored a second time, most often in Apptainer's cache"),
        extra, "Snakemake needs those in its image folder only: 'apptainer cache clean' frees the others, and with "
        "them the layers that prove old outputs; run 'apptainer-freshness adopt' first where there are any",
    )  # fmt: skip


def _identity(path: Path) -> bytes:
    try:
        with opened(path) as file:
            return file.read(_HEADER)
    except (OSError, NotAFile):
        return b""


def paths_shown(finding: DoctorFinding) -> tuple[tuple[str, ...], int]:
    """Return the first paths of a finding, and how many more there are; none for one that names its folder already."""
    return finding.paths[:_LISTED], max(0, len(finding.paths) - _LISTED)
