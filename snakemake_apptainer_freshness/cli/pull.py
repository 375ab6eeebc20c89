"""``apptainer-freshness pull``: the images of the lock, fetched as a run would fetch them."""

import contextlib
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snakemake_apptainer_freshness.cli import output, print_error
from snakemake_apptainer_freshness.cli.common import (
    image_folder,
    images_option,
    json_option,
    lockfile_option,
    need_lock,
    prefix_option,
    register,
)
from snakemake_apptainer_freshness.errors import FreshnessError, UsageError

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.actions.fetch import Progress, Result
    from snakemake_apptainer_freshness.actions.transfer import Transfer
    from snakemake_apptainer_freshness.common.progress import ProgressBars
    from snakemake_apptainer_freshness.lockfile import Entry, Lock
    from snakemake_apptainer_freshness.pin import Pin


@click.command("pull", short_help="Fetch the images that the lock names.")
@click.argument("references", nargs=-1, metavar="[REFERENCE]...")
@lockfile_option
@prefix_option
@images_option
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="Images fetched at once.  [default: half the cores]"
)
@click.option(
    "--pin",
    type=click.Choice(["index", "platform"]),
    default="index",
    show_default=True,
    help="Which digest the workflow pins to: its option 'pin'.",
)
@click.option("--copy", is_flag=True, help="Copy what a site's image library has, instead of using it in place.")
@json_option
def command(
    references: tuple[str, ...],
    lockfile: Path | None,
    prefix: str | None,
    jobs: int | None,
    pin: str,
    *,
    libraries: tuple[Path, ...],
    copy: bool,
    as_json: bool,
) -> int:
    """Fetch every image that the lock names, or each REFERENCE of it, into Snakemake's image folder.

    It is what a run with the flag does before its first job: pulled by digest, several at once, proven and recorded.
    Proven images are kept, and what lies there unproven is compared with its layers where that costs less than to
    fetch it. What an image library has is used where it lies: one of the site's, or one that --images names as the
    workflow's configuration does. One that cannot be had stops no other.

    Exit status: 0 where all are there, else that of the worst error: 1 what came is not what the lock names, 2
    wrong use or bad input, 3 a registry or file could not be reached.
    """
    from snakemake_apptainer_freshness.actions.attest import LazyRegistries
    from snakemake_apptainer_freshness.actions.fetch import fetch
    from snakemake_apptainer_freshness.actions.transfer import Transfer, sizes_of
    from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
    from snakemake_apptainer_freshness.common.progress import ProgressBars

    lock_path, lock = need_lock(lockfile, hint="make one with: apptainer-freshness lock")
    folder = image_folder(prefix, may_be_made=True)
    register(folder, lock_path, lock)
    pins, errors = _pins_of(_chosen(lock, references), pin)
    with contextlib.closing(LazyRegistries()) as registries, ProgressBars() as bars:
        transfer = Transfer(folder, CacheFolder.of(), ask=functools.partial(sizes_of, registries))
        lines = _Lines(silent=as_json or bars_are_drawn())
        if pins:
            bars.begin(f"fetching {output.counted(len(pins), 'image')}", measure=transfer.measure)
        results = fetch(
            pins,
            folder,
            jobs=jobs,
            report=Steps(bars, lines.done, transfer),
            copy=copy,
            source=registries,
            libraries=libraries,
        )
    errors += [(result.pin.reference.text, result.error) for result in results if result.error is not None]
    if as_json:
        output.document(
            prefix=str(folder),
            image=[_as_json(result) for result in results],
            error=[output.error_of(failure, reference) for reference, failure in errors],
        )
    else:
        lines.rest(results)
    for _, failure in errors:
        print_error(failure)
    return max((failure.exit_status for _, failure in errors), default=0)


