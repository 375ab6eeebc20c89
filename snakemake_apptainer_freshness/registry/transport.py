"""One HTTP exchange: a request out, a bounded answer in. All that knows httpx is here.

A server may be broken or hostile, so nothing that it does is unbounded: the size of a body, the time until the
connection stands, the time between two pieces of an answer, and the time for a whole answer however slowly it drips,
head included. Compressed answers are neither asked for nor accepted: a small one can be enormous. Redirects and
challenges are handed back, not followed; cookies, netrc and logins in URLs do not exist here, which is why httpx's
transport is used and its client is not.

Connections go to addresses that were checked (:mod:`.connections`). Through a proxy the proxy resolves, and only
literal addresses can be checked.

TLS contexts are made when the first https request needs one, one for each set of certificates. The authorities are
those that Go programs, and so Apptainer, trust: ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, else the system's.

What is logged, at DEBUG, is an allow-list: method, address without its query, status, number of bytes, milliseconds.
"""

import logging
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType, TracebackType
from typing import Any, Final, Protocol, Self, cast

from snakemake_apptainer_freshness.errors import (
    ConnectionFailed,
    DamagedAnswer,
    ProxyRefused,
    TimedOut,
    TLSFailed,
)
from snakemake_apptainer_freshness.registry import addresses, proxies
from snakemake_apptainer_freshness.registry.addresses import Zone
from snakemake_apptainer_freshness.registry.connections import DEADLINE, Backend, HostNames, vet
from snakemake_apptainer_freshness.registry.tls import Trust
from snakemake_apptainer_freshness.registry.urls import Origin, Url
from snakemake_apptainer_freshness.settings import Limits


def _import_httpx() -> ModuleType:
    """Import httpx without its command line, whose import would bring click, rich and pygments (60 to 100 ms).

    ``httpx/__init__.py`` 0.28 imports ``httpx._main`` and does without it where that fails to import; a placeholder
    stands in its way and is taken out again at once.
    """
    if "httpx" not in sys.modules:
        placeholder = ModuleType("httpx._main")
        placeholder.main = lambda: None  # type: ignore[attr-defined]
        sys.modules["httpx._main"] = placeholder
        try:
            import httpx
        finally:
            del sys.modules["httpx._main"]
    import httpx

    return httpx


_import_httpx()

import httpcore  # noqa: E402  after the guarded import
import httpx  # noqa: E402

for _name in ("httpx", "httpcore"):  # at DEBUG they log every header of every answer
    logging.getLogger(_name).setLevel(logging.INFO)

_LOG: Final = logging.getLogger(__name__)

USER_AGENT: Final = "snakemake-apptainer-freshness"

OK: Final = 200
PARTIAL: Final = 206
UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
PROXY_LOGIN: Final = 407
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

_KEEPALIVE: Final = 15.0  # seconds; registries close idle connections after 15 to 60
_NO_CONTENT: Final = httpx.ByteStream(b"")


