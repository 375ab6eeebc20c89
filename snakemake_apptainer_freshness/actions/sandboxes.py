"""Checking sandbox folders: comparing one with a pin, as :mod:`.actions.check` does for a SIF.

A sandbox is many files. One that was proven and has not changed since costs a ``stat`` of each; any other is read whole
where a hash can prove something, which is where a sandbox is known to be what the pin names, wherever that lay. Nothing
is written into it.
"""

import contextlib
import time
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.apptainer import sandbox
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState, FileHash
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import LIBRARY
from snakemake_apptainer_freshness.store import facts, places
from snakemake_apptainer_freshness.store.classify import UNTOUCHED
from snakemake_apptainer_freshness.store.facts import ContentFact, proving
from snakemake_apptainer_freshness.store.places import PlaceFact

_NANOSECONDS: Final = 1_000_000_000


def check_sandbox(pin: Pin, path: Path, *, full: bool = False, remember: bool = True) -> DiskFact:
    """Return what the sandbox folder at `path` is to `pin`; `full` reads it whatever its files' stat keys say."""
    try:
        seen = sandbox.survey(path)
        place = places.load(path)
        fact = place.content if place is not None else None
        untouched = place is not None and place.survey == seen.key and not full
        if untouched and fact is not None and fact.is_about(pin) and not fact.refuted:
            return _by(fact, path, UNTOUCHED, seen)
        candidates = [candidate for candidate in facts.about(pin) if candidate.size == seen.size]
        if candidates:
            read = sandbox.read(path)
            if known := proving(candidates, read.sha256):
                if remember and not known.refuted:
                    keep_place(path, known, read.survey)
                return _by(known, path, f"its tree is the one recorded on {known.proven_at}", read.survey)
        if fact is not None and fact.is_about(pin):
            detail = f"its files are no longer those that were recorded on {fact.proven_at}"
            return DiskFact(state=DiskState.ALTERED, path=str(path), detail=detail)
    except FileNotFoundError:
        return DiskFact(state=DiskState.ABSENT, path=str(path), detail="no such folder")
    except NotComparable as reason:
        return DiskFact(
            state=DiskState.UNBOUND, path=str(path), detail=f"a sandbox folder that proves nothing: {reason}"
        )
    except OSError as error:
        return DiskFact(state=DiskState.CORRUPT, path=str(path), detail=f"it cannot be read: {error.strerror}")
    return _by_label(pin, path)


def held_sandbox(path: Path, known: FileHash) -> DiskFact:
    """Return what the sandbox folder at `path` is, whose tree hashed to `known` when it was proven."""
    state, detail = DiskState.ALTERED, "its tree is not the one that this run proved"
    try:
        if known.survey and known.survey == sandbox.survey(path).key:
            return _verified(path, "untouched since this run proved it", known, known.survey)
        read = sandbox.read(path)
        if read.sha256 == known.sha256:
            now = FileHash(sha256=read.sha256, survey=read.survey.key if _is_settled(read.survey) else "")
            return _verified(path, "its tree is the one that this run proved", now, read.survey.key)
    except FileNotFoundError:
        state, detail = DiskState.ABSENT, "no such folder"
    except NotComparable as reason:
        state, detail = DiskState.UNBOUND, f"a sandbox folder that proves nothing: {reason}"
    except OSError as error:
        state, detail = DiskState.CORRUPT, f"it cannot be read: {error.strerror}"
    return DiskFact(state=state, path=str(path), detail=detail)


def keep_place(path: Path, fact: ContentFact, survey: sandbox.Survey) -> None:
    """Make the next check of `path` a look at its files, as far as that can be trusted and written."""
    with contextlib.suppress(OSError):
        places.keep(path, PlaceFact.of(fact, survey=survey.key if _is_settled(survey) else ""))


def _is_settled(survey: sandbox.Survey) -> bool:
    return survey.newest_ns < time.time_ns() - int(LIBRARY.settle * _NANOSECONDS)


def _by(fact: ContentFact, path: Path, detail: str, survey: sandbox.Survey) -> DiskFact:
    says = f", says the fact store {fact.store}" if fact.store else ""
    if fact.refuted:
        return DiskFact(state=DiskState.STALE, path=str(path), detail=fact.refuted + says, store=fact.store)
    known = FileHash(sha256=fact.sha256, survey=survey.key if _is_settled(survey) else "")
    return _verified(path, detail + says, known, survey.key, store=fact.store)


def _verified(path: Path, detail: str, known: FileHash, survey: str, *, store: str = "") -> DiskFact:
    state = DiskState.VERIFIED
    return DiskFact(state=state, path=str(path), detail=detail, store=store, known=known, survey=survey)


def _by_label(pin: Pin, path: Path) -> DiskFact:
    tag = sandbox.pulled_reference(sandbox.labels(path))
    digest = _digest(tag)
    if digest is None:
        detail = f"a sandbox folder of {tag}, a tag" if tag else "a sandbox folder that does not say what it is of"
        return DiskFact(state=DiskState.UNBOUND, path=str(path), detail=" ".join(detail.split()))
    if pin.names(digest):
        detail = f"a sandbox folder whose label says that it was made of {digest.short}"
        return DiskFact(state=DiskState.BOUND, path=str(path), detail=detail)
    detail = f"a sandbox folder of {digest.short}, the pin is {pin.digest.short}"
    return DiskFact(state=DiskState.STALE, path=str(path), detail=detail)


def _digest(pulled: str) -> Digest | None:
    with contextlib.suppress(FreshnessError):
        return parse(f"docker://{pulled}").digest if pulled else None
    return None
