"""TLS: the authorities that are trusted on https: Apptainer's, and the certificates of ``certs.d``.

Go programs trust a file and the folders of the system, in the place of which ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` are
read where they are set (Go, ``crypto/x509/root_unix.go``), so a Python that brings a list of its own (conda, certifi)
must not decide here: an institution's authority would be good for Apptainer and unknown to us. certifi is used where
the system has no list.

For one host there may be more, in ``certs.d/HOST[:PORT]`` (containers-certs.d(5)): authorities (``*.crt``), which are
trusted beside the others, and a client certificate (``*.cert`` with its ``*.key``). The first folder that exists
counts: the user's, then the system's, then Docker's.

A folder in which every certificate is found under its hash, as on Debian, is read as needed; the big file, 30 ms to
parse, is not.
"""

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.errors import TLSFailed
from snakemake_apptainer_freshness.registry.urls import Origin

_FILES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
SYSTEM_CERTS: Final = (Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))
HASHED_FOLDER: Final = "/etc/ssl/certs"
_HASHED_NAME: Final = re.compile(r"[0-9a-f]{8}\.[0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Certificate authorities (files and hashed folders), and a client certificate with its key."""

    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    client: tuple[str, str] | None = None

    def context(self) -> ssl.SSLContext:
        """Return a context that verifies certificate and host name against these authorities.

        Raises
        ------
        TLSFailed
            where a file cannot be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        part = ""
        try:
            for part in self.files:
                context.load_verify_locations(cafile=part)
            for part in self.folders:
                context.load_verify_locations(capath=part)
            if self.client is not None:
                part = self.client[0]
                context.load_cert_chain(*self.client)
        except OSError as error:
            raise TLSFailed(f"cannot use the certificates in {part}: {error.strerror or error}") from None
        return context


class Trusts:
    """The authorities that are trusted at each host; the file system is read once for each."""

    def __init__(self, environ: Mapping[str, str], *, system_folders: tuple[Path, ...] = SYSTEM_CERTS) -> None:
        self._environ = environ
        home = environ.get("HOME", "")
        own = (Path(home) / ".config/containers/certs.d",) if home else ()
        self._folders = (*own, *system_folders)
        self._known: dict[str, Trust] = {}
        self._system: Trust | None = None

    def of(self, origin: Origin) -> Trust:
        """Return the authorities that are trusted at `origin`.

        Raises
        ------
        TLSFailed
            where a client certificate lacks its key.
        """
        trust = self._known.get(origin.netloc)
        if trust is None:
            trust = self._known[origin.netloc] = self._look_up(origin)
        return trust

    def _look_up(self, origin: Origin) -> Trust:
        if self._system is None:
            self._system = system(self._environ)
        names = {origin.netloc, f"{origin.netloc.removesuffix(f':{origin.port}')}:{origin.port}"}
        if origin.netloc == "registry-1.docker.io":
            names.add("docker.io")
        folder = next(
            (path for base in self._folders for name in sorted(names) if (path := base / name).is_dir()), None
        )
        if folder is None:
            return self._system
        authorities = tuple(sorted(str(path) for path in folder.glob("*.crt")))
        return replace(self._system, files=self._system.files + authorities, client=_client_certificate(folder))


def _client_certificate(folder: Path) -> tuple[str, str] | None:
    for path in sorted(folder.glob("*.cert")):
        key = path.with_suffix(".key")
        if not key.exists():
            raise TLSFailed(f"{path} is a client certificate without its key, {key.name}")
        return str(path), str(key)
    return None


def system(environ: Mapping[str, str]) -> Trust:
    """Return the authorities that Go programs trust in `environ`: a file *and* folders."""
    file, folders = environ.get("SSL_CERT_FILE", ""), environ.get("SSL_CERT_DIR", "")
    searched = tuple(filter(None, folders.split(":"))) or (HASHED_FOLDER,)
    hashed = tuple(folder for folder in searched if _is_hashed(folder))
    files: tuple[str, ...] = (file,) if file else ()
    if folders:
        files += tuple(path for folder in searched if folder not in hashed for path in _certificates(Path(folder)))
    if not files and not hashed:
        files = tuple(path for path in _FILES if Path(path).exists())[:1]
    if not files and not hashed:
        import certifi

        files = (certifi.where(),)
    return Trust(files=files, folders=hashed)


def _is_hashed(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(_HASHED_NAME.fullmatch(entry.name) for entry in entries)
    except OSError:
        return False


def _certificates(folder: Path) -> list[str]:
    try:
        return sorted(
            str(path) for path in folder.iterdir() if path.suffix in (".pem", ".crt", ".cer") and path.is_file()
        )
    except OSError:
        return []
