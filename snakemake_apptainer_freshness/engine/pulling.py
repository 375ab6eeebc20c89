"""Fetching images inside a run: what the user sees of it, and one error for all that could not be had.

Loaded only where an image is missing or unproven, which most processes of a run never meet.
"""

import contextlib
import functools
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from snakemake_apptainer_freshness.actions import library_images
from snakemake_apptainer_freshness.actions.attest import Attestor, LazyRegistries, attest_all
from snakemake_apptainer_freshness.actions.fetch import FetchOutcome, Progress, Result, Stage, default_jobs, fetch
from snakemake_apptainer_freshness.actions.transfer import Transfer, sizes_of
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
from snakemake_apptainer_freshness.common.progress import ProgressBars
from snakemake_apptainer_freshness.common.text import counted, duration, size
from snakemake_apptainer_freshness.engine.messages import Line, log_line, log_waiting
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState
from snakemake_apptainer_freshness.pin import Pin


def fetch_images(pins: list[Pin], prefix: Path, *, bars: bool) -> list[Result]:
    """Have a proven image in `prefix` for each of `pins`, with `bars` on a terminal; gives what was done for each.

    A library is not searched here.

    Raises
    ------
    FreshnessError
        where one cannot be had; the others are there.
    """
    started = time.monotonic()
    with contextlib.closing(LazyRegistries()) as registries, ProgressBars(enabled=bars, say=log_waiting) as drawn:
        transfer = Transfer(prefix, CacheFolder.of(), ask=functools.partial(sizes_of, registries))
        drawn.begin(f"fetching {counted(len(pins), 'image')}", measure=transfer.measure)
        report = functools.partial(_report, bars=drawn, transfer=transfer)
        results = fetch(pins, prefix, report=report, source=registries, libraries=None)
    _tell_cost(results, time.monotonic() - started)
    failed = [(result.pin, result.error) for result in results if result.error is not None]
    if failed:
        raise _together(failed)
    return results


def attest_images(
    pins: list[Pin], prefix: Path, facts: Mapping[str, DiskFact], *, bars: bool, online: bool
) -> dict[str, DiskFact]:
    """Compare those images of `pins` in `prefix` with their layers whose `facts` (by url) prove nothing.

    `online` says whether registries may be asked. Nothing is fetched or replaced; gives what each image then is.
    """
    with ProgressBars(enabled=bars, say=log_waiting) as drawn, contextlib.closing(LazyRegistries()) as registries:
        attestor = Attestor(source=registries if online else None)

        def begin(pin: Pin) -> None:
            detail = f"its image is {facts[pin.url].state}: {facts[pin.url].detail}"
            _report(Progress(pin=pin, stage=Stage.PROVING, detail=detail), drawn)

        def end(pin: Pin, fact: DiskFact) -> None:
            outcome = FetchOutcome.PROVEN if fact.state is DiskState.VERIFIED else None
            _report(Progress(pin=pin, stage=Stage.DONE, detail=fact.detail, outcome=outcome), drawn)

        return attest_all(pins, prefix, facts, attestor=attestor, jobs=default_jobs(), begin=begin, end=end)


def search_libraries(pins: list[Pin], libraries: Iterable[Path], *, bars: bool, online: bool) -> dict[str, DiskFact]:
    """Return, by url, the images of `pins` that a site's library has, proven: `online` by asking registries, too."""
    with ProgressBars(enabled=bars, say=log_waiting) as drawn, contextlib.closing(LazyRegistries()) as registries:

        def begin(pin: Pin, fact: DiskFact) -> None:
            _report(Progress(pin=pin, stage=Stage.PROVING, detail=f"{fact.path} is {fact.state}: {fact.detail}"), drawn)

        attestor = Attestor(source=registries if online else None)
        facts = library_images.find(pins, libraries, attestor=attestor, begin=begin, bars=drawn)
    for pin in pins:
        if (fact := facts.get(pin.url)) is not None:
            log_line(Line(text=f"apptainer-freshness: {pin.reference.text}: used in place, {fact.path}: {fact.detail}"))
    return facts


def _tell_cost(results: list[Result], seconds: float) -> None:
    """Say what the images that came are, and how long they took."""
    came = [
        Path(result.fact.path) for result in results if result.outcome in (FetchOutcome.PULLED, FetchOutcome.COPIED)
    ]
    total = 0
    for path in came:
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    if came:
        log_line(Line(text=f"Fetched {counted(len(came), 'image')}, {size(total)}, in {duration(seconds)}."))


def _report(progress: Progress, bars: ProgressBars, transfer: Transfer | None = None) -> None:
    """Log one line an image for what is being done, and draw a bar on a terminal meanwhile."""
    match progress.stage:
        case Stage.PROVING:
            bars.begin(progress.pin.reference.text)
            log_line(Line(text=f"apptainer-freshness: comparing an image with its layers: {progress.detail}"))
        case Stage.PULLING:
            bars.begin(progress.pin.reference.text)
            if transfer is not None:
                transfer.begin(progress.pin)
            why = f" ({progress.detail})" if progress.detail else ""
            log_line(Line(text=f"Pulling singularity image {progress.pin.url}.{why}"))
        case Stage.WAITING:
            who = progress.detail
            log_line(Line(text=f"apptainer-freshness: waiting {who}, which is fetching {progress.pin.reference.text}"))
        case Stage.NOTE:
            log_line(Line(text=f"apptainer-freshness: {progress.pin.reference.text}: {progress.detail}"))
        case Stage.DONE | Stage.FAILED:
            bars.end(progress.pin.reference.text)
            if progress.outcome is FetchOutcome.PROVEN:
                log_line(Line(text=f"apptainer-freshness: {progress.pin.reference.text}: {progress.detail}"))


def _together(failed: list[tuple[Pin, FreshnessError]]) -> FreshnessError:
    """Return one error for all images that could not be fetched, of the type of the first."""
    first = failed[0][1]
    if len(failed) == 1:
        return first
    lines = [f"  {pin.reference.text}: {error.message}" for pin, error in failed]
    hints = "\n".join(dict.fromkeys(error.hint for _, error in failed if error.hint))
    return type(first)("\n".join([f"cannot fetch {len(failed)} images:", *lines]), hint=hints)
