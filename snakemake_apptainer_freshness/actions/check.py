"""Checking: comparing the image files on disk with their pins.

An image that has not been touched since it was last hashed costs a ``stat`` and a look into what is known of it, in the
user's state folder; it is not opened. Any other is read (its head), and hashed where a hash can prove something: where
a SIF of its size is known to be what the pin names, wherever that lay. Where that proves an image, the next check is
made cheap: its stat key is kept, unless `remember` is off, as it must be in a dry run.

Nothing here changes an image, or raises because of what lies there: whatever it is, there is a word for it.
"""

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.common.files import NotAFile, StatKey, opened, sha256_of, status_of
from snakemake_apptainer_freshness.common.parallel import in_parallel
from snakemake_apptainer_freshness.errors import CorruptImage
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState, FileHash
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import clock, index, places
from snakemake_apptainer_freshness.store import facts as known
from snakemake_apptainer_freshness.store.classify import (
    UNTOUCHED,
    FoundFile,
    classify,
    known_by_stat,
    needs_hash,
)
from snakemake_apptainer_freshness.store.facts import proving
from snakemake_apptainer_freshness.store.places import PlaceFact
from snakemake_apptainer_freshness.store.prefix import image_name, image_path

_NANOSECONDS: Final = 1_000_000_000
_TICK: Final = 0.01  # seconds, more than clocks of file systems are coarse
_PATIENCE: Final = 3
"""So often a file that is replaced while it is read is looked at again."""


def check(
    pins: Iterable[Pin], prefix: Path, *, full: bool = False, remember: bool = True, jobs: int | None = None
) -> dict[str, DiskFact]:
    """Return what lies in Snakemake's image folder `prefix` for each of `pins`, by the pin's url.

    `full` hashes every image of which something is known, whatever its stat key says. `jobs` threads read and hash
    (default: one a core).

    Raises
    ------
    UsageError
        where the user's state folder cannot be believed.
    """
    wanted = {pin.url: pin for pin in pins}
    vouched = [] if full else index.vouched(prefix, wanted.values())
    facts = {pin.url: _untouched(prefix, pin, known_as) for pin, known_as in vouched}
    untouched: list[Pin] = []
    open_questions: list[tuple[Pin, FoundFile]] = []
    for pin in wanted.values():
        if pin.url in facts:
            continue
        evidence = look(image_path(prefix, pin.url))
        if full or not _answered(evidence, pin):
            open_questions.append((pin, evidence))
            continue
        facts[pin.url] = classify(evidence, pin)
        if evidence.fact is not None:
            untouched.append(pin)
    if remember and len(untouched) >= DISK.index_from:
        index.build(prefix, untouched)
    if open_questions:
        answers = in_parallel(
            lambda asked: _read(*asked, remember=remember), open_questions, name="check", threads=jobs
        )
        facts.update({pin.url: fact for (pin, _), fact in zip(open_questions, answers, strict=True)})
    return {url: facts[url] for url in wanted}


def _untouched(prefix: Path, pin: Pin, known_as: FileHash) -> DiskFact:
    """Return what is said of an image that its facts vouch for."""
    path = f"{prefix}/{image_name(pin.url)}"
    return DiskFact(state=DiskState.VERIFIED, path=path, detail=UNTOUCHED, known=known_as)


def check_one(pin: Pin, image: Path, *, full: bool = False, remember: bool = True, read_only: bool = False) -> DiskFact:
    """Return what the file `image` is to `pin`; in a folder that is `read_only` to us, nothing is written to tell time.

    What is known of a place in such a folder is kept, even where its times cannot be trusted yet.
    """
    evidence = look(image)
    if not full and _answered(evidence, pin):
        return classify(evidence, pin)
    return _read(pin, evidence, remember=remember, read_only=read_only)


