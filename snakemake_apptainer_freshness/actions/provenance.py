"""Provenance: deciding whether an output was made by the very image that its rule runs now.

Snakemake records of each output the container's url and the time when its job started. A :class:`Target` is what the
rule runs now. What is concluded from what, and asking no registry:

* **A url that names a digest** says it all: the same digest, or one that has the same manifest for this platform (the
  lock's platforms, an index that was hashed, or the memory say which manifest an index has).
* **A url that names a tag** says nothing by itself; the image file that lies under its name may, where it is
  proven, as in :mod:`.store.classify`; or it was proven before, and is remembered (:mod:`.store.history`).
* **Only the file that made the output counts.** One that was modified after the job had started is another one,
  whatever it is.

The answer is `same`, `other`, or `unknown`: never `same` without proof, and never `other` because of a missing one.
"""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from snakemake_apptainer_freshness.actions.check import check_one, look
from snakemake_apptainer_freshness.actions.lock_claims import proven_manifest
from snakemake_apptainer_freshness.common.files import NotAFile, StatKey, opened, sha256_of
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.freshness import DiskState
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference, parse
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import DISK, PinKind
from snakemake_apptainer_freshness.store import clock, facts
from snakemake_apptainer_freshness.store.history import ProvenTag, TagHistory
from snakemake_apptainer_freshness.store.prefix import image_path

_NANOSECONDS: Final = 1_000_000_000


class Attribution(StrEnum):
    """Whether an output was made by the image that its rule runs now."""

    SAME = "same"
    OTHER = "other"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributionResult:
    """An `answer`, and in one line how it is known, or why it is not."""

    answer: Attribution
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a rule runs now: the `url`, held to the index and to this platform's manifest by `pins`.

    `references` are the workflow's texts for it, `digests` all that name its content, `manifest` this platform's, where
    that is known.
    """

    url: str
    references: tuple[Reference, ...]
    pins: tuple[Pin, ...]
    digests: frozenset[Digest]
    manifest: Digest | None

    @classmethod
    def of(cls, entry: Entry, *, kind: PinKind, platform: Platform) -> Self:
        """Return what the rules of the lock's `entry` run on a machine of `platform`.

        Raises
        ------
        NotLocked
            where a platform's manifest is asked for and the lock has none.
        """
        pins = [Pin.of(entry, platform=platform)]
        here = proven_manifest(entry, platform, None)
        if here is not None and here == entry.platforms.get(platform):
            pins.append(Pin.of(entry, platform=platform, kind=PinKind.PLATFORM))
        manifest = here or (None if entry.platforms else entry.digest)
        return cls(
            url=entry.pinned_to(kind, platform).text,
            references=(entry.reference,),
            pins=tuple(pins),
            digests=frozenset({entry.digest, manifest or entry.digest}),
            manifest=manifest,
        )

    @property
    def platform(self) -> Platform:
        """The machine's."""
        return self.pins[0].platform

    def joined(self, other: "Target") -> "Target":
        """Return this target, named by the references of `other` as well, which runs the same url."""
        return replace(
            self,
            references=(*self.references, *other.references),
            pins=tuple(dict.fromkeys((*self.pins, *other.pins))),
            digests=self.digests | other.digests,
        )

    def is_meant_by(self, url: str) -> bool:
        """Return whether `url` is what the workflow says, or another digest of the same repository.

        Otherwise the author wrote another image into the rule, and there is nothing to prove.
        """
        try:
            made = parse(url)
        except FreshnessError:
            return False
        if made.digest is None:
            return made in self.references
        return made.name in {reference.name for reference in self.references}


def targets_of(entries: Iterable[Entry], *, kind: PinKind, platform: Platform) -> dict[str, Target]:
    """Return what rules run for each of `entries`, by the url that they run."""
    targets: dict[str, Target] = {}
    for entry in entries:
        target = Target.of(entry, kind=kind, platform=platform)
        targets[target.url] = targets[target.url].joined(target) if target.url in targets else target
    return targets


