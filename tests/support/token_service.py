"""A token service for the real registry: who may pull gets a signed token (distribution specification, "token").

The registry trusts tokens that are signed with a key whose certificate it was given (``RealRegistry(token=…)``).
"""

from __future__ import annotations

import base64
import http.server
import json
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.support import programs
from tests.support.registry import TokenAuth

ISSUER = "tests"
SERVICE = "tests-registry"


class TokenService:
    """Runs while the ``with`` block does; ``users`` maps names to passwords."""

    def __init__(self, folder: Path, users: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._users = dict(users)
        self.asked: list[str] = []
        _make_key(folder)
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service._serve(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def auth(self) -> TokenAuth:
        """What the registry has to know."""
        port = self._server.server_address[1]
        bundle = self._folder / "certificate.pem"
        return TokenAuth(realm=f"http://127.0.0.1:{port}/token", service=SERVICE, issuer=ISSUER, rootcertbundle=bundle)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, request: http.server.BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        known = {f"Basic {_base64(f'{name}:{word}'.encode())}" for name, word in self._users.items()}
        if request.headers.get("Authorization") not in known:
            request.send_response(401)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        scopes = parse_qs(urlsplit(request.path).query).get("scope", [])
        body = json.dumps({"token": self._token(scopes), "expires_in": 60}).encode()
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _token(self, scopes: list[str]) -> str:
        certificate = (self._folder / "certificate.pem").read_text(encoding="ascii")
        der = "".join(certificate.split("-----")[2].split())
        now = int(time.time())
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": SERVICE,
            "sub": "",
            "iat": now,
            "nbf": now - 10,
            "exp": now + 60,
            "jti": str(time.monotonic_ns()),
            "access": access,
        }
        header = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
        signed = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        signature = subprocess.run(
            [str(programs.find("openssl")), "dgst", "-sha256", "-sign", str(self._folder / "key.pem")],
            input=signed.encode(),
            capture_output=True,
            check=True,
        ).stdout
        return f"{signed}.{_base64url(signature)}"


def _make_key(folder: Path) -> None:
    (folder / "openssl.cnf").write_text("[req]\ndistinguished_name = name\n[name]\n", encoding="utf-8")
    new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tokens"]
    files = ["-config", "openssl.cnf", "-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run([str(programs.find("openssl")), *new, *files], cwd=folder, capture_output=True, check=True)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
