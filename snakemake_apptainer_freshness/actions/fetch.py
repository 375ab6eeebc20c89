"""Fetching: every pin gets an image that is proven to be what it names, several at once.

For each pin whose image is not acceptable as it lies there:

* Our lock of that image is taken, so that of any number of runs on one folder, on any number of hosts, one pulls and
  the others find its result.
* The image is obtained under a temporary name in the same folder (:mod:`.store.pull`), its record is written, and
  then it is renamed. Nobody ever sees half an image, and at no moment does an image lie there that its record does
  not fit.
* A file that was in its place is not deleted but moved aside: it may be the only copy of what a result was made with.
* What killed runs left behind for this image is removed.

One image that cannot be fetched does not stop the others: each :class:`Result` has its own error. Ctrl-C and SIGTERM
stop all of them, and nothing half-written stays.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any, Final

from snakemake_apptainer_freshness.actions.check import check, check_one
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
from snakemake_apptainer_freshness.apptainer.program import Apptainer
from snakemake_apptainer_freshness.common.files import exclusive, is_left_behind, quarantine, sync_folder, unique
from snakemake_apptainer_freshness.common.removal import open_folder, remove_at
from snakemake_apptainer_freshness.errors import FreshnessError, LocalIOError
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import records
from snakemake_apptainer_freshness.store.prefix import PARTIAL, image_path
from snakemake_apptainer_freshness.store.pull import Obtained, PullSource, Watch, obtain, record_of

RUNNABLE: Final = frozenset(state for state in DiskState if state.may_run)


class Stage(StrEnum):
    """What is being done for one image."""

    WAITING = "waiting"
    """For another run that has its lock."""
    PULLING = "pulling"
    NOTE = "note"
    """Something worth a line, such as a file that was moved aside."""
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step of one image; `detail` is one line for a person."""

    pin: Pin
    stage: Stage
    detail: str = ""


class Action(StrEnum):
    """What was done for a pin."""

    KEPT = "kept"
    """Nothing: what was there is acceptable."""
    PULLED = "pulled"
    COPIED = "copied"
    """From Apptainer's cache, where we had pulled it before."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was done for one pin, and what lies there now; `quarantined` is where the former file went."""

    pin: Pin
    action: Action
    fact: DiskFact
    quarantined: Path | None = None
    error: FreshnessError | None = None


Report = Callable[[Progress], None]


def fetch(
    pins: Iterable[Pin],
    prefix: Path,
    *,
    jobs: int | None = None,
    report: Report | None = None,
    accept: Collection[DiskState] = RUNNABLE,
    environment: Mapping[str, str] | None = None,
) -> list[Result]:
    """Get an acceptable image into `prefix` for each of `pins`, in their order; an error stands in its result.

    `jobs` images are fetched at once (default: :func:`default_jobs`, and :data:`~.settings.DiskLimits.pulls_beside`
    more while so many are past their download: to build an image takes processors, to download one mostly patience).
    `report` is told each step, one call at a
    time. `accept` are the states of an image that is left alone; without `BOUND`, images of unknown making are
    fetched anew. `environment` is what Apptainer gets (default: this process's).

    Raises
    ------
    LocalIOError
        where the folder cannot be made.
    """
    wanted = list({pin.url: pin for pin in pins}.values())
    facts = check(wanted, prefix)
    results = {
        pin.url: Result(pin=pin, action=Action.KEPT, fact=facts[pin.url])
        for pin in wanted
        if facts[pin.url].state in accept
    }
    missing = [pin for pin in wanted if pin.url not in results]
    if missing:
        _make(prefix)
        fetcher = _Fetcher(prefix=prefix, accept=accept, environment=environment, report=report)
        results.update({result.pin.url: result for result in fetcher.run(missing, jobs)})
    return [results[pin.url] for pin in wanted]