class Origins:
    """Finds which image made each output, by the image folder `prefix` and the `memory`.

    Without `remember` nothing is written beside an image, as in a dry run; what is learned is in `memory` alone.
    """

    def __init__(self, prefix: Path, memory: TagHistory, *, remember: bool) -> None:
        self.prefix = prefix
        self.memory = memory
        self._remember = remember
        self._looked: dict[tuple[str, str], AttributionResult] = {}

    def judge(self, url: str, started: float | None, target: Target) -> AttributionResult:
        """Return whether what `url` ran when a job `started` (seconds since the epoch) is what `target` runs now."""
        try:
            made = parse(url)
        except FreshnessError as error:
            return AttributionResult(answer=Attribution.UNKNOWN, detail=error.message)
        if made.digest is not None:
            return self._by_digest(made.digest, target)
        if made.scheme is Scheme.FILE or not made.scheme.is_provable:
            return AttributionResult(answer=Attribution.UNKNOWN, detail="no digest can be found for such a source")
        if started is None:
            return AttributionResult(answer=Attribution.UNKNOWN, detail="Snakemake did not record when it was made")
        if (known := self._remembered(url, started, target)) is not None:
            return known
        return self._by_file(made, started, target)

    def image_of(self, url: str, started: float) -> Path | None:
        """Return the image file that made an output, where it is still there."""
        image = image_path(self.prefix, url)
        return None if self._why_not(image, started) else image

    def learn(self, url: str, image: Path, pin: Pin, *, sha256: str, proven_by: str) -> None:
        """Remember that the file `image` of `url` was just proven to be what `pin` names."""
        key = look(image).stat
        if key is None:
            return
        self._looked.clear()
        self.memory.learn(
            ProvenTag(
                url=url,
                digest=pin.digest,
                manifest=pin.manifest,
                platform=pin.platform,
                since=key.mtime_ns / _NANOSECONDS,
                until=time.time(),
                sha256=sha256,
                stat=self._settled(image, key),
                proven_by=proven_by,
            )
        )

    def _by_digest(self, digest: Digest, target: Target) -> AttributionResult:
        how = f"its url names {digest.short}"
        manifest = self.memory.manifest(digest, target.platform)
        if digest in target.digests or manifest is not None:
            return _compared(digest, manifest, target, how)
        if (manifest := facts.manifest_of(digest, target.platform)) is not None:
            self.memory.learn_manifests(digest, {target.platform: manifest})
        return _compared(digest, manifest, target, how)

    def _remembered(self, url: str, started: float, target: Target) -> AttributionResult | None:
        """Return what the memory says of an output that `url` made; None where it says nothing."""
        for seen in self.memory.images(url):
            if seen.covers(started) and seen.platform == target.platform:
                return self._by_seen(seen, target)
        return None

    def _by_seen(self, seen: ProvenTag, target: Target) -> AttributionResult:
        if seen.digest in target.digests:
            return AttributionResult(answer=Attribution.SAME, detail=seen.proven_by)
        manifest = seen.manifest or self.memory.manifest(seen.digest, seen.platform)
        return _compared(seen.digest, manifest, target, seen.proven_by)

    def _by_file(self, made: Reference, started: float, target: Target) -> AttributionResult:
        image = image_path(self.prefix, made.text)
        if why_not := self._why_not(image, started):
            return AttributionResult(answer=Attribution.UNKNOWN, detail=why_not)
        key = made.text, target.url
        if key not in self._looked:
            self._looked[key] = self._look_at(made.text, image, target)
        return self._looked[key]

    def _why_not(self, image: Path, started: float) -> str:
        """Return why the file `image` is not what ran when a job `started`; empty where it is."""
        evidence = look(image)
        if not evidence.exists:
            return f"its image is no longer in {self.prefix}"
        if evidence.stat is None:
            return evidence.problem
        if evidence.stat.mtime_ns / _NANOSECONDS > started + DISK.settle:
            return "its image file was replaced after it was made"
        return ""

    def _look_at(self, url: str, image: Path, target: Target) -> AttributionResult:
        """Return what is known of the file, and what was remembered of it."""
        if (seen := self._seen_again(url, image)) is not None:
            return self._by_seen(seen, target)
        detail = ""
        for pin in (*_known_pin(image), *target.pins):
            fact = check_one(pin, image, remember=self._remember)
            if fact.state is DiskState.VERIFIED:
                known = look(image).fact
                self.learn(url, image, pin, sha256=known.sha256 if known else "", proven_by=fact.detail)
                manifest = pin.manifest or self.memory.manifest(pin.digest, pin.platform)
                return _compared(pin.digest, manifest, target, fact.detail)
            detail = detail or f"its image is {fact.state}: {fact.detail}"
        return AttributionResult(answer=Attribution.UNKNOWN, detail=detail)

    def _seen_again(self, url: str, image: Path) -> ProvenTag | None:
        """Return what is remembered of this very file, which is known by its stat key, or else by its hash."""
        known = self.memory.images(url)
        now = look(image).stat
        if now is None or not known:
            return None
        for seen in known:
            if seen.stat is not None and seen.stat.same_file(now):
                return self._once_more(seen, seen.stat)
        if not any(seen.sha256 for seen in known):
            return None
        hashed = hash_of(image)
        for seen in known:
            if seen.sha256 and seen.sha256 == hashed:
                since = now.mtime_ns / _NANOSECONDS
                return self._once_more(replace(seen, since=since), self._settled(image, now))
        return None

    def _settled(self, image: Path, key: StatKey) -> StatKey | None:
        """`key`, if the file can be known again by it."""
        return key if self._remember and key.settled(_clock(image.parent)) else None

    def _once_more(self, seen: ProvenTag, key: StatKey | None) -> ProvenTag:
        again = replace(seen, until=time.time(), stat=key)
        self.memory.learn(again)
        return again


def _compared(digest: Digest, manifest: Digest | None, target: Target, how: str) -> AttributionResult:
    """Return what follows where `digest` made an output, which has `manifest` for this platform.

    `how` says what is known.
    """
    if digest in target.digests:
        return AttributionResult(answer=Attribution.SAME, detail=how)
    if manifest is not None and manifest in target.digests:
        detail = f"{how}, whose image for {target.platform} is the same"
        return AttributionResult(answer=Attribution.SAME, detail=detail)
    if manifest is not None and target.manifest is not None:
        return AttributionResult(answer=Attribution.OTHER, detail=f"{how}, which is another image")
    return AttributionResult(
        answer=Attribution.UNKNOWN, detail=f"{how}; what that has for {target.platform} is not known"
    )


def _known_pin(image: Path) -> Iterator[Pin]:
    """Yield what the file `image` was found to be when it was last looked at, if it was."""
    fact = look(image).fact
    if fact is not None:
        with contextlib.suppress(FreshnessError):
            yield fact.pin()


def hash_of(image: Path) -> str:
    """Return the SHA-256 of the file; empty where it cannot be read, or changes meanwhile."""
    try:
        with opened(image) as file:
            before = StatKey.of(os.fstat(file.fileno()))
            sha256 = sha256_of(file)
            return sha256 if before.same_file(StatKey.of(os.fstat(file.fileno()))) else ""
    except (OSError, NotAFile):
        return ""


def _clock(folder: Path) -> int:
    """Return the file system's clock; 0 where the folder cannot be written."""
    try:
        return clock.time_in(folder)
    except OSError:
        return 0