def _pins_of(entries: "list[Entry]", kind: str) -> "tuple[list[Pin], list[tuple[str, FreshnessError]]]":
    """Return the pins of `entries` that can be fetched, and by reference why others have none of this `kind`."""
    from snakemake_apptainer_freshness.actions.verify import is_fetchable
    from snakemake_apptainer_freshness.pin import Pin
    from snakemake_apptainer_freshness.settings import PinKind

    pins: list[Pin] = []
    errors: list[tuple[str, FreshnessError]] = []
    for entry in entries:
        try:
            wanted = Pin.of(entry, kind=PinKind(kind))
        except FreshnessError as error:
            errors.append((entry.reference.text, error))
            continue
        if is_fetchable(wanted):
            pins.append(wanted)
        else:
            output.note(f"{entry.reference.text}: left to the run, which takes it from this machine")
    return pins, errors


def bars_are_drawn() -> bool:
    """Return whether bars are on the screen while images are fetched, so that lines have to wait."""
    return sys.stderr.isatty()


class Steps:
    """Shows what is done for each image: a bar while it is fetched; notes as lines of their own."""

    def __init__(self, bars: "ProgressBars", done: "Any" = None, transfer: "Transfer | None" = None) -> None:
        self._bars = bars
        self._done = done
        self._transfer = transfer

    def __call__(self, progress: "Progress") -> None:
        """Show one step of one image."""
        from snakemake_apptainer_freshness.actions.fetch import Stage

        name = progress.pin.reference.text
        match progress.stage:
            case Stage.PROVING:
                self._bars.begin(name)
                output.note(f"{name}: {progress.detail}; comparing it with its layers")
            case Stage.PULLING:
                self._bars.begin(name)
                if self._transfer is not None:
                    self._transfer.begin(progress.pin)
                if progress.detail:
                    output.note(f"{name}: {progress.detail}")
            case Stage.WAITING:
                output.note(f"{name}: waiting {progress.detail}, which is fetching it")
            case Stage.NOTE:
                output.note(f"{name}: {progress.detail}")
            case Stage.DONE | Stage.FAILED:
                self._bars.end(name)
                if self._done is not None:
                    self._done(progress)


class _Lines:
    """One line an image, as soon as it is done; `silent` where a table at the end says it."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._told: set[str] = set()

    def done(self, progress: "Progress") -> None:
        """Print that one image is there, or cannot be had."""
        if self._silent or progress.outcome is None:
            return
        self._told.add(progress.pin.url)
        output.row((progress.outcome, progress.pin.reference.text, progress.detail.partition("\n")[0]))

    def rest(self, results: "list[Result]") -> None:
        """Print the results that were not printed yet."""
        rows = [
            (
                result.outcome.value,
                result.pin.reference.text,
                result.error.message.partition("\n")[0] if result.error else result.fact.detail,
            )
            for result in results
            if result.pin.url not in self._told
        ]
        output.table(("what", "image", "how"), rows)


def _chosen(lock: "Lock", references: tuple[str, ...]) -> "list[Entry]":
    """Return the entries of `references`, however they are spelled; all where there are none.

    Raises
    ------
    UsageError
        where the lock lacks one.
    """
    if not references:
        return list(lock)
    from snakemake_apptainer_freshness.image.reference import parse

    by_meaning = {entry.reference: entry for entry in lock}
    by_pin = {entry.pinned.text: entry for entry in lock}
    chosen: dict[str, Entry] = {}
    for text in references:
        entry = lock.get(text) or by_pin.get(text) or by_meaning.get(parse(text))
        if entry is None:
            raise UsageError(
                f"the lock does not name {text}{_nearest(text, lock)}",
                hint="add what the workflow names with: apptainer-freshness lock",
            )
        chosen[entry.reference.text] = entry
    return list(chosen.values())


def _nearest(text: str, lock: "Lock") -> str:
    import difflib

    close = difflib.get_close_matches(text, list(lock.entries), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _as_json(result: "Result") -> dict[str, Any]:
    return {
        "reference": result.pin.reference.text,
        "pinned": result.pin.url,
        "digest": str(result.pin.digest),
        "platform": str(result.pin.platform),
        "action": result.outcome.value,
        "path": result.fact.path,
        "state": result.fact.state.value,
        "detail": result.fact.detail,
        "quarantined": str(result.quarantined) if result.quarantined else None,
    }
