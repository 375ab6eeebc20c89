"""Asking the file system about very many files: by this thread where it answers at once, else by several.

On a local disk threads only get into each other's way; on a network's every answer takes its round trip, and they wait
side by side. Which of the two it is shows after the first few hundred files.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_SIZE: Final = 256
_SLOW: Final = 0.001
"""Seconds for one file, from which on it is worth a thread."""
_THREADS: Final = 16
_AHEAD: Final = 2 * _THREADS
"""Batches that may wait to be taken: bounds the memory."""


def in_batches(items: Iterable[T], work: Callable[[list[T]], R]) -> Iterator[R]:
    """Yield what `work` says of `items`, a few hundred at a time, in their order."""
    source = iter(items)
    while batch := list(islice(source, _SIZE)):
        begun = time.perf_counter()
        done = work(batch)
        slow = time.perf_counter() - begun > _SLOW * len(batch)
        yield done
        if slow:
            yield from _side_by_side(source, work)


def _side_by_side(source: Iterator[T], work: Callable[[list[T]], R]) -> Iterator[R]:
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        while batch := list(islice(source, _SIZE)):
            waiting.append(pool.submit(work, batch))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
