"""Verifying: checking many images at once, and repairing those that are not proven.

Hashing is what takes the time. Each core reads a file, and a bar shows how many were read.

Mending changes three things alone. What the lock names and cannot be proven is fetched anew by its digest
(:mod:`.actions.fetch`), and the former file moved aside. A damaged file in Snakemake's image folder or in Apptainer's
cache that no lock here names is moved aside, so that the next run that needs it fetches it again. A file of a person,
given by its path or named by the lock as a file, is never touched.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from snakemake_apptainer_freshness.actions.fetch import FetchOutcome, Report, Result, fetch
from snakemake_apptainer_freshness.actions.survey import Candidate, ImageLocation, LockedPins, SurveyedImage, examine
from snakemake_apptainer_freshness.common.files import quarantine
from snakemake_apptainer_freshness.common.locks import exclusive
from snakemake_apptainer_freshness.common.parallel import in_parallel
from snakemake_apptainer_freshness.common.progress import ProgressBars
from snakemake_apptainer_freshness.errors import FreshnessError, LocalIOError
from snakemake_apptainer_freshness.freshness import DiskState
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store import places, records

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.actions.image_content import BlobSource

_BAR: Final = "checking images"


def verify(
    candidates: Iterable[Candidate], locked: LockedPins, *, full: bool = False, libraries: Iterable[Path] = ()
) -> tuple[list[SurveyedImage], int]:
    """Return what each candidate is, in their order; and how many cache entries can be attributed to nothing.

    `libraries` are those that a workflow names, beside those of the machine.
    """
    named = tuple(libraries)
    todo = list(candidates)
    with ProgressBars() as bars:
        bars.begin(_BAR, len(todo))
        answers = in_parallel(
            lambda candidate: examine(candidate, locked, full=full, libraries=named),
            todo,
            name="verify",
            done=lambda _: bars.advance(_BAR),
        )
    images = [answer for answer in answers if answer is not None]
    return images, len(answers) - len(images)


def deepen(
    images: Iterable[SurveyedImage], registry: "BlobSource"
) -> tuple[list[SurveyedImage], list[tuple[SurveyedImage, FreshnessError]]]:
    """Return `images`, after each that is sound and not proven was compared with the layers of what its pin names.

    What cannot be compared, since a registry or a program is not to be had, stays as it is and has an error.
    """
    from snakemake_apptainer_freshness.actions.prove import prove

    deeper: list[SurveyedImage] = []
    failed: list[tuple[SurveyedImage, FreshnessError]] = []
    with ProgressBars() as bars:
        for image in images:
            deeper.append(image)
            if image.pin is None or not _is_comparable(image):
                continue
            bars.begin(image.pin.reference.text)
            try:
                proof = prove(image.pin, Path(image.fact.path), registry=registry)
                deeper[-1] = replace(image, fact=proof.fact, differences=proof.differences)
            except FreshnessError as error:
                failed.append((image, error))
            bars.end(image.pin.reference.text)
    return deeper, failed


def _is_comparable(image: SurveyedImage) -> bool:
    return (
        image.place is not ImageLocation.CACHE
        and image.fact.state in (DiskState.BOUND, DiskState.UNBOUND)
        and image.pin is not None
        and image.pin.pinned.scheme is Scheme.DOCKER
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What was done about one image: it was fetched, moved `aside`, or found to be sound; or that could not be done."""

    path: Path
    reference: str = ""
    fetched: bool = False
    aside: Path | None = None
    error: FreshnessError | None = None


def mend(
    images: Iterable[SurveyedImage],
    locked: LockedPins,
    prefix: Path,
    *,
    jobs: int | None = None,
    report: Report | None = None,
    libraries: Iterable[Path] = (),
) -> list[Repair]:
    """Fetch what the lock names and is not proven, or use what a library has of it; move aside what else is damaged.

    Raises
    ------
    LocalIOError
        where the image folder cannot be made.
    """
    bad = [image for image in images if image.is_finding]
    locked_pins = [image.pin for image in bad if image.place is ImageLocation.LOCK and image.pin is not None]
    wanted = [pin for pin in locked_pins if is_fetchable(pin)]
    mended = [_fetched(result) for result in fetch(wanted, prefix, jobs=jobs, report=report, libraries=libraries)]
    mended += [_left_alone(pin) for pin in locked_pins if pin.pinned.scheme is Scheme.FILE]
    mended += [_moved_aside(image, locked) for image in bad if image.is_ours_to_move]
    return mended


def is_fetchable(pin: Pin) -> bool:
    """Return whether the image of `pin` can be fetched and then proven; a file of this machine is never fetched."""
    return pin.reference.scheme.is_provable and pin.pinned.scheme is not Scheme.FILE


def _fetched(result: Result) -> Repair:
    return Repair(
        path=Path(result.fact.path),
        reference=result.pin.reference.text,
        fetched=result.outcome in (FetchOutcome.PULLED, FetchOutcome.COPIED),
        aside=result.quarantined,
        error=result.error,
    )


def _left_alone(pin: Pin) -> Repair:
    error = LocalIOError(
        f"{pin.reference.text} is a file of this machine, which no registry can give back",
        hint="put the file back, or accept it as it is now with a run in mode update",
    )
    return Repair(path=Path(pin.pinned.path), reference=pin.reference.text, error=error)


def _moved_aside(image: SurveyedImage, locked: LockedPins) -> Repair:
    """Move one damaged file aside, if it still is damaged once no other process works on it."""
    path = Path(image.fact.path)
    reference = image.pin.reference.text if image.pin else ""
    try:
        with exclusive(path):
            again = examine(Candidate(place=image.place, path=path), locked, full=True)
            if again is None or not again.is_ours_to_move:
                return Repair(path=path, reference=reference)
            aside = quarantine(path)
            places.forget(path)
            with contextlib.suppress(FileNotFoundError):
                records.path_of(path).unlink()
    except FreshnessError as error:
        return Repair(path=path, reference=reference, error=error)
    except OSError as error:
        failed = LocalIOError(
            f"cannot move {path} aside: {error.strerror}", hint=f"make {path.parent} writable, or move it yourself"
        )
        return Repair(path=path, reference=reference, error=failed)
    return Repair(path=path, reference=reference, aside=aside)
