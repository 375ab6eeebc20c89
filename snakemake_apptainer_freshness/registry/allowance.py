"""How many requests a host still allows, as it says itself: asked no further than that, instead of until it refuses.

Docker Hub sends ``ratelimit-limit: 100;w=21600`` and ``ratelimit-remaining: 76;w=21600`` with manifests; others send
``ratelimit-reset`` as well, the seconds until the allowance is whole again (IETF draft, RateLimit header fields). What
is counted are manifests that are fetched (``GET``); a ``HEAD`` is free, and its answer tells, too.

While fewer are left than there are requests on their way, no further one starts before theirs are answered. When none
is left, whoever wants one waits for the reset, or is told that it is too far away. Nothing is assumed of a host that
says nothing.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

TOO_LONG: Final = float("inf")
"""The reset of a host that does not say when: its window is hours long."""
_FIELD: Final = re.compile(r"([0-9]{1,9})(?:;w=([0-9]{1,9}))?", re.ASCII)
_LONGEST_RESET: Final = 86_400.0  # what is larger is no number of seconds, but a date


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one answer says: requests that are left, seconds until it is `whole` again, None where it is not said."""

    left: int
    reset: float
    whole: int | None


def read(headers: Mapping[str, str]) -> Told | None:
    """What `headers` say about an allowance; None where they say nothing that is understood."""
    left = _FIELD.fullmatch(headers.get("ratelimit-remaining", "").strip())
    if left is None:
        return None
    reset = headers.get("ratelimit-reset", "").strip()
    seconds = float(reset) if re.fullmatch(r"[0-9]{1,9}", reset, re.ASCII) else TOO_LONG
    whole = _FIELD.fullmatch(headers.get("ratelimit-limit", "").strip())
    return Told(
        left=int(left[1]),
        reset=seconds if seconds <= _LONGEST_RESET else TOO_LONG,
        whole=None if whole is None else int(whole[1]),
    )


def limit_in_words(headers: Mapping[str, str]) -> str:
    """``100;w=21600`` as a person says it, the end of a sentence; empty where nothing is said."""
    match = _FIELD.fullmatch(headers.get("ratelimit-limit", "").strip())
    if match is None:
        return ""
    window = f" in {int(match[2]) / 3600:g} h" if match[2] else ""
    return f": its limit is {int(match[1])} requests{window}"


class Allowance:
    """What is known of one host. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: int | None = None
        self._whole: int | None = None
        self._until = TOO_LONG
        self._under_way = 0
        self._lock = threading.Lock()
        self.limit = ""

    def take(self, poll: float) -> float:
        """0 where a request may start, which :meth:`give_back` has to end; else seconds after which to try again."""
        with self._lock:
            if self._clock() >= self._until:
                self._left, self._until = self._whole, TOO_LONG
            if self._left is None or self._left > self._under_way:
                self._under_way += 1
                return 0.0
            return poll if self._under_way else self._until - self._clock()

    def give_back(self) -> None:
        """A request that was taken is over."""
        with self._lock:
            self._under_way -= 1

    def hear(self, headers: Mapping[str, str]) -> None:
        """Note what an answer with `headers` says."""
        told = read(headers)
        if told is None:
            return
        with self._lock:
            # Answers overtake each other: until the reset there are never more left than there were.
            self._left = told.left if self._left is None else min(self._left, told.left)
            self._whole, self._until = told.whole, self._clock() + told.reset
            self.limit = limit_in_words(headers)
