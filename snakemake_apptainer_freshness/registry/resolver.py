"""The resolver: asks registries about many references at once, and gives each answer as soon as it is there.

Threads, because they were measured to be faster than asyncio here (docs/registries.md): as many as requests may be
under way, no more than there is work, all of them daemons. The caller waits on a queue, so Ctrl-C reaches it at
once; what is still under way is abandoned.

One reference that fails never hides the others, references that mean the same are asked for once, and nothing is
opened, read or imported before it is needed.

From push to pull: a download that hands out its pieces becomes an iterator over them.

A thread downloads, a few pieces ahead of the reader; when the reader has stopped it ends with its next piece. After
a failure in the middle a download begins anew, at another mirror perhaps: as many bytes as were read before are then
left out, unseen, since the reader hashes the whole.
"""

import math
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

from snakemake_apptainer_freshness.common import environment
from snakemake_apptainer_freshness.errors import FreshnessError, Offline
from snakemake_apptainer_freshness.freshness import UNCHECKED, RemoteFact, RemoteState
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import Reference, parse
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.registry.network import Network
from snakemake_apptainer_freshness.settings import LIMITS, TREE, Limits

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.registry.client import ResumableSink
    from snakemake_apptainer_freshness.registry.listings import TagList
    from snakemake_apptainer_freshness.registry.referrers import FoundSignatures

_POLL: Final = 0.1  # seconds between two looks at whether the reader still reads


