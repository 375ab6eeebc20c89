"""A certificate authority made for the occasion, and a certificate of it for loopback and :data:`NAMES`."""

from __future__ import annotations

import functools
import ssl
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.support import programs

NAMES = (
    "localhost",
    "registry.example",
    "thief.example",
    "service.example",
    "innocent.example",
    "auth.example",
    "registry.test",
    "inside.test",
    "auth.test",
    "docker.io.evil.example",
    "auth.docker.io.evil.example",
    "*.docker.io",
    "quay.io",
)
"""What the certificate is good for; a wildcard for a whole top-level domain would not be accepted."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority made for the occasion, and a certificate of it for loopback and :data:`NAMES`."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """The authority's own certificate, for ``SSL_CERT_FILE``."""
        return self.folder / "ca.pem"

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.pem", self.folder / "server.key")
        return context


@functools.cache
def authority() -> Authority:
    """The one of this process; it lives as long as the process."""
    return make_authority(Path(_scratch().name))


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="simulator-")


def make_authority(folder: Path) -> Authority:
    """An authority in `folder`, which exists."""
    openssl = str(programs.find("openssl"))
    alternatives = ",".join(["IP:127.0.0.1", "IP:127.0.0.2", "IP:::1", *(f"DNS:{name}" for name in NAMES)])
    (folder / "openssl.cnf").write_text(
        "[req]\ndistinguished_name=name\n[name]\n[ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n"
        f"[server]\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName={alternatives}\n",
        encoding="utf-8",
    )
    new = ["req", "-x509", "-config", "openssl.cnf", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    new += ["-days", "2"]
    ca = [*new, "-extensions", "ca", "-subj", "/CN=tests", "-keyout", "ca.key", "-out", "ca.pem"]
    server = [*new, "-extensions", "server", "-subj", "/CN=simulator", "-CA", "ca.pem", "-CAkey", "ca.key"]
    for arguments in (ca, [*server, "-keyout", "server.key", "-out", "server.pem"]):
        subprocess.run([openssl, *arguments], cwd=folder, capture_output=True, check=True)
    return Authority(folder)
