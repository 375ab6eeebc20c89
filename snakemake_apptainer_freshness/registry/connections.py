# ruff: noqa: D102  the public methods are those of httpcore's interface
"""Connections to addresses that were checked, which end when the whole answer is due.

A host name is resolved once a minute, its addresses are checked (:mod:`.addresses`), and the connection is made to an
address that was checked: no second look-up can lead elsewhere. The system's resolver cannot be interrupted, so a thread
waits for it in our place.

The deadline belongs to the thread that waits for an answer, not to the connection, which outlives the answer. Every
wait on a connection ends at it, so that a server that sends a byte now and then gains nothing, in the head as little as
in the body.
"""

import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import httpcore

from snakemake_apptainer_freshness.errors import NameNotFound, PolicyRefused, TimedOut
from snakemake_apptainer_freshness.registry import addresses
from snakemake_apptainer_freshness.registry.addresses import Zone

_LOOKUP_LIFETIME: Final = 60.0  # seconds


class Deadline(threading.local):
    """When the answer that this thread waits for must be complete, and whether its connection has ended."""

    at: float = float("inf")
    ended: bool = False

    def clip(self, timeout: float | None) -> float:
        """Return the seconds that a wait of `timeout` may take."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the whole answer took too long")
        return left if timeout is None else min(timeout, left)


DEADLINE: Final = Deadline()


class Stream(httpcore.NetworkStream):
    """A connection whose every wait ends at the thread's deadline."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._stream.read(max_bytes, DEADLINE.clip(timeout))
        DEADLINE.ended = not data
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, DEADLINE.clip(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return Stream(self._stream.start_tls(ssl_context, server_hostname, DEADLINE.clip(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class Backend(httpcore.NetworkBackend):
    """Connects to the addresses that `choose` says for a host, in their order."""

    def __init__(self, choose: Callable[[str, int], Iterable[str]]) -> None:
        self._choose = choose
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception | None = None
        for address in self._choose(host, port):
            try:
                stream = self._backend.connect_tcp(address, port, DEADLINE.clip(timeout), local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return Stream(stream)
        raise failure or httpcore.ConnectError("no address")


class HostNames:
    """The addresses of host names, each looked up once a minute, by one thread at a time."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._known: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def of(self, host: str) -> tuple[str, ...]:
        """Return the addresses of `host`, which may be one.

        Raises
        ------
        NameNotFound
            where it does not resolve.
        TimedOut
            where the name server does not answer.
        """
        if addresses.literal(host) is not None:
            return (host,)
        with self._lock:
            lock = self._locks.setdefault(host, threading.Lock())
        with lock:
            known = self._known.get(host)
            if known is None or known[0] < time.monotonic():
                known = (time.monotonic() + _LOOKUP_LIFETIME, look_up(host, self._timeout))
                self._known[host] = known
            return known[1]


def vet(host: str, resolved: Iterable[str], zones: frozenset[Zone]) -> None:
    """Refuse `host` where any of the addresses that it `resolved` to lies outside `zones`.

    Raises
    ------
    PolicyRefused
        naming the address and what is wrong with it.
    """
    for text in resolved:
        address = addresses.literal(text)
        where = Zone.FORBIDDEN if address is None else addresses.zone(address)
        if where not in zones:
            kind = {Zone.FORBIDDEN: "link-local, metadata or reserved", Zone.PRIVATE: "private", Zone.PUBLIC: "public"}
            raise PolicyRefused(
                f"refused to connect to {host}: its address {text} is {kind[where]}",
                hint="a server must not send us there; check the reference and the name's DNS entry",
            )


def look_up(host: str, timeout: float) -> tuple[str, ...]:
    """Return the addresses of `host`. A thread waits: the system's resolver cannot be interrupted."""
    results: queue.SimpleQueue[list[Any] | OSError | UnicodeError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            results.put(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            results.put(error)

    threading.Thread(target=ask, name=f"look up {host}", daemon=True).start()
    try:
        result = results.get(timeout=timeout)
    except queue.Empty:
        raise TimedOut(f"the look-up of the host name {host} took more than {timeout:.0f} s") from None
    if not isinstance(result, list) or not result:
        raise NameNotFound(
            f"the host name {host} does not resolve",
            hint="check its spelling, the network and the name server",
        )
    return tuple(dict.fromkeys(str(item[4][0]) for item in result))