def pulled(download: "Callable[[ResumableSink], None]", start: int = 0) -> Generator[bytes, None, None]:
    """Yield the pieces that `download` gives to its argument, from byte `start` on; its error is raised here."""
    pump = _Pump(start)
    threading.Thread(target=pump.run, args=(download,), name="blob", daemon=True).start()
    try:
        while (item := pump.pieces.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        pump.abandoned.set()


class _Abandoned(Exception):
    """The reader has stopped."""


class _Pump:
    """Takes the pieces in the downloading thread, and hands them to the reading one."""

    def __init__(self, start: int) -> None:
        self.pieces: queue.Queue[bytes | Exception | None] = queue.Queue(TREE.pieces)
        self.abandoned = threading.Event()
        self._given = start
        self._again = 0

    @property
    def taken(self) -> int:
        """The place of the next piece: where the reader is, unless it is begun anew."""
        return self._given - self._again

    def run(self, download: "Callable[[ResumableSink], None]") -> None:
        outcome: Exception | None = None
        try:
            download(self)
        except _Abandoned:
            return
        except Exception as error:  # noqa: BLE001  handed to the thread that reads
            outcome = error
        try:
            self._put(outcome)
        except _Abandoned:
            return

    def restart(self) -> None:
        """Begin anew: what comes next is the first piece, perhaps once more."""
        self._again = self._given

    def __call__(self, piece: bytes) -> None:
        skipped = min(self._again, len(piece))
        self._again -= skipped
        if rest := piece[skipped:]:
            self._put(rest)
            self._given += len(rest)

    def _put(self, item: bytes | Exception | None) -> None:
        while not self.abandoned.is_set():
            try:
                self.pieces.put(item, timeout=_POLL)
            except queue.Full:
                continue
            return
        raise _Abandoned


K = TypeVar("K")
V = TypeVar("V")


class Resolver:
    """Asks about references, from any thread. One for a run: it holds connections, tokens, and the budget of waiting.

    `environ` is read in place of the process's environment; `limits` are by default what that says.
    """

    def __init__(self, *, environ: Mapping[str, str] | None = None, limits: Limits | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._limits = LIMITS.waiting(environment.timeout(environ)) if limits is None else limits
        self._network = Network(environ=environ, limits=self._limits)
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._threads = 0
        self._open = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Abandon what is under way and drop all connections. Never waits."""
        self._stopped.set()
        with self._lock:
            for _ in range(self._threads):
                self._jobs.put(lambda: None)
        self._network.close()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know although it is no error, each once: where pins and downloads may differ, …"""
        return self._network.warnings

    def resolve(self, references: Iterable[Reference]) -> Iterator[tuple[Reference, Entry | FreshnessError]]:
        """Return the pin of each reference, or why there is none, as they complete. Asking starts at once.

        References that mean the same are asked for once; the same text is answered once.
        """
        return self._resolve(references, self._network.resolve)

    def resolve_with_platforms(
        self, references: Iterable[Reference]
    ) -> Iterator[tuple[Reference, Entry | FreshnessError]]:
        """As :meth:`resolve`; the platform of an image that is in no index is asked for, too: one request more."""
        return self._resolve(references, self._network.resolve_with_platform)

    def _resolve(
        self, references: Iterable[Reference], ask: Callable[[Reference], Entry]
    ) -> Iterator[tuple[Reference, Entry | FreshnessError]]:
        by_meaning: dict[Reference, dict[str, Reference]] = {}
        for reference in references:
            by_meaning.setdefault(reference, {})[reference.text] = reference
        answers = self._each(by_meaning, ask)
        return (
            (reference, replace(answer, reference=reference) if isinstance(answer, Entry) else answer)
            for meaning, answer in answers
            for reference in by_meaning[meaning].values()
        )

    def check(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, RemoteFact]]:
        """Return what is served now of each pin, as they complete.

        What cannot be asked is `unreachable`. Starts at once.
        """
        by_meaning: dict[tuple[Reference, Digest], dict[str, Entry]] = {}
        for entry in entries:
            by_meaning.setdefault((entry.reference, entry.digest), {})[entry.reference.text] = entry

        def ask(key: tuple[Reference, Digest]) -> RemoteFact:
            return self._network.check(key[0], next(iter(by_meaning[key].values())))

        answers = self._each(by_meaning, ask)
        return (
            (entry, fact if isinstance(fact, RemoteFact) else _unasked(fact))
            for key, fact in answers
            for entry in by_meaning[key].values()
        )

    def tags(self, references: Iterable[Reference]) -> "Iterator[tuple[Reference, TagList | FreshnessError]]":
        """Return the tags of the repository of each reference, as they complete. Asking starts at once."""
        by_meaning = {reference: reference for reference in references}
        return self._each(by_meaning, lambda reference: self._network.registry(reference).tags(reference))

    def signatures(
        self, images: Iterable[tuple[Reference, Digest]]
    ) -> "Iterator[tuple[tuple[Reference, Digest], FoundSignatures | FreshnessError]]":
        """Return what lies beside each image of a registry as its signatures, as it comes in; none of it is checked."""
        wanted = dict.fromkeys(images)
        return self._each(wanted, lambda image: self._network.registry(image[0]).signatures(*image))

    def manifest(self, reference: Reference, digest: Digest) -> bytes:
        """Return the manifest or index `digest`, in the repository of the ``docker://`` `reference`.

        It has been hashed.

        Raises
        ------
        RegistryError
            where it cannot be had.
        """
        return self._network.registry(reference).manifest(reference, digest).body

    def blob(self, reference: Reference, digest: Digest, start: int = 0) -> Generator[bytes, None, None]:
        """Return the blob `digest` in the repository of `reference`, a piece at a time, **not checked**.

        It begins with byte `start`: of a long blob no more than that is asked for, where the registry can do that. A
        thread of its own reads ahead, a few pieces at most; it ends when the iterator is closed.

        Raises
        ------
        RegistryError
            where it cannot be had, or not to its end.
        """
        return pulled(lambda sink: self._network.registry(reference).blob(reference, digest, sink), start)

    def download(self, reference: Reference, start: int = 0) -> Generator[bytes, None, None]:
        """Return the file at the ``https://`` address `reference`, a piece at a time, **not checked**.

        As :meth:`blob`, but all of it is asked for.
        """
        return pulled(lambda sink: self._network.web(reference).download(reference, sink), start)

    def _each(self, items: Iterable[K], ask: Callable[[K], V]) -> Iterator[tuple[K, V | FreshnessError]]:
        """Return ``(item, ask(item))`` for each item as they complete.

        An error of ours stands in the answer's place.
        """
        results: queue.SimpleQueue[tuple[K, V | Exception]] = queue.SimpleQueue()
        abandoned = threading.Event()

        def job(item: K) -> None:
            if abandoned.is_set():
                return
            try:
                results.put((item, ask(item)))
            except Exception as error:  # noqa: BLE001  handed to the thread that asked
                results.put((item, error))

        jobs = [partial(job, item) for item in items]
        self._submit(jobs)
        return _collect(results, len(jobs), abandoned)

    def _submit(self, jobs: Sequence[Callable[[], None]]) -> None:
        """Let threads do `jobs`: no more of them, nor connections, than finish in the same number of rounds.

        With 32 at most, 50 jobs take two rounds; so 25 threads do.
        """
        with self._lock:
            self._open += len(jobs)
            rounds = math.ceil(self._open / self._limits.concurrency)
            new = math.ceil(self._open / rounds) - self._threads if rounds else 0
            self._threads += max(new, 0)
        for job in jobs:
            self._jobs.put(job)
        for number in range(new):
            threading.Thread(target=self._work, name=f"registry {number}", daemon=True).start()

    def _work(self) -> None:
        while not self._stopped.is_set():
            job = self._jobs.get()
            if not self._stopped.is_set():
                job()
            with self._lock:
                self._open -= 1


def resolve(text: str) -> Entry:
    """Return the pin of the reference that `text` spells.

    Raises
    ------
    FreshnessError
        where `text` is no reference, cannot be pinned, or cannot be asked for.
    """
    with Resolver() as resolver:
        for _, answer in resolver.resolve([parse(text)]):
            if isinstance(answer, Entry):
                return answer
            raise answer
    raise AssertionError("a resolver answers each reference")


def _collect(
    results: "queue.SimpleQueue[tuple[K, V | Exception]]", count: int, abandoned: threading.Event
) -> Iterator[tuple[K, V | FreshnessError]]:
    try:
        for _ in range(count):
            item, answer = results.get()
            if isinstance(answer, Exception) and not isinstance(answer, FreshnessError):
                raise answer
            yield item, answer
    finally:
        abandoned.set()


def _unasked(error: FreshnessError) -> RemoteFact:
    if isinstance(error, Offline):
        return UNCHECKED
    return RemoteFact(state=RemoteState.UNREACHABLE, detail=" ".join(error.message.split()))
