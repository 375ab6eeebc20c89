"""``apptainer-freshness verify``: what the image files on this disk are, worst first."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snakemake_apptainer_freshness.cli import output
from snakemake_apptainer_freshness.cli.common import (
    UNKNOWN_LIBRARIES,
    find_lock,
    image_folder,
    images_option,
    json_option,
    lockfile_option,
    need_lock,
    prefix_option,
    register,
)
from snakemake_apptainer_freshness.errors import LocalIOError, UsageError

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.actions.survey import Candidate, LockedPins, SurveyedImage
    from snakemake_apptainer_freshness.actions.verify import Repair
    from snakemake_apptainer_freshness.errors import FreshnessError
    from snakemake_apptainer_freshness.lockfile import Lock

_SUFFIXES = (".sif", ".simg", ".img")
_SANDBOX = ".singularity.d"
"""What Apptainer has in each sandbox folder."""
_HELP = """\
Check whether each image file on this disk is what its digest names.

Without a PATH: everything that the lock names, every image in Snakemake's image folder, and every entry of
Apptainer's own cache that can be attributed to a digest. A PATH is a SIF file, a sandbox folder, or a folder
of SIFs; then nothing else is looked at.

\b
  verified  its SHA-256 is one that you have proven to be this digest's image, or the one that its reference names
  bound     sound; its label says that it was pulled by this digest, which proves nothing
  unbound   sound, but it cannot be attributed to any digest
  stale     sound, and provably of another digest, for another machine, or not what a pull makes
  altered   it was verified, and has changed since
  corrupt   not a sound image
  absent    not there

Exit status: 0 where there is nothing to report, 1 where there is, 2 wrong use or bad input, 3 where a registry or file
could not be reached. Outside the lock and the given PATHs only stale, altered and corrupt images count.
"""


@click.command("verify", help=_HELP, short_help="Check the image files on this disk against their digests.")
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path), metavar="[PATH]...")
@lockfile_option
@prefix_option
@images_option
@click.option("--full", is_flag=True, help="Hash every image again, touched or not.")
@click.option("--deep", is_flag=True, help="Compare what is bound or unbound with the layers that its digest names.")
@click.option("--repair", is_flag=True, help="Fetch what is not proven, and move damaged files aside.")
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="Images fetched at once.  [default: half the cores]"
)
@json_option
def command(
    paths: tuple[Path, ...],
    lockfile: Path | None,
    prefix: str | None,
    jobs: int | None,
    *,
    libraries: tuple[Path, ...],
    full: bool,
    deep: bool,
    repair: bool,
    as_json: bool,
) -> int:
    """Check whether each image file on this disk is what its digest names."""
    if repair and paths:
        raise UsageError(
            "--repair mends what the lock names, and touches no file that is given as a PATH",
            hint="leave the PATH out, or copy a good image there yourself",
        )
    if jobs and not repair:
        raise UsageError("--jobs is for --repair: it says how many images are fetched at once")
    from snakemake_apptainer_freshness.actions.survey import LockedPins

    lock_path, lock = _lock(paths, lockfile)
    folder = image_folder(prefix)
    locked = LockedPins.of(lock)
    candidates = list(_given(paths) if paths else _everything(lock, folder, locked))
    answer = _look(candidates, locked, libraries, full=full, deep=deep)
    mended: list[Repair] = []
    if repair and lock_path is not None:
        register(folder, lock_path, lock)
    if repair and (mended := _mend(answer.images, locked, folder, libraries, jobs=jobs)):
        answer = _look(_everything(lock, folder, locked), locked, libraries, full=full, deep=deep)
    if as_json:
        _print_json(answer, mended, lockfile=lock_path, prefix=None if paths else folder)
    else:
        _print(answer, mended, names_libraries=bool(libraries))
    for image, error in answer.failed:
        output.note(f"error: {image.fact.path} could not be compared: {error.message}")
    errors = [error for _, error in answer.failed] + [repair.error for repair in mended if repair.error]
    from snakemake_apptainer_freshness.freshness import exit_status

    return max(exit_status(image.decision for image in answer.images), *(error.exit_status for error in errors), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What was found, worst first; `unattributed` entries of the cache are left out, `failed` could not be compared."""

    images: "list[SurveyedImage]"
    unattributed: int
    failed: "list[tuple[SurveyedImage, FreshnessError]]"


def _lock(paths: tuple[Path, ...], lockfile: Path | None) -> "tuple[Path | None, Lock]":
    from snakemake_apptainer_freshness.actions.lock_io import read_lock
    from snakemake_apptainer_freshness.lockfile import Lock

    if not paths:
        return need_lock(lockfile, hint="go to the workflow's folder, give --lockfile, or name images or folders")
    path = find_lock(lockfile)
    return path, Lock() if path is None else read_lock(path)


def _everything(lock: "Lock", folder: Path, locked: "LockedPins") -> "list[Candidate]":
    from snakemake_apptainer_freshness.actions.survey import in_cache, in_lock, in_prefix
    from snakemake_apptainer_freshness.apptainer.cache import CacheFolder

    caches = {cache.root: cache for family in ("apptainer", "singularity") if (cache := CacheFolder.of(family=family))}
    candidates = [*in_lock(lock, folder), *in_prefix(folder, locked)]
    return [*candidates, *(candidate for cache in caches.values() for candidate in in_cache(cache))]


