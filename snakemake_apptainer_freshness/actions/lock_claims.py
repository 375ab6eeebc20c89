"""The platform table of a lock is a claim: it is held to the index that the digest names, which is fetched and hashed.

A lock may come with a pull request. Its digest cannot lie, since what is fetched by it is hashed; its table of
platforms can say anything. So where it decides something (``pin: platform``, whether a moved tag changed anything here,
what made old outputs, which blobs of Apptainer's cache are looked at), the index is asked for once, and what it has is
kept as a fact of content (:mod:`.store.facts`). For a policy's rule that is all that it has (:mod:`.offered`). A table
that says something else is an error that names its line.
"""

import contextlib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Protocol

from snakemake_apptainer_freshness.errors import DamagedAnswer, InvalidLock, NotLocked, RegistryError
from snakemake_apptainer_freshness.freshness import RemoteFact, RemoteState
from snakemake_apptainer_freshness.image import manifest
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.manifest import Index
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store import facts


class ManifestSource(Protocol):
    """Where manifests come from; a :class:`Resolver` is one."""

    def manifest(self, reference: Reference, digest: Digest) -> bytes:
        """Return the manifest or index `digest`; raises a RegistryError where it cannot be had."""


def proven_manifest(entry: Entry, platform: Platform, source: Callable[[], ManifestSource] | None) -> Digest | None:
    """Return the manifest for `platform` in what `entry` pins, as it was hashed.

    `source` is called where that is not known yet; without one nothing is asked. None where it is not known, or there
    is none.

    Raises
    ------
    RegistryError
        where the index cannot be had.
    """
    if not entry.platforms or entry.platforms.get(platform) == entry.digest:
        return entry.digest  # a single image, which names itself
    return _proven(entry.pinned, entry.digest, platform, source)


def proven_of_pin(pin: Pin, source: Callable[[], ManifestSource] | None) -> Digest | None:
    """Return the manifest that `pin` leads to on its platform, as :func:`proven_manifest` does."""
    if pin.manifest == pin.digest:
        return pin.digest
    return _proven(pin.pinned, pin.digest, pin.platform, source)


def _proven(
    pinned: Reference, digest: Digest, platform: Platform, source: Callable[[], ManifestSource] | None
) -> Digest | None:
    known = facts.manifest_of(digest, platform)
    if known is not None or source is None:
        return known
    body = source().manifest(pinned, digest)
    if not digest.matches(body):
        raise DamagedAnswer(f"something else is served as {digest.short} of {pinned.name}")
    document = manifest.parse(body, None)
    if isinstance(document, Index):
        chosen = manifest.choose(document, platform)
        same = chosen.digest if chosen is not None else None
        manifests = {**manifest.platforms(document), **({platform: same} if same is not None else {})}
    else:
        same, manifests = digest, {platform: digest}  # a single image, whatever it is for, names itself
    with contextlib.suppress(OSError):
        facts.keep_index(digest, manifests)
    return same


def claimed_and_proven(
    entry: Entry, remote: RemoteFact, platform: Platform, source: Callable[[], ManifestSource] | None
) -> Digest | None:
    """Return this platform's manifest in what `entry` pins, where the tag of `remote` moved and it says something.

    The index is asked for only where the lock claims what the tag points at now. None where it is not known.
    """
    if remote.state is not RemoteState.MOVED or remote.platforms.get(platform) is None:
        return None
    if entry.platforms.get(platform) != remote.platforms.get(platform):
        source = None
    try:
        return proven_manifest(entry, platform, source)
    except RegistryError:
        return None


def hold(entry: Entry, platform: Platform, source: Callable[[], ManifestSource] | None, *, lockfile: str) -> None:
    """Hold what the lock says of `entry` on `platform` to the index that it pins.

    Raises
    ------
    InvalidLock
        where the index has something else; the line of the lock is named.
    NotLocked
        where it is not known, and `source` is None.
    RegistryError
        where the index cannot be had.
    """
    claimed = entry.platforms.get(platform)
    if claimed is None:
        return
    proven = proven_manifest(entry, platform, source)
    if proven == claimed:
        return
    line = _line(Path(lockfile), entry, f'"{platform}"')
    where = f"{lockfile}{line}"
    if proven is None and source is None:
        raise NotLocked(
            f"{where} says that {entry.reference.text} is {claimed.short} on {platform}, which was not proven here yet",
            hint="run once where the registry can be reached, or pin: index",
        )
    has = f"has {proven.short}" if proven is not None else "has none"
    raise InvalidLock(
        f"{where} says that {entry.reference.text} is {claimed} on {platform}, but what its digest names {has}",
        hint="do not use this lock before you know who wrote that line; apptainer-freshness lock makes it anew",
    )


def hold_created(entry: Entry, day: date, platform: Platform, *, lockfile: str) -> None:
    """Hold what the lock says of when the image of `entry` was made to the `day` that its configuration proves.

    Of an image for several platforms the lock may mean another one's: its word is then let be, and decides nothing.

    Raises
    ------
    InvalidLock
        where it says another day; the line of the lock is named.
    """
    claimed = entry.hints.get("created")
    if claimed is None or claimed == day.isoformat() or set(entry.platforms) - {platform}:
        return
    raise InvalidLock(
        f"{lockfile}{_line(Path(lockfile), entry, 'created')} says that {entry.reference.text} was made on {claimed}, "
        f"but its own configuration says {day}",
        hint="do not use this lock before you know who wrote that line; without it the lock is completed anew",
    )


def hold_platforms(entry: Entry, offered: frozenset[Platform], *, lockfile: str) -> None:
    """Hold the platforms that the lock names for `entry` to those that what it pins was seen to have images for.

    A platform that the lock does not name is let be: its word decides nothing.

    Raises
    ------
    InvalidLock
        where it names one that is not there; the line of the lock is named.
    """
    for claimed in entry.platforms:
        if not any(platform.serves(claimed) for platform in offered):
            there = ", ".join(map(str, sorted(offered))) or "none"
            line = _line(Path(lockfile), entry, f'"{claimed}"')
            raise InvalidLock(
                f"{lockfile}{line} says that {entry.reference.text} has an image for {claimed}, "
                f"but what its digest names has images for {there}",
                hint="do not use this lock before you know who wrote that line; apptainer-freshness lock makes it anew",
            )


def _line(path: Path, entry: Entry, key: str) -> str:
    """Name the line of the lock at `path` that has the claim `key`; empty where it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    within = False
    for number, line in enumerate(lines, start=1):
        if line.startswith("reference"):
            within = entry.reference.text in line
        elif within and line.startswith(key):
            return f", line {number},"
    return ""
