"""Retries: when a request is sent again, and when no more.

Asked again: connections that fail, 429 and 5xx. Nothing else: an answer that is wrong stays wrong. A `Retry-After` is
honoured, for the whole host and not only for the one who got it; one that is longer than we are willing to wait ends
the matter at once, because asking earlier would be impolite and useless.

A host that says how many requests it still allows (:mod:`.registry.retry`) is not asked for more than that.

All waiting of a run draws on one budget of time, however many threads wait at once. When it is used up, or when a host
has failed one request for good, the next request to it fails at once with the same error: a dead registry costs the
patience for one image, not for each. A host that takes a connection and says nothing is dead, too, unless it answered
another request meanwhile; where it did, one that it did not answer in time is asked again.

How many requests a host still allows, as it says itself: asked no further than that, instead of until it refuses.

Docker Hub sends ``ratelimit-limit: 100;w=21600`` and ``ratelimit-remaining: 76;w=21600`` with manifests; others send
``ratelimit-reset`` as well, the seconds until the allowance is whole again (IETF draft, RateLimit header fields). What
is counted are manifests that are fetched (``GET``); a ``HEAD`` is free, and its answer tells, too.

While fewer are left than there are requests on their way, no further one starts before theirs are answered. When none
is left, a request waits for the reset, or fails where that is too far away. Nothing is assumed of a host that
says nothing.
"""

import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from snakemake_apptainer_freshness.errors import (
    ConnectionFailed,
    NameNotFound,
    ProxyRefused,
    RateLimited,
    RegistryError,
    ServerFailed,
    TimedOut,
)
from snakemake_apptainer_freshness.registry.transport import HttpResponse
from snakemake_apptainer_freshness.registry.urls import Origin
from snakemake_apptainer_freshness.settings import Limits

if TYPE_CHECKING:
    from tenacity import RetryCallState

TOO_LONG: Final = float("inf")
"""The reset of a host that does not say when: its window is hours long."""
_FIELD: Final = re.compile(r"([0-9]{1,9})(?:;w=([0-9]{1,9}))?", re.ASCII)
_LONGEST_RESET: Final = 86_400.0  # what is larger is no number of seconds, but a date


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaHeader:
    """What one answer says: requests that are left, seconds until it is `whole` again, None where it is not said."""

    left: int
    reset: float
    whole: int | None


def read(headers: Mapping[str, str]) -> QuotaHeader | None:
    """Return what `headers` say about an allowance; None where they say nothing that is understood."""
    left = _FIELD.fullmatch(headers.get("ratelimit-remaining", "").strip())
    if left is None:
        return None
    reset = headers.get("ratelimit-reset", "").strip()
    seconds = float(reset) if re.fullmatch(r"[0-9]{1,9}", reset, re.ASCII) else TOO_LONG
    whole = _FIELD.fullmatch(headers.get("ratelimit-limit", "").strip())
    return QuotaHeader(
        left=int(left[1]),
        reset=seconds if seconds <= _LONGEST_RESET else TOO_LONG,
        whole=None if whole is None else int(whole[1]),
    )


def limit_in_words(headers: Mapping[str, str]) -> str:
    """Return ``100;w=21600`` as a person says it, the end of a sentence; empty where nothing is said."""
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
        """Note that a request that was taken is over."""
        with self._lock:
            self._under_way -= 1

    def hear(self, headers: Mapping[str, str]) -> None:
        """Note the allowance that the `headers` of an answer tell."""
        quota = read(headers)
        if quota is None:
            return
        with self._lock:
            # Answers overtake each other: until the reset there are never more left than there were.
            self._left = quota.left if self._left is None else min(self._left, quota.left)
            self._whole, self._until = quota.whole, self._clock() + quota.reset
            self.limit = limit_in_words(headers)


TOO_MANY_REQUESTS: Final = 429
SERVER_ERRORS: Final = 500
_POLL: Final = 0.02  # seconds between two looks at whether the requests under way were answered