def default_jobs() -> int:
    """How many images are fetched at once: half the cores that this process may use, at least 2."""
    return max(2, len(os.sched_getaffinity(0)) // 2)


class _Fetcher:
    """One call of :func:`fetch`: what its workers share."""

    def __init__(
        self,
        *,
        prefix: Path,
        accept: Collection[DiskState],
        environment: Mapping[str, str] | None,
        report: Report | None,
    ) -> None:
        self._prefix = prefix
        self._accept = accept
        self._report = report
        self._telling = threading.Lock()
        self._stop = threading.Event()
        self._downloads = threading.Semaphore()
        program = once(lambda: Apptainer.find(environment))
        self._source = PullSource(program=program, cache=CacheFolder.of(environment), stop=self._stop)

    def run(self, pins: list[Pin], jobs: int | None) -> Iterator[Result]:
        """The result of each pin, as they come; stops all where it is interrupted."""
        downloads = jobs or default_jobs()
        workers = jobs or downloads + DISK.pulls_beside
        self._downloads = threading.Semaphore(downloads)
        with stopping_cleanly(self._stop), ThreadPoolExecutor(min(workers, len(pins)), "fetch") as pool:
            try:
                futures: list[Future[Result]] = [pool.submit(self._one, pin) for pin in pins]
                for future in as_completed(futures):
                    yield future.result()
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _one(self, pin: Pin) -> Result:
        image = image_path(self._prefix, pin.url)
        try:
            with exclusive(image, waiting=lambda who: self._tell(pin, Stage.WAITING, f"for {who}"), stop=self._stop):
                return self._fetch(pin, image)
        except FreshnessError as error:
            self._tell(pin, Stage.FAILED, error.message)
            return Result(pin=pin, action=Action.FAILED, fact=check_one(pin, image, remember=False), error=error)

    def _fetch(self, pin: Pin, image: Path) -> Result:
        """Fetch one image, whose lock we have."""
        fact = check_one(pin, image)
        if fact.state in self._accept:
            self._tell(pin, Stage.DONE, "fetched by another run")
            return Result(pin=pin, action=Action.KEPT, fact=fact)
        _remove_leftovers(image)
        self._tell(
            pin, Stage.PULLING, "" if fact.state is DiskState.ABSENT else f"its image is {fact.state}: {fact.detail}"
        )
        temporary = image.with_name(f"{image.name}{PARTIAL}{unique()}")
        obtained = self._obtain(pin, temporary)
        aside = put(pin, temporary, image, obtained)
        if aside is not None:
            self._tell(pin, Stage.NOTE, f"its former image, {fact.state}, was moved aside as {aside.name}")
        copied = obtained.obtained_by == records.COPIED
        self._tell(pin, Stage.DONE, obtained.obtained_by)
        return Result(
            pin=pin,
            action=Action.COPIED if copied else Action.PULLED,
            fact=DiskFact(state=DiskState.VERIFIED, path=str(image), detail=obtained.obtained_by),
            quarantined=aside,
        )

    def _obtain(self, pin: Pin, temporary: Path) -> Obtained:
        """The image of `pin`, once it is its turn to download; the turn ends with the download."""
        with contextlib.ExitStack() as turn:
            turn.enter_context(self._downloads)
            if self._stop.is_set():
                raise InterruptedError("stopped while waiting for other images")
            watch = Watch(note=lambda line: self._tell(pin, Stage.NOTE, line), downloaded=turn.close)
            return obtain(pin, temporary, self._source, watch)

    def _tell(self, pin: Pin, stage: Stage, detail: str) -> None:
        if self._report is not None:
            with self._telling:
                self._report(Progress(pin=pin, stage=stage, detail=detail))


def put(pin: Pin, temporary: Path, image: Path, obtained: Obtained) -> Path | None:
    """Rename the proven image to its name, after its record; where the former file went, if there was one.

    The caller has the lock of `image`. Raises LocalIOError where that cannot be done; nothing is left of `temporary`.
    """
    try:
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        record = record_of(pin, temporary, obtained)
        aside = quarantine(image)
        records.store(image, records.renamed(record, image))
        temporary.replace(image)
        sync_folder(image.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise LocalIOError(
            f"cannot put the image of {pin.reference.text} in {image.parent}: {error.strerror or error}",
            hint="make the folder writable, or choose another one with --apptainer-prefix",
        ) from error
    return aside


def _remove_leftovers(image: Path) -> None:
    """Remove what a killed run on this host left of `image`; we have its lock, so nobody else writes it here."""
    with contextlib.suppress(OSError), open_folder(image.parent) as parent:
        for name in os.listdir(parent):  # noqa: PTH208  a descriptor, not a path
            if name.startswith(f"{image.name}{PARTIAL}") and is_left_behind(name):
                with contextlib.suppress(OSError):  # it may be another user's
                    remove_at(parent, name)


def _make(prefix: Path) -> None:
    try:
        prefix.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LocalIOError(
            f"cannot make the image folder {prefix}: {error.strerror}",
            hint="choose another one with --apptainer-prefix",
        ) from error


def once(find: Callable[[], Apptainer]) -> Callable[[], Apptainer]:
    """Return what finds the program when it is first asked, and gives the same one to every thread."""
    lock = threading.Lock()
    cached = lru_cache(maxsize=1)(find)

    def found() -> Apptainer:
        with lock:
            return cached()

    return found


@contextlib.contextmanager
def stopping_cleanly(stop: threading.Event) -> Iterator[None]:
    """Make SIGTERM an exception, after `stop` is set, so that nothing half-written or running is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: FrameType | None) -> None:
        stop.set()
        raise SystemExit(128 + number)

    before: Any = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