def check_settled(pins: Iterable[Pin], prefix: Path) -> dict[str, DiskFact]:
    """Hash the images of `pins` in `prefix`, which were just proven, once more, so that the next look is a ``stat``.

    For that their times must be :data:`~.settings.DiskLimits.settle` old by the clock of their file system; that is
    waited for. Gives those that are verified, by url.
    """
    wanted = list(pins)
    if not wanted:
        return {}
    with contextlib.suppress(OSError):
        newest = max(os.lstat(image_path(prefix, pin.url)).st_ctime_ns for pin in wanted)
        wait = (newest - clock.time_in(prefix)) / _NANOSECONDS + DISK.settle + _TICK
        time.sleep(min(max(wait, 0.0), DISK.settle + _TICK))
    facts = check(wanted, prefix)
    return {url: fact for url, fact in facts.items() if fact.state is DiskState.VERIFIED}


def look(image: Path) -> FoundFile:
    """Return what can be said of the file `image` without opening it: its status, and what is known of this place."""
    path = str(image)
    try:
        status = status_of(path)
    except FileNotFoundError:
        return FoundFile(path=path, exists=False)
    except NotAFile as error:
        return FoundFile(path=path, problem=f"not a file but {error}")
    except OSError as error:
        return FoundFile(path=path, problem=f"it cannot be read: {error.strerror}")
    place = places.load(image)
    return FoundFile(
        path=path,
        mode=status.st_mode,
        size=status.st_size,
        stat=StatKey.of(status),
        place=place,
        fact=place.content if place is not None else None,
    )


def _answered(evidence: FoundFile, pin: Pin) -> bool:
    return evidence.stat is None or known_by_stat(evidence, pin)


def _read(pin: Pin, evidence: FoundFile, *, remember: bool, read_only: bool = False) -> DiskFact:
    """Return what is read from the file.

    Asked again where it is replaced meanwhile, as another run may do.
    """
    for _ in range(_PATIENCE):
        if evidence.stat is None:
            return classify(evidence, pin)
        fact = _read_once(pin, evidence, remember=remember, read_only=read_only)
        if fact is not None:
            return fact
        evidence = look(Path(evidence.path))
    return classify(replace(evidence, stat=None, problem="it changes while it is read"), pin)


def _read_once(pin: Pin, evidence: FoundFile, *, remember: bool, read_only: bool) -> DiskFact | None:
    """Return what is read from the file; None where it changed meanwhile."""
    from snakemake_apptainer_freshness.apptainer import sif

    image = Path(evidence.path)
    hashed_at = 0
    evidence = replace(evidence, stat=None, candidates=known.about(pin))  # from here on the file itself is asked
    try:
        with opened(image) as file:
            before = StatKey.of(os.fstat(file.fileno()))
            evidence = replace(evidence, sif=sif.read(file), size=before.size)
            if needs_hash(evidence, pin):
                hashed_at = clock.time_or_past(image.parent, read_only=read_only) if remember else 0
                evidence = replace(evidence, sha256=sha256_of(file))
            if not before.same_file(StatKey.of(os.fstat(file.fileno()))):
                return None
    except CorruptImage as error:
        return classify(replace(evidence, problem=error.message), pin)
    except FileNotFoundError:
        return classify(FoundFile(path=evidence.path, exists=False), pin)
    except NotAFile as error:
        return classify(replace(evidence, sif=None, problem=f"not a file but {error}"), pin)
    except OSError as error:
        return classify(replace(evidence, sif=None, problem=f"it cannot be read: {error.strerror}"), pin)
    fact = classify(evidence, pin)
    if fact.known is None or not hashed_at:
        return fact
    settled = before.settled(hashed_at)
    if settled or read_only:
        _remember(image, evidence, before if settled else None)
    return replace(fact, known=replace(fact.known, stat=before)) if settled else fact


def _remember(image: Path, evidence: FoundFile, stat: StatKey | None) -> None:
    """Keep hash and stat key, so that the next check is a ``stat``, where that can be trusted and written."""
    fact = proving([*([evidence.fact] if evidence.fact else []), *evidence.candidates], evidence.sha256 or "")
    if fact is None:
        return
    exposed = evidence.place is not None and evidence.place.writable_by_all
    renewed = PlaceFact.of(fact, stat=stat, writable_by_all=exposed)
    if renewed != evidence.place:
        with contextlib.suppress(OSError):
            places.keep(image, renewed)