class Stopped(Exception):
    """The caller does not wait for the answer any more."""


class QuotaExhausted(RateLimited):
    """The host allows no more of the requests that it counts; what it does not count may still be asked."""


class Budget:
    """Time that a run may spend waiting: the time in which at least one thread waits, counted once."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._left = seconds
        self._clock = clock
        self._waiting = 0
        self._since = 0.0
        self._lock = threading.Lock()

    def left(self) -> float:
        """Return seconds that are left."""
        with self._lock:
            return self._left_now()

    def __enter__(self) -> None:
        with self._lock:
            if self._waiting == 0:
                self._since = self._clock()
            self._waiting += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._waiting -= 1
            if self._waiting == 0:
                self._left -= self._clock() - self._since

    def _left_now(self) -> float:
        running = self._clock() - self._since if self._waiting else 0.0
        return self._left - running


@dataclass(slots=True)
class _Host:
    not_before: float = 0.0
    """When it may be asked again, on the monotonic clock."""
    answered: float = 0.0
    """When it last answered, on the monotonic clock."""
    failure: RegistryError | None = None
    failed_until: float = 0.0
    allowance: Allowance = field(default_factory=Allowance)


class RetryPolicy:
    """Retries requests, and is the only code that waits between them. Shared by all threads of a run."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._budget = Budget(limits.run_budget)
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def stop(self) -> None:
        """End all waiting, now and later."""
        self._stop.set()

    def ask(self, origin: Origin, send: Callable[[], HttpResponse]) -> HttpResponse:
        """Return the answer of `send`, which asks `origin`, asked again where that can help.

        Raises
        ------
        RateLimited, ServerFailed, ConnectionFailed
            where it did not help; what else `send` raises goes through.
        """
        host = self._host(origin.netloc)

        def send_and_hear() -> HttpResponse:
            answer = send()
            host.allowance.hear(answer.headers)
            return answer

        return self._ask(origin, host, send_and_hear)

    def ask_counted(self, origin: Origin, send: Callable[[], HttpResponse]) -> HttpResponse:
        """As :meth:`ask`, for a request that registries count: not started where none is left."""
        host = self._host(origin.netloc)

        def take_and_send() -> HttpResponse:
            self._wait_for_allowance(origin, host.allowance)
            try:
                answer = send()
                host.allowance.hear(answer.headers)  # before another one may start in its place
                return answer
            finally:
                host.allowance.give_back()

        return self._ask(origin, host, take_and_send)

    def _ask(self, origin: Origin, host: "_Host", send: Callable[[], HttpResponse]) -> HttpResponse:
        started = time.monotonic()
        try:
            try:
                return self._attempt(origin, host, send)
            except RegistryError as error:
                if not _is_passing(error, host, started):
                    raise
                return self._ask_again(origin, host, send, error)
        except QuotaExhausted:
            raise
        except (ConnectionFailed, RateLimited, TimedOut) as error:
            # ServerFailed is left out: one broken repository does not make a broken registry.
            if not isinstance(error, TimedOut) or host.answered < started:
                host.failure, host.failed_until = error, time.monotonic() + self._limits.retry_after
            raise

    def _ask_again(
        self, origin: Origin, host: "_Host", send: Callable[[], HttpResponse], failure: RegistryError
    ) -> HttpResponse:
        """Return what :meth:`ask` does once the first attempt has failed with `failure`.

        Most runs never get here, and none of them pays for tenacity (15 ms, and 0.1 ms a request).
        """
        from tenacity import Retrying, retry_if_exception

        failures, started = [failure], time.monotonic() - self._limits.read_timeout

        def attempt() -> HttpResponse:
            if failures:
                raise failures.pop()  # tenacity counts the attempts, so it has to see the first one
            return self._attempt(origin, host, send)

        retrying = Retrying(
            retry=retry_if_exception(lambda error: _is_passing(error, host, started)),
            wait=self._next_wait,
            stop=lambda state: self._is_enough(state, host),
            sleep=self._sleep,
            reraise=True,
        )
        answer: HttpResponse = retrying(attempt)
        return answer

    def _host(self, name: str) -> _Host:
        with self._lock:
            return self._hosts.setdefault(name, _Host())

    def _attempt(self, origin: Origin, host: _Host, send: Callable[[], HttpResponse]) -> HttpResponse:
        if self._stop.is_set():
            raise Stopped
        if host.failure is not None and time.monotonic() < host.failed_until:
            raise _again(host.failure)
        wait = host.not_before - time.monotonic()
        if wait > self._budget.left():
            raise RateLimited(f"{origin.netloc} allows no more requests for now, and this run has waited long enough")
        self._sleep(wait)
        answer = send()
        host.answered = time.monotonic()
        if answer.status == TOO_MANY_REQUESTS:
            error = _rate_limited(origin, answer)
            host.not_before = max(host.not_before, time.monotonic() + min(error.retry_after, self._limits.retry_after))
            raise error
        if answer.status >= SERVER_ERRORS:
            raise _server_failed(origin, answer)
        return answer

    def _wait_for_allowance(self, origin: Origin, allowance: Allowance) -> None:
        while wait := allowance.take(_POLL):
            if wait > min(self._limits.retry_after, self._budget.left()):
                raise _limited(QuotaExhausted, origin, allowance.limit)
            self._sleep(wait)

    def _next_wait(self, state: "RetryCallState") -> float:
        backoff: float = self._limits.backoff * 2 ** (state.attempt_number - 1)
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, RateLimited | ServerFailed) else 0.0
        return max(asked, backoff * random.uniform(0.75, 1.25))  # noqa: S311  jitter, no secret

    def _is_enough(self, state: "RetryCallState", host: _Host) -> bool:
        wait = state.upcoming_sleep
        return (
            state.attempt_number >= self._limits.attempts
            or wait > self._limits.retry_after
            or wait > self._budget.left()
            or (host.failure is not None and time.monotonic() < host.failed_until)
        )

    def _sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return
        with self._budget:
            if self._stop.wait(seconds):
                raise Stopped