class Sink(Protocol):
    """Takes a body in pieces."""

    def restart(self) -> None:
        """Begin anew: what comes next is the body's first piece, perhaps once more."""

    def __call__(self, piece: bytes) -> None:
        """Take the next piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request. `limit` caps the body in bytes; `zones` is where the address may lie."""

    method: str
    url: Url
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes = field(default=b"", repr=False)
    limit: int
    zones: frozenset[Zone] = addresses.ANYWHERE
    sink: "Sink | None" = None
    """Takes the body of a 200 piece by piece, instead of `Answer.body`; then `limit` does not matter."""
    offset: int = 0
    """Bytes that the sink has already: the rest is asked for. A server that sends all has the sink begin anew."""
    timeout: float | None = None
    """Seconds for the whole answer, where it may take longer than others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """A whole answer; the keys of `headers` are in lower case."""

    status: int
    url: Url
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    challenges: tuple[str, ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)


class _Connection(httpx.HTTPTransport):
    """httpx's transport over one connection to `origin`, in place of its pool.

    The pool that makes the connection is ours, because httpx has no option for its network backend; and it only makes
    it, because at every request httpcore's pools look at all connections and take three locks.
    """

    def __init__(self, pool: httpcore.ConnectionPool, origin: Origin, *, proxied: bool) -> None:
        self._origin = httpx.URL(str(origin))
        self.is_proxied = proxied
        url = httpcore.URL(scheme=self._origin.raw_scheme, host=self._origin.raw_host, port=self._origin.port)
        connection: Any = pool.create_connection(url.origin)
        self._pool = connection  # it has all that httpx's transport uses of a pool

    @property
    def is_usable(self) -> bool:
        """Whether another request may go over it."""
        connection: Any = self._pool
        return not (connection.is_closed() or connection.has_expired())

    def ask(self, ask: HttpRequest, headers: Mapping[str, str], timeout: Mapping[str, float]) -> httpx.Response:
        """Return the answer to `ask`, up to its head."""
        options: dict[str, Any] = {"content": ask.content} if ask.content else {"stream": _NO_CONTENT}
        extensions: dict[str, Any] = {"timeout": timeout}
        url = self._origin
        if self.is_proxied:  # httpcore's proxies would take the target for their own
            url = httpx.URL(str(ask.url))
        else:  # what was parsed once is not parsed again
            extensions["target"] = ask.url.target.encode("ascii")
        return self.handle_request(httpx.Request(ask.method, url, headers=headers, extensions=extensions, **options))


class Transport:
    """Sends requests, from any thread. Holds the connections; ``close()`` drops them.

    A connection is taken from a stack for a request, and put back.
    """

    def __init__(self, *, limits: Limits, environ: Mapping[str, str], trust: Callable[[Origin], Trust]) -> None:
        self._limits = limits
        self._environ = environ
        self._trust = trust
        self._idle: dict[tuple[Origin, frozenset[Zone]], list[_Connection]] = {}
        self._closed = False
        self._names = HostNames(limits.connect_timeout)
        self._contexts: dict[Trust, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; one that is in use closes when its answer is there."""
        with self._lock:
            self._closed = True
            idle, self._idle = [connection for stack in self._idle.values() for connection in stack], {}
        for connection in idle:
            connection.close()

    def zone(self, origin: Origin) -> Zone | None:
        """Return where the addresses of `origin` lie (the least open of them); None where only a proxy knows."""
        if addresses.literal(origin.host) is None and proxies.find(origin, self._environ) is not None:
            return None
        resolved = self._names.of(origin.host)
        return min(addresses.zone(a) for text in resolved if (a := addresses.literal(text)) is not None)

    def send(self, ask: HttpRequest) -> HttpResponse:
        """Return the whole answer to `ask`, whatever its status.

        Raises
        ------
        ConnectionFailed, NameNotFound, TLSFailed
            where there is no connection, or it broke.
        TimedOut
            where the answer, or its next piece, does not come.
        DamagedAnswer
            where it is too large, compressed, or not HTTP.
        PolicyRefused
            where the host has an address that is not connected to.
        """
        started = time.monotonic()
        DEADLINE.at, DEADLINE.ended = started + (ask.timeout or self._limits.answer_timeout), False
        connection = self._take(ask)
        try:
            answer = self._exchange(connection, ask)
        except httpx.HTTPError as error:
            raise _translate(error, ask.url, ended=DEADLINE.ended) from None
        finally:
            DEADLINE.at = float("inf")
            self._put_back(ask, connection)
        if _LOG.isEnabledFor(logging.DEBUG):
            elapsed, size = (time.monotonic() - started) * 1000, len(answer.body)
            _LOG.debug(
                "%s %s → %d, %d bytes, %.0f ms", ask.method, ask.url.without_query(), answer.status, size, elapsed
            )
        return answer

    def _exchange(self, connection: _Connection, ask: HttpRequest) -> HttpResponse:
        limits = self._limits
        headers = {
            "Host": ask.url.origin.netloc,
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "identity",
            **ask.headers,
            **({"Range": f"bytes={ask.offset}-"} if ask.offset else {}),
        }
        silence = limits.read_timeout if ask.sink is None else limits.stall_timeout
        timeout = {"connect": limits.connect_timeout, "read": silence, "write": silence}
        response = connection.ask(ask, headers, timeout)
        try:
            if connection.is_proxied and response.status_code == PROXY_LOGIN:
                raise _proxy_refused(ask.url.origin, "407, it wants a login")
            received, challenges = _read_head(response)
            body = _read_body(response, received, ask)
        finally:
            response.close()
        return HttpResponse(
            status=response.status_code, url=ask.url, headers=received, challenges=challenges, body=body
        )

    def _take(self, ask: HttpRequest) -> _Connection:
        """Return a connection to the origin that `ask` goes to, which no other thread uses."""
        origin = ask.url.origin
        while (connection := self._pop(ask)) is not None:
            if connection.is_usable:
                return connection
            connection.close()
        if addresses.literal(origin.host) is not None:
            vet(origin.host, [origin.host], ask.zones)
        proxy = proxies.find(origin, self._environ)
        trust = self._trust(origin) if origin.scheme == "https" else None
        return _Connection(self._make_pool(proxy, trust, ask.zones), origin, proxied=proxy is not None)

    def _pop(self, ask: HttpRequest) -> _Connection | None:
        with self._lock:
            idle = self._idle.get((ask.url.origin, ask.zones))
            return idle.pop() if idle else None

    def _put_back(self, ask: HttpRequest, connection: _Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.setdefault((ask.url.origin, ask.zones), []).append(connection)
                return
        connection.close()

    def _make_pool(
        self, proxy: proxies.Proxy | None, trust: Trust | None, zones: frozenset[Zone]
    ) -> httpcore.ConnectionPool:
        options: dict[str, Any] = {
            "ssl_context": None if trust is None else self._context(trust),
            "keepalive_expiry": _KEEPALIVE,
        }
        if proxy is None:
            return httpcore.ConnectionPool(
                network_backend=Backend(lambda host, _: self._addresses(host, zones)), **options
            )
        auth = (proxy.username, proxy.password) if proxy.username else None
        # Where the proxy lies is the user's own choice: any address will do.
        backend = Backend(lambda host, _: self._names.of(host))
        proxy_context = self._context(self._trust(proxy.origin)) if proxy.origin.scheme == "https" else None
        return httpcore.HTTPProxy(
            str(proxy.origin), proxy_auth=auth, proxy_ssl_context=proxy_context, network_backend=backend, **options
        )

    def _context(self, trust: Trust) -> ssl.SSLContext:
        with self._lock:
            context = self._contexts.get(trust)
            if context is None:
                context = self._contexts[trust] = trust.context()
            return context

    def _addresses(self, host: str, zones: frozenset[Zone]) -> tuple[str, ...]:
        resolved = self._names.of(host)
        vet(host, resolved, zones)
        return resolved


def _read_head(response: httpx.Response) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return all headers, their keys in lower case, and each challenge on its own."""
    headers: dict[str, str] = {}
    challenges = []
    for key, value in response.headers.raw:
        name, text = key.decode("latin-1").lower(), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
        if name == "www-authenticate":
            challenges.append(text)
    return headers, tuple(challenges)


def _read_body(response: httpx.Response, headers: Mapping[str, str], ask: HttpRequest) -> bytes:
    _refuse_compressed(headers, ask)
    pieces = cast("httpx.SyncByteStream", response.stream)
    if ask.sink is not None and response.status_code in (OK, PARTIAL):
        _place(ask.sink, response.status_code, headers, ask)
        for piece in pieces:
            ask.sink(piece)
        return b""
    announced = headers.get("content-length", "")
    if ask.method != "HEAD" and announced.isdecimal() and int(announced[:20]) > ask.limit:
        raise DamagedAnswer(
            f"{ask.url.origin} announced an answer of {announced[:20]} bytes; at most {ask.limit} are read"
        )
    body = bytearray()
    for piece in pieces:
        body += piece
        if len(body) > ask.limit:
            raise DamagedAnswer(f"{ask.url.origin} sent more than {ask.limit} bytes")
    return bytes(body)


def _place(sink: Sink, status: int, headers: Mapping[str, str], ask: HttpRequest) -> None:
    """Have `sink` begin anew where the server sends all although it was asked for the rest.

    Raises
    ------
    DamagedAnswer
        where it sends another part than the one that was asked for.
    """
    if status == OK and ask.offset:
        sink.restart()
    if status == PARTIAL and not (ask.offset and headers.get("content-range", "").startswith(f"bytes {ask.offset}-")):
        raise DamagedAnswer(f"{ask.url.origin} sent another part of a file than the one that was asked for")


def _refuse_compressed(headers: Mapping[str, str], ask: HttpRequest) -> None:
    if headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise DamagedAnswer(f"{ask.url.origin} sent a compressed answer, which was not asked for")


def _translate(error: httpx.HTTPError, url: Url, *, ended: bool) -> Exception:
    """Return our error for that of httpx; `ended` is whether the other side had closed the connection."""
    origin = url.origin
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return TLSFailed(
                f"the certificate of {origin.netloc} is not trusted: {cause.verify_message}",
                hint="for an authority of your own, set SSL_CERT_FILE or use /etc/containers/certs.d, as for Apptainer",
            )
        if isinstance(cause, ssl.SSLError):
            return _tls_failed(cause, origin)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ProxyError):
        return _proxy_refused(origin, str(error))
    if isinstance(error, httpx.ConnectTimeout):
        return ConnectTimedOut(f"{origin.netloc} did not accept a connection in time")
    if isinstance(error, httpx.TimeoutException):
        return TimedOut(f"{origin.netloc} did not answer in time", hint="try again later, or look at its status page")
    if isinstance(error, httpx.RemoteProtocolError) and not ended:
        return DamagedAnswer(f"{origin.netloc} sent something that is not HTTP")
    reason = "the connection broke" if ended else str(error) or type(error).__name__
    return ConnectionFailed(
        f"no connection to {origin.netloc}: {reason}", hint="check the host, the port and the network"
    )


def _proxy_refused(origin: Origin, why: str) -> ProxyRefused:
    return ProxyRefused(f"the proxy did not connect to {origin.netloc}: {why}", hint="check its login and rules")


def _tls_failed(cause: ssl.SSLError, origin: Origin) -> TLSFailed:
    if cause.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"):
        return TLSFailed(
            f"{origin.netloc} does not speak https",
            hint="for a registry that only has http: APPTAINER_NOHTTPS=1, or insecure = true in registries.conf",
        )
    return TLSFailed(f"the encrypted connection to {origin.netloc} failed: {cause.reason or 'it was cut'}")


class ConnectTimedOut(ConnectionFailed, TimedOut):
    """No connection in time: nothing was asked yet, so asking again is safe."""
