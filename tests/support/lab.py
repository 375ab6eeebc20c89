"""A small Internet for tests: names, addresses and registries, none of which leaves this machine.

Every name resolves to an address of the lab, and every address leads to the simulator that lives there:

    with Lab(tmp_path) as lab:
        hub = lab.registry("registry.example", public=True, auth="basic", users={"alice": lab.password})
        lab.log_in(hub)
        answer = lab.ask(f"docker://{hub.host}/team/tool:1")     # an entry, or the error

What was connected to is in ``lab.connected``; who saw the secret, :meth:`Lab.saw_secret` knows.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest import mock

from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.freshness import RemoteFact
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.registry.resolver import Resolver
from snakemake_apptainer_freshness.settings import Limits
from tests.support.certificates import authority
from tests.support.simulator import OCI_MANIFEST, Simulator

QUICK = Limits(
    connect_timeout=1.0,
    read_timeout=0.25,
    answer_timeout=0.5,
    backoff=0.01,
    retry_after=0.2,
    run_budget=1.0,
    concurrency=8,
    helper_timeout=0.3,
)
"""As patient as a test can be."""

PASSWORD = "canary-Zm9vYmFy-secret"
USER = "alice"


def manifest(number: int = 0, **changes: Any) -> bytes:
    """A valid image manifest; another `number`, another digest."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": f"sha256:{number:064x}",
            "size": 2,
        },
        "layers": [],
    }
    return json.dumps(document | changes).encode()


def sif_manifest(digest: str = f"sha256:{7:064x}") -> bytes:
    """A valid manifest of a SIF, as ``oras://`` has them."""
    return manifest(
        config={"mediaType": "application/vnd.sylabs.sif.config.v1+json", "digest": f"sha256:{0:064x}", "size": 2},
        layers=[{"mediaType": "application/vnd.sylabs.sif.layer.v1.sif", "digest": digest, "size": 10}],
    )


class Lab:
    """Runs while the ``with`` block does; ``tmp_path`` is the home folder."""

    password = PASSWORD

    def __init__(self, tmp_path: Path, limits: Limits = QUICK) -> None:
        self.home = tmp_path
        self.limits = limits
        self.environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        self.connected: list[str] = []
        self.names: dict[str, list[str]] = {}
        self.warnings: tuple[str, ...] = ()
        self._places: dict[tuple[str, int], Simulator] = {}
        self._stack = contextlib.ExitStack()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._stack.enter_context(mock.patch("socket.getaddrinfo", self._getaddrinfo))
        self._stack.enter_context(mock.patch("socket.create_connection", self._create_connection))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def registry(self, name: str, *, public: bool = True, tls: bool = True, **options: Any) -> Simulator:
        """A simulator that `name` leads to, at a public or a private address."""
        simulator = Simulator(tls=authority() if tls else None, name=name, **options)
        self._stack.enter_context(simulator)
        if tls:
            self.environ["SSL_CERT_FILE"] = str(authority().certificate)
        else:
            self.environ["APPTAINER_NOHTTPS"] = "1"
        number = len(self._places) + 1
        self.at(f"9.9.9.{number}" if public else f"10.9.9.{number}", simulator, name)
        return simulator

    def at(self, address: str, simulator: Simulator, name: str | None = None, *, port: int = 0) -> None:
        """Let `address`, and `name` with it, lead to `simulator`: on this `port`, or whatever the port."""
        self._places[address, port] = simulator
        if name is not None:
            self.names[name] = [address]

    def log_in(self, *hosts: str, user: str = USER, password: str = PASSWORD) -> None:
        """Store a login for `hosts` where Apptainer looks for it."""
        auth = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.write_logins({"auths": {host: {"auth": auth} for host in hosts}})

    def write_logins(self, document: object) -> None:
        path = self.home / ".apptainer/docker-config.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document), encoding="utf-8")

    def helper(self, name: str, script: str) -> None:
        """A credential helper: a shell script on PATH."""
        folder = self.home / "bin"
        folder.mkdir(exist_ok=True)
        path = folder / f"docker-credential-{name}"
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
        self.environ["PATH"] = f"{folder}:/usr/bin:/bin"

    def ask(self, text: str) -> Entry | FreshnessError:
        """What a new resolver answers for one reference."""
        return self.ask_all(text)[text]

    def ask_all(self, *texts: str) -> dict[str, Entry | FreshnessError]:
        with Resolver(environ=self.environ, limits=self.limits) as resolver:
            answers = {reference.text: answer for reference, answer in resolver.resolve(map(parse, texts))}
            self.warnings = resolver.warnings
        return answers

    def check(self, entry: Entry) -> RemoteFact:
        with Resolver(environ=self.environ, limits=self.limits) as resolver:
            return next(resolver.check([entry]))[1]

    def saw_secret(self, simulator: Simulator) -> bool:
        """Whether anything that was sent to `simulator` has the password in it, plain or in base64."""
        basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return any(
            secret in f"{request.path}?{request.query} {dict(request.headers)} {request.body!r}"
            for request in simulator.requests
            for secret in (PASSWORD, basic)
        )

    def _getaddrinfo(self, host: str, port: object, *_: object, **__: object) -> list[Any]:
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "no such name in the lab")
        return [(None, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.names[host]]

    def _create_connection(self, address: tuple[str, int], timeout: float, **_: object) -> socket.socket:
        with self._lock:
            self.connected.append(address[0])
        simulator = self._places.get(address) or self._places.get((address[0], 0))
        port = address[1] if simulator is None else simulator.port
        if simulator is None and address[0] not in ("127.0.0.1", "::1"):
            raise ConnectionRefusedError(111, "nobody lives there in the lab")
        connection = socket.socket()
        connection.settimeout(timeout)
        connection.connect(("127.0.0.1", port))
        return connection
