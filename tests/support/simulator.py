"""A registry that can lie, stall, flood and break off: what real ones do rarely, and attackers on purpose.

It speaks the distribution specification over http or https on a loopback port, with or without logins, with its own
token service, and logs every request. By default it is honest; a *rule* changes what it answers:

    with Simulator() as registry:
        digest = registry.publish("team/tool", "1.0", manifest)
        registry.answer("/v2/team/tool/manifests/", Reply(status=503), times=2)     # fails twice, then recovers
        registry.answer("/token", Reply(body=b"[]"))

``latency`` delays each answer by one round trip, and each new connection by one (TCP) or two (TLS 1.3) more, so that a
connection on loopback costs what one over a network costs.

Names such as ``registry.test`` reach it where a test maps them to loopback (``names`` in ``conftest.py``); its
certificate, of an authority made for the occasion, is good for those names.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs

from tests.support.certificates import Authority
from tests.support.digests import sha256
from tests.support.replies import Handler, Reply, Request, send

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(slots=True)
class _Rule:
    prefix: str
    method: str | None
    reply: Reply | Handler
    left: float


@dataclass(slots=True)
class _Store:
    manifests: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)
    tags: dict[tuple[str, str], str] = field(default_factory=dict)
    files: dict[str, Reply] = field(default_factory=dict)


class Simulator:
    """Runs while the ``with`` block does.

    ``auth`` is ``None``, ``"token"`` (each repository wants a token, all get one unless ``users`` are given) or
    ``"basic"``. ``realm`` is where tokens are to be asked for; its own ``/token`` where not given.
    """

    def __init__(
        self,
        *,
        tls: Authority | None = None,
        auth: str | None = None,
        users: Mapping[str, str] | None = None,
        realm: str | None = None,
        latency: float = 0.0,
        name: str = "127.0.0.1",
        address: str = "127.0.0.1",
    ) -> None:
        self.scheme = "https" if tls else "http"
        self.name = name
        self.latency = latency
        self.auth = auth
        self.users = dict(users or {})
        self.realm = realm
        self.token_lifetime: object = 300
        self.requests: list[Request] = []
        self.clear()
        self._context = tls.server_context() if tls else None
        self._rules: list[_Rule] = []
        self._store = _Store()
        self._transports: set[asyncio.WriteTransport] = set()
        self._tokens = 0
        self._granted: set[str] = set()
        self._listener = socket.create_server((address, 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="registry simulator", daemon=True)

    # --- for tests -------------------------------------------------------------------------------------------------

    @property
    def host(self) -> str:
        """Host and port as they stand in a reference."""
        return f"{self.name}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def publish(self, repository: str, tag: str | None, body: bytes, media_type: str = OCI_MANIFEST) -> str:
        """Serve `body` under its digest, and under `tag`; returns the digest."""
        digest = sha256(body)
        self._store.manifests[repository, digest] = (body, media_type)
        if tag is not None:
            self._store.tags[repository, tag] = digest
        return digest

    def unpublish(self, repository: str, name: str) -> None:
        """Take away a tag, or a digest."""
        self._store.tags.pop((repository, name), None)
        self._store.manifests.pop((repository, name), None)

    def serve(self, path: str, body: bytes, *headers: tuple[str, str]) -> str:
        """Serve a plain file; returns its URL."""
        self._store.files[path] = Reply(body=body, headers=headers)
        return self.url + path

    def answer(
        self, prefix: str, reply: Reply | Handler, *, method: str | None = None, times: float = float("inf")
    ) -> None:
        """Answer paths that start with `prefix` with `reply`, the next `times` times; later rules come first."""
        self._rules.insert(0, _Rule(prefix, method, reply, times))

    def asked(self, prefix: str = "", method: str | None = None) -> list[Request]:
        """The requests so far, in order."""
        return [r for r in self.requests if r.path.startswith(prefix) and method in (None, r.method)]

    def digest(self, repository: str, tag: str) -> str:
        """What `tag` points at."""
        return self._store.tags[repository, tag]

    def clear(self) -> None:
        """Forget what was asked so far."""
        self.requests.clear()
        self.connections = 0
        self.first_connection = float("inf")
        self.last_answer = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._listener.close()

    # --- what it answers -------------------------------------------------------------------------------------------

    def _decide(self, request: Request) -> Reply:
        for rule in self._rules:
            if request.path.startswith(rule.prefix) and rule.method in (None, request.method) and rule.left > 0:
                reply = rule.reply(request) if callable(rule.reply) else rule.reply
                if reply is not None:
                    rule.left -= 1
                    return reply
        if request.path in self._store.files:
            return self._store.files[request.path]
        if request.path == "/token":
            return self._token(request)
        if request.path.startswith("/v2/"):
            return self._challenge(request) or self._registry(request)
        return Reply(status=404)

    def _challenge(self, request: Request) -> Reply | None:
        if self.auth == "basic":
            wanted = {_basic(user, password) for user, password in self.users.items()}
            header = 'Basic realm="tests"'
        elif self.auth == "token":
            wanted = self._granted
            header = f'Bearer realm="{self.realm or self.url + "/token"}",service="simulator"'
        else:
            return None
        if request.authorization in wanted:
            return None
        return Reply(status=401, headers=[("WWW-Authenticate", header)])

    def _token(self, request: Request) -> Reply:
        known = {_basic(user, password) for user, password in self.users.items()}
        if self.users and request.authorization not in known:
            return Reply(status=401)
        self._tokens += 1
        token = f"token-{self._tokens}-{'x' * 300}"
        self._granted.add(f"Bearer {token}")
        answer = {"token": token, "expires_in": self.token_lifetime, "scope": parse_qs(request.query).get("scope")}
        return Reply(headers=[("Content-Type", "application/json")], body=json.dumps(answer).encode())

    def _registry(self, request: Request) -> Reply:
        repository, _, name = request.path.removeprefix("/v2/").rpartition("/manifests/")
        if repository:
            digest = self._store.tags.get((repository, name), name)
            found = self._store.manifests.get((repository, digest))
            if found is None:
                known = any(name == repository for name, _ in self._store.manifests)
                return _error(404, "MANIFEST_UNKNOWN" if known else "NAME_UNKNOWN")
            headers = [("Docker-Content-Digest", digest), ("Content-Type", found[1])]
            return Reply(headers=headers, body=found[0])
        repository, _, rest = request.path.removeprefix("/v2/").rpartition("/tags/")
        if rest == "list":
            tags = sorted(tag for name, tag in self._store.tags if name == repository)
            return Reply(body=json.dumps({"name": repository, "tags": tags}).encode())
        return Reply(body=b"{}")

    # --- how it is sent --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(lambda *_: None)  # broken connections are what this is for
        accepting = self._loop.create_task(self._accept())
        self._loop.run_forever()
        accepting.cancel()
        self._loop.run_until_complete(self._shut_down())
        self._loop.close()

    async def _shut_down(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for transport in list(self._transports):
            transport.abort()
        await asyncio.sleep(0.001)  # aborted transports close in the loop's next rounds

    async def _accept(self) -> None:
        self._listener.setblocking(False)
        tasks: set[asyncio.Task[None]] = set()
        while True:
            connection, _ = await self._loop.sock_accept(self._listener)
            self.connections += 1
            self.first_connection = min(self.first_connection, time.monotonic())
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._set_up(connection))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _set_up(self, connection: socket.socket) -> None:
        try:
            await asyncio.sleep(self.latency * (2 if self._context else 1))
        except asyncio.CancelledError:
            connection.close()
            raise
        reader = asyncio.StreamReader(limit=1 << 20)
        protocol = asyncio.StreamReaderProtocol(reader, self._serve)
        try:
            transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, connection, ssl=self._context)
        except OSError:
            connection.close()
        else:
            self._transports.add(transport)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, ValueError):
            pass
        finally:
            writer.close()
            self._transports.discard(writer.transport)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether another request may follow on this connection."""
        start = await reader.readexactly(1)
        if start == b"\x16":  # a TLS handshake; real servers answer so, too
            writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            return False
        head = (start + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if method == "CONNECT" or "://" in target:
            raise ValueError("this is not a proxy")
        path, _, query = target.partition("?")
        request = Request(method=method, path=path, query=query, headers=headers, body=body)
        self.requests.append(request)
        reply = self._decide(request)
        if self.latency:
            await asyncio.sleep(self.latency)
        going_on = await send(reply, request, writer)
        self.last_answer = time.monotonic()
        return going_on


def _error(status: int, code: str) -> Reply:
    return Reply(status=status, body=json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode())


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