def _is_passing(error: BaseException, host: _Host, started: float) -> bool:
    """Return whether the request that failed with `error` may succeed when it is sent to `host` again."""
    if isinstance(error, TimedOut):  # a host that is silent for everyone was waited for long enough
        return host.answered >= started
    if isinstance(error, NameNotFound | ProxyRefused):
        return False
    return isinstance(error, ConnectionFailed | RateLimited | ServerFailed) and not isinstance(error, QuotaExhausted)


def _again(failure: RegistryError) -> RegistryError:
    """Return the same error once more: one that was raised in another thread carries that thread's traceback."""
    return type(failure)(failure.message, hint=failure.hint)


def _rate_limited(origin: Origin, answer: HttpResponse) -> RateLimited:
    error = _limited(RateLimited, origin, limit_in_words(answer.headers))
    error.retry_after = _retry_after(answer.headers.get("retry-after", ""))
    return error


def _limited(kind: type[RateLimited], origin: Origin, limit: str) -> RateLimited:
    return kind(
        f"{origin.netloc} allows no more requests for now{limit}",
        hint=f"log in to raise the limit (apptainer registry login docker://{_login_host(origin)}), or try again later",
    )


def _server_failed(origin: Origin, answer: HttpResponse) -> ServerFailed:
    error = ServerFailed(
        f"{origin.netloc} failed with status {answer.status}", hint="try again later, or look at its status page"
    )
    error.retry_after = _retry_after(answer.headers.get("retry-after", ""))
    return error


def _login_host(origin: Origin) -> str:
    return "docker.io" if origin.host.endswith(".docker.io") else origin.netloc


def _retry_after(header: str) -> float:
    """Return seconds; 0 where the header says nothing that can be understood (RFC 9110, 10.2.3)."""
    header = header.strip()
    if re.fullmatch(r"[0-9]{1,9}", header):
        return float(header)
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, IndexError, OverflowError):
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
