"""A forward proxy on a loopback port, for http and https, with or without a login.

It resolves names itself: ``names`` maps a host to the loopback port that it stands for, which is how tests reach a
registry under a name that no name server knows.
"""

from __future__ import annotations

import base64
import select
import socket
import socketserver
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

_PIECE = 65536


@dataclass(slots=True)
class Proxy:
    """Runs while the ``with`` block does; ``targets`` are the hosts (and ports) that were asked for."""

    names: Mapping[str, int]
    login: tuple[str, str] | None = None
    targets: list[str] = field(default_factory=list)
    port: int = 0
    _server: socketserver.ThreadingTCPServer | None = None

    def url(self, login: tuple[str, str] | None = None) -> str:
        user = f"{login[0]}:{login[1]}@" if login else ""
        return f"http://{user}127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        proxy = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                proxy._serve(self)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, handler: socketserver.StreamRequestHandler) -> None:
        head = self._read_head(handler)
        if not head:
            return
        method, target, _ = head[0].split(" ")
        if self.login is not None and not any(line.lower() == self._expected().lower() for line in head[1:]):
            handler.wfile.write(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
            )
            return
        if method == "CONNECT":
            host, path = target, ""
        else:
            host, slash, path = target.removeprefix("http://").partition("/")
            path = slash + path
        self.targets.append(host)
        port = self.names.get(host.partition(":")[0])
        if port is None:
            handler.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        with socket.socket() as upstream:  # not create_connection(), which a lab replaces
            upstream.connect(("127.0.0.1", port))
            if method == "CONNECT":
                handler.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                kept = [line for line in head[1:] if not line.lower().startswith(("proxy-", "connection:"))]
                lines = [f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""]
                upstream.sendall("\r\n".join(lines).encode("latin-1"))
            _relay(handler.connection, upstream)

    def _expected(self) -> str:
        assert self.login is not None
        return "Proxy-Authorization: Basic " + base64.b64encode(":".join(self.login).encode()).decode()

    @staticmethod
    def _read_head(handler: socketserver.StreamRequestHandler) -> list[str]:
        lines = []
        while line := handler.rfile.readline(_PIECE).decode("latin-1").rstrip("\r\n"):
            lines.append(line)
        return lines


def _relay(one: socket.socket, other: socket.socket) -> None:
    while True:
        readable, _, _ = select.select([one, other], [], [], 10)
        if not readable:
            return
        for source in readable:
            try:
                data = source.recv(_PIECE)
                (other if source is one else one).sendall(data)
            except OSError:
                return
            if not data:
                return
