"""Docker's reference registry, as Debian ships it, on a loopback port.

Everything is in one folder: configuration, storage, logs. The port is chosen at the first start and kept, so
that a registry can be unplugged (:meth:`RealRegistry.stop`) and plugged in again under the same name, with
what it held.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import bcrypt
import httpx

from tests.support import programs

MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)

START_TIMEOUT = 20.0  # seconds until the registry has to answer
STOP_TIMEOUT = 5.0  # seconds until it is killed
PORT_ATTEMPTS = 5  # a free port can be taken by another process before the registry has it

_OWN_AGENT = "tests-support-registry"
_ACCESS = re.compile(
    r'^\S+ \S+ \S+ \[(?P<time>[^]]+)] "(?P<method>\S+) (?P<target>\S+) [^"]*" (?P<status>\d+) \d+ '
    r'"[^"]*" "(?P<agent>[^"]*)"$'
)


class RegistryError(Exception):
    """The registry did not start, or refused what the tests asked; ends with its own log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One line of the access log. ``time`` has a resolution of one second."""

    method: str
    path: str
    query: str
    status: int
    user_agent: str
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAuth:
    """A registry that trusts the tokens of ``realm``, signed by a certificate in ``rootcertbundle`` (PEM)."""

    realm: str
    service: str
    issuer: str
    rootcertbundle: Path


class RealRegistry:
    """A registry that runs while the ``with`` block does.

    ``htpasswd`` maps users to passwords; ``tls`` is a certificate and its key, both PEM files. ``folder`` is
    made where it does not exist, and what an earlier registry stored there is served again.
    """

    def __init__(
        self,
        folder: Path,
        *,
        htpasswd: Mapping[str, str] | None = None,
        token: TokenAuth | None = None,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.storage = self.folder / "storage"
        self.scheme = "https" if tls else "http"
        self.port = 0
        self._users = dict(htpasswd or {})
        self._token = token
        self._tls = tls
        self._access_log = self.folder / "access.log"
        self._log = self.folder / "registry.log"
        self._seen = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        """Host and port as they stand in a reference."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The address without a trailing slash."""
        return f"{self.scheme}://{self.host}"

    @property
    def auth(self) -> tuple[str, str] | None:
        """The first user and password of ``htpasswd``."""
        return next(iter(self._users.items()), None)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers; the port of an earlier start is used again."""
        if self._process is not None:
            return
        self.storage.mkdir(parents=True, exist_ok=True)
        if self.port:
            self._start()
            return
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self.port = _free_port()
            try:
                self._start()
            except RegistryError as error:
                if "address already in use" not in str(error) or attempt == PORT_ATTEMPTS:
                    raise
            else:
                return

    def stop(self) -> None:
        """Unplug it: no process listens on the port any more."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def requests(self) -> list[Request]:
        """What it was asked since the start or the last :meth:`clear`, in the order in which it answered."""
        if self._process is not None:
            self._wait_for_log()
        lines = self._access_log.read_text(encoding="utf-8", errors="replace")[self._seen :].splitlines()
        parsed = filter(None, map(parse_access_line, lines))
        return [request for request in parsed if not request.user_agent.startswith(_OWN_AGENT)]

    def clear(self) -> None:
        """Forget the requests so far."""
        self.requests()
        self._seen = len(self._access_log.read_text(encoding="utf-8", errors="replace"))

    def delete(self, repository: str, reference: str) -> None:
        """Delete a manifest, given by tag or digest, and with it every tag that points at it."""
        digest = reference if reference.startswith("sha256:") else self.digest(repository, reference)
        self._ask("DELETE", f"/v2/{repository}/manifests/{digest}", expect=202)

    def digest(self, repository: str, tag: str) -> str:
        """The digest that a tag points at."""
        answer = self._ask("HEAD", f"/v2/{repository}/manifests/{tag}", expect=200)
        return answer.headers["Docker-Content-Digest"]

    def untag(self, repository: str, tag: str) -> None:
        """Take a tag away and keep its manifest: this registry has no request for that, its storage has."""
        folder = self.storage / "docker/registry/v2/repositories" / repository / "_manifests/tags" / tag
        shutil.rmtree(folder)

    def _start(self) -> None:
        command = [str(programs.find("docker-registry")), "serve", str(self._write_config())]
        with self._access_log.open("ab") as access, self._log.open("ab") as log:
            # A process group of its own: Ctrl-C in a terminal is for the tests, which then stop the registry.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=access, stderr=log, process_group=0
            )
        try:
            self._wait_until_it_answers(self._process)
        except BaseException:
            self.stop()
            raise

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            if process.poll() is not None:
                raise RegistryError(f"the registry ended with status {process.returncode}:\n{self._last_words()}")
            try:
                httpx.get(f"{self.url}/v2/", headers={"User-Agent": _OWN_AGENT}, verify=False, trust_env=False)
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise RegistryError(
                        f"the registry did not answer within {START_TIMEOUT:.0f} s:\n{self._last_words()}"
                    ) from None
                time.sleep(0.02)
            else:
                return

    def _wait_for_log(self) -> None:
        """Ask something unmistakable until the log has it: what was answered before stands there too."""
        mark = f"{_OWN_AGENT}/{time.monotonic_ns()}"
        httpx.get(f"{self.url}/v2/", headers={"User-Agent": mark}, verify=False, trust_env=False)
        deadline = time.monotonic() + STOP_TIMEOUT
        while mark not in self._access_log.read_text(encoding="utf-8", errors="replace"):
            if time.monotonic() > deadline:
                raise RegistryError(f"the registry writes no access log:\n{self._last_words()}")
            time.sleep(0.01)

    def _ask(self, method: str, path: str, *, expect: int) -> httpx.Response:
        headers = {"User-Agent": _OWN_AGENT, "Accept": ", ".join(MANIFEST_TYPES)}
        answer = httpx.request(method, self.url + path, headers=headers, auth=self.auth, verify=False, trust_env=False)
        if answer.status_code != expect:
            raise RegistryError(f"{method} {path} was answered with {answer.status_code}: {answer.text}")
        return answer

    def _write_config(self) -> Path:
        """The configuration as JSON, which is YAML too."""
        http: dict[str, object] = {"addr": self.host, "secret": "loopback"}
        if self._tls:
            certificate, key = self._tls
            http["tls"] = {"certificate": str(certificate), "key": str(key)}
        config = {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.storage)},
                "delete": {"enabled": True},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": http,
        } | self._auth_config()
        path = self.folder / "config.yml"
        path.write_text(json.dumps(config, indent=1), encoding="utf-8")
        return path

    def _auth_config(self) -> dict[str, object]:
        if self._users:
            path = self.folder / "htpasswd"
            path.write_text("".join(map(_htpasswd_line, self._users, self._users.values())), encoding="utf-8")
            return {"auth": {"htpasswd": {"realm": "tests", "path": str(path)}}}
        if self._token:
            return {
                "auth": {
                    "token": {
                        "realm": self._token.realm,
                        "service": self._token.service,
                        "issuer": self._token.issuer,
                        "rootcertbundle": str(self._token.rootcertbundle),
                    }
                }
            }
        return {}

    def _last_words(self) -> str:
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:])


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key as PEM files in ``folder``, for ``tls`` and ``TokenAuth``."""
    certificate, key, config = (folder / name for name in ("certificate.pem", "key.pem", "openssl.cnf"))
    config.write_text("[req]\ndistinguished_name = name\n[name]\n", encoding="utf-8")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    files = ("-config", str(config), "-keyout", str(key), "-out", str(certificate))
    command = [str(programs.find("openssl")), "req", "-x509", "-days", "1", *curve, *names, *files]
    subprocess.run(command, capture_output=True, check=True)
    return certificate, key


def parse_access_line(line: str) -> Request | None:
    """A line of the access log (Apache's combined format); ``None`` for anything else."""
    match = _ACCESS.match(line)
    if match is None:
        return None
    path, _, query = match["target"].partition("?")
    return Request(
        method=match["method"],
        path=path,
        query=query,
        status=int(match["status"]),
        user_agent=match["agent"],
        time=datetime.strptime(match["time"], "%d/%b/%Y:%H:%M:%S %z"),
    )


def _htpasswd_line(user: str, password: str) -> str:
    return f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=4)).decode()}\n"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