def _given(paths: tuple[Path, ...]) -> "list[Candidate]":
    """Return the files that were given, and the images in the folders; a link is followed, since a person gave it."""
    from snakemake_apptainer_freshness.actions.survey import Candidate, ImageLocation

    given: dict[Path, None] = {}
    for path in paths:
        try:
            is_folder = path.is_dir() and not (path / _SANDBOX).is_dir()
            files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES) if is_folder else [path]
            for file in files:
                if file.is_file():
                    file.open("rb").close()
        except OSError as error:
            raise LocalIOError(f"cannot read {error.filename or path}: {error.strerror}") from error
        if not files:
            raise UsageError(
                f"there is no image in {path}", hint=f"images are recognised by their names: {', '.join(_SUFFIXES)}"
            )
        given |= dict.fromkeys(file.resolve() for file in files)
    return [Candidate(place=ImageLocation.PATH, path=path) for path in given]


def _look(
    candidates: "Iterable[Candidate]", locked: "LockedPins", libraries: tuple[Path, ...], *, full: bool, deep: bool
) -> _Answer:
    from snakemake_apptainer_freshness.actions.survey import worst_first
    from snakemake_apptainer_freshness.actions.verify import deepen, verify

    images, unattributed = verify(candidates, locked, full=full, libraries=libraries)
    failed: list[tuple[SurveyedImage, FreshnessError]] = []
    if deep:
        from snakemake_apptainer_freshness.actions.elsewhere import Elsewhere
        from snakemake_apptainer_freshness.actions.layer_sources import LayerSources
        from snakemake_apptainer_freshness.registry.resolver import Resolver

        with Resolver() as registry, Elsewhere() as mirrors:
            images, failed = deepen(images, LayerSources(registry=registry, mirrors=mirrors))
    return _Answer(images=worst_first(images), unattributed=unattributed, failed=failed)


def _mend(
    images: "list[SurveyedImage]",
    locked: "LockedPins",
    folder: Path,
    libraries: tuple[Path, ...],
    *,
    jobs: int | None,
) -> "list[Repair]":
    from snakemake_apptainer_freshness.actions.verify import mend
    from snakemake_apptainer_freshness.cli.pull import Steps
    from snakemake_apptainer_freshness.common.progress import ProgressBars

    with ProgressBars() as bars:
        return mend(images, locked, folder, jobs=jobs, report=Steps(bars), libraries=libraries)


def _print(answer: _Answer, mended: "list[Repair]", *, names_libraries: bool) -> None:
    images, unattributed = answer.images, answer.unattributed
    for done in mended:
        output.note(_repair_line(done))
    if output.at_terminal(sys.stdout):
        shown = ((image.fact.state.value, _named(image), image.fact.detail) for image in images)
        output.table(("disk", "image", "how that is known"), shown)
    else:
        for image in images:
            output.row((image.fact.state, _name(image), image.place, image.fact.path, image.fact.detail))
    bad = [image for image in images if image.is_finding]
    verdict = f"{len(bad)} to look at" if bad else "nothing to report"
    entries = output.counted(unattributed, "entry", "entries")
    rest = f"; not listed: {entries} of Apptainer's cache that no digest can be found for" if unattributed else ""
    output.note(f"{output.counted(len(images), 'image')}: {verdict}{rest}")
    locked = {image.fact.state.value for image in bad if image.place.value == "lock"}
    if "absent" in locked and not names_libraries:
        output.note(UNKNOWN_LIBRARIES)
    if locked and not mended:
        verb = "pull" if locked == {"absent"} else "verify --repair"
        output.note(f"fetch what the lock names with: apptainer-freshness {verb}")


def _named(image: "SurveyedImage") -> str:
    """Return what an image is called, and where it lies unless that is where it belongs."""
    if image.place.value == "lock" and not image.is_finding:
        return _name(image)
    where = "in Apptainer's cache: " if image.place.value == "cache" else ""
    return f"{_name(image)}\n  {where}{_near(image.fact.path)}"


def _name(image: "SurveyedImage") -> str:
    return image.pin.reference.text if image.pin else "-"


def _near(path: str) -> str:
    """Return `path` as a person would write it here."""
    home = str(Path.home())
    short = path.removeprefix(f"{Path.cwd()}/")
    return f"~{short.removeprefix(home)}" if short.startswith(f"{home}/") else short


def _repair_line(repair: "Repair") -> str:
    what = repair.reference or str(repair.path)
    if repair.error is not None:
        return f"error: {what}: {repair.error.message}" + (f" ({repair.error.hint})" if repair.error.hint else "")
    moved = f"its former file was moved aside as {repair.aside}" if repair.aside else ""
    if repair.fetched:
        return f"fetched {what}" + (f"; {moved}" if moved else "")
    return f"{what}: {moved or 'it is sound now, and stays'}"


def _print_json(answer: _Answer, mended: "list[Repair]", *, lockfile: Path | None, prefix: Path | None) -> None:
    output.document(
        lockfile=str(lockfile) if lockfile else None,
        prefix=str(prefix) if prefix else None,
        image=[_as_json(image) for image in answer.images],
        unattributed=answer.unattributed,
        repair=[
            {
                "reference": repair.reference,
                "path": str(repair.path),
                "fetched": repair.fetched,
                "quarantined": str(repair.aside) if repair.aside else None,
            }
            for repair in mended
            if repair.error is None
        ],
        error=[
            *(output.error_of(repair.error, repair.reference or str(repair.path)) for repair in mended if repair.error),
            *(
                output.error_of(error, image.pin.reference.text if image.pin else image.fact.path)
                for image, error in answer.failed
            ),
        ],
    )


def _as_json(image: "SurveyedImage") -> dict[str, Any]:
    pin = image.pin
    return {
        "reference": pin.reference.text if pin else None,
        "pinned": pin.url if pin else None,
        "digest": str(pin.digest) if pin else None,
        "platform": str(pin.platform) if pin else None,
        "place": image.place.value,
        "path": image.fact.path,
        "state": image.fact.state.value,
        "detail": image.fact.detail,
        "store": image.fact.store or None,
        "size": image.size,
        "finding": image.is_finding,
        "differences": list(image.differences),
    }
