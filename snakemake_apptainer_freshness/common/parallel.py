"""Parallel work: the same for many things at once, in threads that an error or Ctrl-C ends.

Whatever ends the caller early (an error of one thread, Ctrl-C, SIGTERM as :func:`stopping_cleanly` turns it into an
exception) has the same effect: nothing new is begun, `stop` is called so that work that can be stopped ends itself, and
those that run get some time to finish a write. The threads are daemons, which Python's own pools are not: a hash of
many gigabytes, or an answer of a network that does not come, keeps no process alive that was told to end.

Only the standard library's `threading` is loaded: ``concurrent.futures`` brings logging along, which would be a third
of the start-up of a command.
"""

import contextlib
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import islice
from types import FrameType, TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from snakemake_apptainer_freshness.settings import PARALLEL

T = TypeVar("T")
R = TypeVar("R")

AS_LONG_AS_IT_TAKES: Final = float("inf")
"""For work that ends soon once it was stopped, and leaves something half-written if it is not waited for."""


class Task(Generic[R]):
    """One piece of work that a thread does, will do, or has done."""

    __slots__ = ("_arguments", "_error", "_is_done", "_result", "_work")

    def __init__(self, work: Callable[..., R], arguments: tuple[Any, ...]) -> None:
        self._work, self._arguments = work, arguments
        self._is_done = threading.Event()
        self._result: R
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do the work, and keep what it returns or raises."""
        try:
            self._result = self._work(*self._arguments)
        except BaseException as error:  # noqa: BLE001  it is raised in the thread that asks for the result
            self._error = error
        finally:
            self._arguments = ()  # what waits to be asked for its result holds nothing else in memory
            self._is_done.set()

    def result(self) -> R:
        """Return what the work returned, or raise what it raised; waits for it."""
        self._is_done.wait()
        if self._error is not None:
            raise self._error
        return self._result


class Workers:
    """At most `count` threads called `name` that do what is submitted, within a ``with`` block.

    At its end what has not begun is dropped; where an error ends it, `stop` is called first. What runs is waited for
    as many seconds as `grace` says.
    """

    def __init__(
        self, count: int, name: str, *, stop: Callable[[], object] | None = None, grace: float = PARALLEL.grace
    ) -> None:
        self._count = count
        self._name = name
        self._stop = stop
        self._grace = grace
        self._threads: list[threading.Thread] = []
        self._waiting: queue.SimpleQueue[Task[Any] | None] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._stop is not None:
            self._stop()
        with contextlib.suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
        for _ in self._threads:
            self._waiting.put(None)
        end = time.monotonic() + self._grace
        for thread in self._threads:
            thread.join(None if end == AS_LONG_AS_IT_TAKES else max(0.0, end - time.monotonic()))

    def submit(self, work: Callable[..., R], *arguments: object) -> Task[R]:
        """Have a thread call `work` with `arguments`."""
        task = Task(work, arguments)
        self._waiting.put(task)
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._serve, name=f"{self._name} {len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return task

    def _serve(self) -> None:
        while (task := self._waiting.get()) is not None:
            task.run()
            del task  # not to be held until the next one comes


def in_parallel(
    work: Callable[[T], R],
    items: Iterable[T],
    *,
    name: str,
    threads: int | None = None,
    done: Callable[[R], object] | None = None,
    stop: Callable[[], object] | None = None,
    grace: float = PARALLEL.grace,
) -> list[R]:
    """Return what `work` returns for each of `items`, in their order; raises the first error.

    As many `threads` as this process has processors, where none are said. `done` is called with each result as it
    comes, in the thread of the caller. `stop` and `grace` as :class:`Workers` has them.
    """
    todo = list(items)
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()

    def work_on(number: int) -> R:
        try:
            return work(todo[number])
        finally:
            ended.put(number)

    with Workers(min(len(todo), threads or available_cpus()), name, stop=stop, grace=grace) as workers:
        tasks = [workers.submit(work_on, number) for number in range(len(todo))]
        for _ in tasks:
            result = tasks[ended.get()].result()
            if done is not None:
                done(result)
        return [task.result() for task in tasks]


def in_batches(items: Iterable[T], work: Callable[[list[T]], R]) -> Iterator[R]:
    """Yield what `work` says of `items`, a few hundred files at a time, in their order.

    On a local disk threads only get into each other's way; on a network's every answer takes its round trip, and they
    wait side by side. Which of the two it is shows after the first batch.
    """
    source = iter(items)
    while batch := list(islice(source, PARALLEL.batch)):
        begun = time.perf_counter()
        answer = work(batch)
        is_slow = time.perf_counter() - begun > PARALLEL.slow_file * len(batch)
        yield answer
        if is_slow:
            yield from _side_by_side(source, work)


def _side_by_side(source: Iterator[T], work: Callable[[list[T]], R]) -> Iterator[R]:
    waiting: deque[Task[R]] = deque()
    with Workers(PARALLEL.waiting_threads, "batch") as workers:
        while batch := list(islice(source, PARALLEL.batch)):
            waiting.append(workers.submit(work, batch))
            if len(waiting) > 2 * PARALLEL.waiting_threads:  # bounds the memory
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def available_cpus() -> int:
    """Return how many threads of this process can run at once: a job of a cluster may have fewer CPUs than its host."""
    return len(os.sched_getaffinity(0))


def made_once(make: Callable[[], R]) -> Callable[[], R]:
    """Return a function that calls `make` when it is first called, and gives what that returned to every thread."""
    lock = threading.Lock()
    cached = lru_cache(maxsize=1)(make)

    def made() -> R:
        with lock:
            return cached()

    return made


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
