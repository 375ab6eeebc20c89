"""URLs that servers send us: the realm of a challenge, the ``Location`` of a redirect.

Programs disagree about what an odd URL means, and an attacker needs only two that do. So there is one parser, it is
strict, and what it does not understand is refused: no user information, no backslash, no white space or control
character, nothing outside ASCII, a host that is a plain name or address, a port that is a number. What the parser
took apart is what the connection is made from; the text is never parsed a second time.
"""

import functools
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from snakemake_apptainer_freshness.errors import PolicyRefused

DEFAULT_PORTS: Final = {"https": 443, "http": 80}
MAX_LENGTH: Final = 8192

_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?(?P<target>[/?][^#]*)?(?:#.*)?",
    re.IGNORECASE | re.ASCII,
)
_PRINTABLE: Final = re.compile(r"[\x21-\x5b\x5d-\x7e]+")  # printable ASCII but space and backslash
_NUMERIC_HOST: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+))*\.?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The server of a URL: scheme, host (lower case, IPv6 without brackets) and port."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        """Host and port as a ``Host`` header has them: the scheme's own port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """An origin, and the path and query that are asked of it."""

    origin: Origin
    target: str = "/"

    def without_query(self) -> str:
        """Return the address for a message: queries carry signatures and tokens."""
        return f"{self.origin}{self.target.partition('?')[0]}"

    def __str__(self) -> str:
        return f"{self.origin}{self.target}"


def parse(text: str) -> Url:
    """Return the absolute http(s) URL that `text` spells; a fragment is dropped.

    Raises
    ------
    PolicyRefused
        where it is anything else, or could be read in two ways.
    """
    if len(text) > MAX_LENGTH or not _PRINTABLE.fullmatch(text):
        raise _refused("it is too long, or has white space, a backslash, or a character outside ASCII")
    match = _URL.fullmatch(text)
    if match is None:
        raise _refused("it is not a plain http(s) URL; user information is not allowed")
    scheme = match["scheme"].lower()
    port = int(match["port"]) if match["port"] else DEFAULT_PORTS[scheme]
    if not 0 < port < 1 << 16:
        raise _refused(f"there is no port {port}")
    target = match["target"] or "/"
    origin = Origin(scheme=scheme, host=_host(match["host"].lower()), port=port)
    return Url(origin=origin, target=target if target.startswith("/") else "/" + target)


def join(base: Url, location: str) -> Url:
    """Return where a redirect from `base` to `location` leads; `location` may be absolute or start with ``/``.

    Raises
    ------
    PolicyRefused
        for any other relative form (registries send none), and as :func:`parse`.
    """
    if location.startswith("//"):
        return parse(f"{base.origin.scheme}:{location}")
    if location.startswith("/"):
        return parse(f"{base.origin}{location}")
    return parse(location)


@functools.lru_cache(maxsize=256)  # it is asked for with each request
def origin_of(scheme: str, netloc: str) -> Origin:
    """Return the origin of a registry's host as it stands in a reference, such as ``quay.io`` or ``[::1]:5000``."""
    return parse(f"{scheme}://{netloc}").origin


def _host(text: str) -> str:
    """Return a host without brackets.

    A numeric one must be an address in its usual spelling (no 0x7f.1, no 2130706433).
    """
    if text.startswith("["):
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError:
            raise _refused("its host is not an IPv6 address") from None
    if _NUMERIC_HOST.fullmatch(text):
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            raise _refused("its host is a number that is not an IPv4 address") from None
    if ".." in text or text.startswith(("-", ".")) or len(text.rstrip(".")) > 253:  # noqa: PLR2004  RFC 1035, 2.3.4
        raise _refused("its host is not a host name")
    return text


def _refused(why: str) -> PolicyRefused:
    return PolicyRefused(f"refused to follow a URL that a server sent: {why}")


def encode(form: Mapping[str, str]) -> bytes:
    """Return `form` as the body of a POST."""
    return urlencode(form).encode("ascii")
