"""Fetching: every pin gets an image that is proven to be what it names, several at once.

For each pin whose image is not proven as it lies there:

* Our lock of that image is taken, so that of any number of runs on one folder, on any number of hosts, one pulls and
  the others find its result.
* A sound image that lies there is compared with its layers, where that costs less than to fetch it
  (:mod:`.actions.attest`).
* Else the image comes from a mirror on this machine, from its registry, or from a mirror on the network, in this order
  (:mod:`.actions.elsewhere`).
* It is obtained in a folder of this process alone within the image folder (:mod:`.store.pull`), and then put in its
  place (:mod:`.store.put`).

One image that cannot be fetched does not stop the others: each :class:`Result` has its own error. Ctrl-C and SIGTERM
stop all of them, and nothing half-written stays.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.actions import library_images
from snakemake_apptainer_freshness.actions.attest import Attestor, LazyRegistries, may_be_attested
from snakemake_apptainer_freshness.actions.check import check, check_one
from snakemake_apptainer_freshness.actions.elsewhere import Elsewhere
from snakemake_apptainer_freshness.actions.image_content import BlobSource
from snakemake_apptainer_freshness.actions.lock_claims import proven_of_pin
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
from snakemake_apptainer_freshness.apptainer.program import Apptainer
from snakemake_apptainer_freshness.common.files import status_of, writable_by_all
from snakemake_apptainer_freshness.common.locks import exclusive
from snakemake_apptainer_freshness.common.own_folder import folder_of
from snakemake_apptainer_freshness.common.parallel import (
    AS_LONG_AS_IT_TAKES,
    available_cpus,
    in_parallel,
    made_once,
    stopping_cleanly,
)
from snakemake_apptainer_freshness.errors import (
    FreshnessError,
    LocalIOError,
    PullFailed,
    RegistryError,
    UnprovenImage,
)
from snakemake_apptainer_freshness.freshness import Action, DiskFact, DiskState, Evidence, FileHash, decide
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import DISK, OnUnverified, Options
from snakemake_apptainer_freshness.store.facts import ProvenBy
from snakemake_apptainer_freshness.store.prefix import image_path
from snakemake_apptainer_freshness.store.pull import Obtained, PullSource, Watch, copy_image, obtain
from snakemake_apptainer_freshness.store.put import make_folder, put, remove_leftovers, temporary_name


class Stage(StrEnum):
    """What is being done for one image."""

    WAITING = "waiting"
    """For another run that has its lock."""
    PROVING = "proving"
    """What lies there is compared with its layers."""
    PULLING = "pulling"
    NOTE = "note"
    """Something worth a line, such as a file that was moved aside."""
    DONE = "done"
    FAILED = "failed"


class FetchOutcome(StrEnum):
    """What was done for a pin."""

    KEPT = "kept"
    """Nothing: what was there is proven."""
    PROVEN = "proven"
    """What was there was compared with its layers, and is what its pin names."""
    PULLED = "pulled"
    COPIED = "copied"
    """From Apptainer's cache, where we had pulled it before; or from a site's library, where that was asked for."""
    IN_LIBRARY = "in_library"
    """Nothing: a site's library has it, where it is proven and used in place."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step of one image; `detail` is one line for a person, `outcome` what was done, once it is done."""

    pin: Pin
    stage: Stage
    detail: str = ""
    outcome: FetchOutcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was done for one pin, and what lies there now; `quarantined` is where the former file went."""

    pin: Pin
    outcome: FetchOutcome
    fact: DiskFact
    quarantined: Path | None = None
    error: FreshnessError | None = None


Report = Callable[[Progress], None]

_REPAIRING: Final = Options(on_unverified=OnUnverified.REPAIR)


def fetch(
    pins: Iterable[Pin],
    prefix: Path,
    *,
    jobs: int | None = None,
    report: Report | None = None,
    environment: Mapping[str, str] | None = None,
    source: BlobSource | None = None,
    libraries: Iterable[Path] | None = (),
    copy: bool = False,
) -> list[Result]:
    """Get a proven image into `prefix` for each of `pins`, in their order; an error stands in its result.

    What a library has is used where it lies (:mod:`.actions.library_images`), or copied where `copy` says so;
    `libraries` are further ones beside those of the machine, None searches none.

    `jobs` images are fetched at once (default: :func:`default_jobs`, and :data:`~.settings.DiskLimits.pulls_beside`
    more while so many are past their download: to build an image takes processors, to download one mostly patience).
    `report` is told each step, one call at a time. `environment` is what Apptainer gets (default: this process's);
    `source` has the layers that what lies there is compared with (default: Apptainer's cache and registries).

    Raises
    ------
    LocalIOError
        where the folder cannot be made, or the mirrors cannot be read.
    InvalidSettings
        where the mirrors cannot be understood.
    """
    wanted = list({pin.url: pin for pin in pins}.values())
    facts = check(wanted, prefix)
    results = {
        pin.url: Result(pin=pin, outcome=FetchOutcome.KEPT, fact=facts[pin.url])
        for pin in wanted
        if not _is_to_be_repaired(facts[pin.url])
    }
    missing = [pin for pin in wanted if pin.url not in results]
    if missing:
        with contextlib.closing(LazyRegistries(environment)) as registries, Elsewhere(environment) as elsewhere:
            fetcher = _Fetcher(
                prefix=prefix,
                environment=environment,
                source=source or registries,
                elsewhere=elsewhere,
                report=report,
            )
            served = {} if libraries is None else fetcher.look_in(tuple(libraries), missing)
            if not copy:
                results.update(
                    {pin.url: fetcher.in_place(pin, served[pin.url]) for pin in missing if pin.url in served}
                )
            missing = [pin for pin in missing if pin.url not in results]
            if missing:
                make_folder(prefix)
                results.update({result.pin.url: result for result in fetcher.run(missing, jobs)})
    return [results[pin.url] for pin in wanted]


def _is_to_be_repaired(fact: DiskFact) -> bool:
    """Return whether a run that may repair everything proves or fetches an image of which `fact` is known."""
    return decide(Evidence(disk=fact), _REPAIRING).action is Action.REPAIR


def default_jobs() -> int:
    """Return how many images are fetched at once: half the cores that this process may use, at least 2."""
    return max(2, available_cpus() // 2)


class _Fetcher:
    """One call of :func:`fetch`: what its workers share."""

    def __init__(
        self,
        *,
        prefix: Path,
        environment: Mapping[str, str] | None,
        source: BlobSource,
        elsewhere: Elsewhere,
        report: Report | None,
    ) -> None:
        self._prefix = prefix
        self._elsewhere = elsewhere
        self._report = report
        self._telling = threading.Lock()
        self._stop = threading.Event()
        self._downloads = threading.Semaphore()
        self._served: dict[str, DiskFact] = {}
        program = made_once(lambda: Apptainer.find(environment))
        self._documents = source
        self._source = PullSource(
            program=program, cache=CacheFolder.of(environment), stop=self._stop, manifest=self._manifest
        )
        self._attestor = Attestor(source=source, environment=environment, stop=self._stop)

    def look_in(self, libraries: tuple[Path, ...], pins: list[Pin]) -> dict[str, DiskFact]:
        """Return, by url, which images of `pins` a library has, proven; they are what is copied from now on."""

        def begin(pin: Pin, fact: DiskFact) -> None:
            self._tell(pin, Stage.PROVING, f"{fact.path} is {fact.state}: {fact.detail}")

        with stopping_cleanly(self._stop):
            self._served = library_images.known_images(pins, libraries)
            others = [pin for pin in pins if pin.url not in self._served]
            self._served |= library_images.find(others, libraries, attestor=self._attestor, begin=begin)
        return self._served

    def in_place(self, pin: Pin, fact: DiskFact) -> Result:
        """Return the result for an image that is used where it lies, in a library."""
        self._tell(pin, Stage.DONE, f"{fact.path}: {fact.detail}", FetchOutcome.IN_LIBRARY)
        return Result(pin=pin, outcome=FetchOutcome.IN_LIBRARY, fact=fact)

    def run(self, pins: list[Pin], jobs: int | None) -> list[Result]:
        """Return the result of each pin; stops all where it is interrupted."""
        downloads = jobs or default_jobs()
        workers = jobs or downloads + DISK.pulls_beside
        self._downloads = threading.Semaphore(downloads)
        with stopping_cleanly(self._stop):
            return in_parallel(
                self._one, pins, name="fetch", threads=workers, stop=self._stop.set, grace=AS_LONG_AS_IT_TAKES
            )

    def _one(self, pin: Pin) -> Result:
        image = image_path(self._prefix, pin.url)
        try:
            with exclusive(image, waiting=lambda who: self._tell(pin, Stage.WAITING, f"for {who}"), stop=self._stop):
                return self._fetch(pin, image)
        except FreshnessError as error:
            self._tell(pin, Stage.FAILED, error.message, FetchOutcome.FAILED)
            return Result(pin=pin, outcome=FetchOutcome.FAILED, fact=check_one(pin, image, remember=False), error=error)

    def _fetch(self, pin: Pin, image: Path) -> Result:
        """Fetch one image, whose lock we have."""
        fact = check_one(pin, image)
        if not _is_to_be_repaired(fact):
            self._tell(pin, Stage.DONE, "fetched by another run", FetchOutcome.KEPT)
            return Result(pin=pin, outcome=FetchOutcome.KEPT, fact=fact)
        if may_be_attested(pin, fact):
            fact = self._attested(pin, image, fact)
            if not _is_to_be_repaired(fact):
                self._tell(pin, Stage.DONE, fact.detail, FetchOutcome.PROVEN)
                return Result(pin=pin, outcome=FetchOutcome.PROVEN, fact=fact)
        remove_leftovers(image)
        self._tell(
            pin, Stage.PULLING, "" if fact.state is DiskState.ABSENT else f"its image is {fact.state}: {fact.detail}"
        )
        with temporary_name(pin, image) as temporary:
            obtained = self._obtain(pin, temporary)
            exposed = writable_by_all(status_of(temporary).st_mode)
            aside = put(pin, temporary, image, obtained)
        if aside is not None:
            self._tell(pin, Stage.NOTE, f"its former image, {fact.state}, was moved aside as {aside.name}")
        outcome = FetchOutcome.COPIED if obtained.proven_by is ProvenBy.COPIED else FetchOutcome.PULLED
        self._tell(pin, Stage.DONE, obtained.proven_by.text, outcome)
        return Result(
            pin=pin,
            outcome=outcome,
            fact=DiskFact(
                state=DiskState.VERIFIED,
                path=str(image),
                detail=obtained.proven_by.text,
                known=FileHash(sha256=obtained.sha256, writable_by_all=exposed),
            ),
            quarantined=aside,
        )

    def _manifest(self, pin: Pin) -> Digest | None:
        """Return this platform's manifest in what `pin` names; its index is asked for once."""
        try:
            return proven_of_pin(pin, lambda: self._documents)
        except RegistryError:
            return None

    def _attested(self, pin: Pin, image: Path, fact: DiskFact) -> DiskFact:
        """Return what the image that lies there is, once it is its turn to download."""
        with self._downloads:
            self._refuse_if_stopped()
            self._tell(pin, Stage.PROVING, f"its image is {fact.state}: {fact.detail}")
            return self._attestor.attest(pin, image, fact)

    def _refuse_if_stopped(self) -> None:
        if self._stop.is_set():
            raise InterruptedError("stopped while waiting for other images")

    def _obtain(self, pin: Pin, temporary: Path) -> Obtained:
        """Return the image of `pin`, once it is its turn to download; the turn ends with the download."""
        with contextlib.ExitStack() as turn:
            turn.enter_context(self._downloads)
            self._refuse_if_stopped()
            if pin.url in self._served and (copied := copy_image(pin, Path(self._served[pin.url].path), temporary)):
                return copied
            if (mirrored := self._mirrored(pin, temporary, local=True)) is not None:
                return mirrored
            watch = Watch(note=lambda line: self._tell(pin, Stage.NOTE, line), downloaded=turn.close)
            try:
                return obtain(pin, temporary, self._source, watch)
            except (PullFailed, UnprovenImage):
                if (mirrored := self._mirrored(pin, temporary, local=False)) is None:
                    raise
                return mirrored

    def _mirrored(self, pin: Pin, temporary: Path, *, local: bool) -> Obtained | None:
        """Return the image of `pin` from a mirror, `local` or on a network; None where none has it."""
        source = self._source
        try:
            return self._elsewhere.obtain(
                pin,
                temporary,
                local=local,
                program=source.program,
                stop=source.stop,
                note=lambda line: self._tell(pin, Stage.NOTE, line),
            )
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            if isinstance(error, InterruptedError):
                raise
            raise LocalIOError(
                f"cannot write the image of {pin.reference.text} to {folder_of(temporary)}: {error.strerror or error}",
                hint="make room there, or choose another folder with --apptainer-prefix",
            ) from error

    def _tell(self, pin: Pin, stage: Stage, detail: str, outcome: FetchOutcome | None = None) -> None:
        if self._report is not None:
            with self._telling:
                self._report(Progress(pin=pin, stage=stage, detail=detail, outcome=outcome))
