"""Which proxy a host is reached through: as Go programs, and so Apptainer, read the environment. Pure.

``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY``, each in capitals first, then in small letters (Go,
``golang.org/x/net/http/httpproxy``). There is no ``ALL_PROXY``. ``localhost`` and loopback addresses are never reached
through a proxy. An entry of ``NO_PROXY`` is ``*``, an address, a network (``10.0.0.0/8``), or a name, which stands for
the host and everything below it (with a leading dot: only for what is below); each but a network may end in a port.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from snakemake_apptainer_freshness.errors import ConnectionFailed
from snakemake_apptainer_freshness.registry.addresses import literal
from snakemake_apptainer_freshness.registry.urls import Origin

_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy, and the login that it wants; ``str()`` shows no secret."""

    origin: Origin
    username: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return str(self.origin)


def find(origin: Origin, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for requests to `origin`; None for none.

    Raises
    ------
    ConnectionFailed
        where the environment names a proxy that cannot be used.
    """
    name = f"{origin.scheme.upper()}_PROXY"
    text = environ.get(name) or environ.get(name.lower()) or ""
    if not text or (name == "HTTP_PROXY" and environ.get("REQUEST_METHOD")):  # CGI: a request could set it (httpoxy)
        return None
    if _is_local(origin.host) or _is_exempt(origin, environ.get("NO_PROXY") or environ.get("no_proxy") or ""):
        return None
    return _parse(text, name)


def _parse(text: str, name: str) -> Proxy:
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in _PORTS or not _HOST.fullmatch(parts.hostname or "") or port is None:
        raise ConnectionFailed(
            f"{name} is not the address of a proxy that can be used",
            hint="write http://HOST:PORT; proxies of other kinds (socks) are not supported",
        )
    origin = Origin(scheme=parts.scheme, host=parts.hostname or "", port=port)
    return Proxy(origin=origin, username=unquote(parts.username or ""), password=unquote(parts.password or ""))


def _is_local(host: str) -> bool:
    # Go asks no proxy for this machine itself, whatever the environment says
    address = literal(host)
    return host == "localhost" if address is None else address.is_loopback


def _is_exempt(origin: Origin, exceptions: str) -> bool:
    return any(_matches(entry.strip().lower(), origin) for entry in exceptions.split(","))


def _matches(entry: str, origin: Origin) -> bool:
    if not entry:
        return False
    if entry == "*":
        return True
    address = literal(origin.host)
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    host, port = _split_port(entry)
    if port is not None and port != origin.port:
        return False
    if address is not None:
        return literal(host.strip("[]")) == address
    name = host.removeprefix("*")
    if name.startswith("."):  # subdomains alone; without the dot the host itself, too
        return origin.host.endswith(name)
    return origin.host == name or origin.host.endswith("." + name)


def _split_port(entry: str) -> tuple[str, int | None]:
    host, colon, port = entry.rpartition(":")
    if colon and port.isdecimal() and (host.startswith("[") or ":" not in host):
        return host, int(port)
    return entry, None
