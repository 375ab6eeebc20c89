"""What hosts, repositories, tags and digests look like, and the words for one that does not.

The grammar of ``github.com/distribution/reference``, narrowed to what can work; see :mod:`.reference`. What is quoted
in a message is cut short, and never has what may be a password. All of these raise InvalidReference.
"""

import re
from typing import Final

from snakemake_apptainer_freshness.errors import InvalidDigest, InvalidReference
from snakemake_apptainer_freshness.image.digest import Digest

MAX_LENGTH: Final = 2048
"""Of a whole reference, in characters; the longest valid ``docker://`` reference has about 530."""

DOCKER_HUB: Final = "docker.io"
_LEGACY_DOCKER_HUB: Final = "index.docker.io"
_MAX_HOST_LENGTH: Final = 253  # RFC 1035, 2.3.4, without the final dot
_MAX_PORT: Final = 65535

_COMPONENT: Final = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"  # 63 characters: RFC 1035, 2.3.4
_HOST_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_HOST: Final = re.compile(r"(?:\[(?P<ipv6>[^\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>.*))?")
_PORT: Final = re.compile(r"[0-9]{1,5}")
SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")  # RFC 3986, 3.1, as urllib.parse.urlsplit reads it
DIGEST_LIKE: Final = re.compile(r"[A-Za-z0-9+._-]+:[^@/]*")

_WRITABLE: Final = re.compile(r"[!-\[\]-z|~]*")  # printable ASCII without space, backslash and braces


def refuse_unwritable(text: str) -> None:
    """Refuse what no reference of any scheme may contain."""
    if not text:
        raise InvalidReference("an empty string names no image", hint="to run a rule without a container write None")
    if len(text) > MAX_LENGTH:
        raise invalid(text, f"a reference has at most {MAX_LENGTH} characters, this has {len(text)}")
    if _WRITABLE.fullmatch(text):
        return
    for character in text:
        if character.isspace():
            raise invalid(text, f"white space (U+{ord(character):04X}) is not allowed", "remove it")
        if not character.isascii():
            raise invalid(
                text,
                f"U+{ord(character):04X} is not an ASCII character",
                "it may look like an ordinary letter; type the name instead of pasting it",
            )
        if not character.isprintable():
            raise invalid(text, f"the control character U+{ord(character):04X} is not allowed", "remove it")
        if character == "\\":
            raise invalid(text, "a backslash is not allowed", "use /")
        if character in "{}":
            raise invalid(
                text,
                f"{character} is not allowed",
                "Snakemake would read it as a wildcard that was not filled in",
            )


def parse_digest(text: str, digest: str) -> Digest:
    """Return the digest in the reference `text`."""
    try:
        return Digest.parse(digest)
    except InvalidDigest as error:
        raise invalid(text, error.message) from error


def split_host(name: str, *, as_docker: bool) -> tuple[str, str]:
    """Return the host and the rest of `name`, by ``splitDockerDomain`` of ``normalize.go``.

    ``oras://`` follows ``NewRepository`` of go-containerregistry. Were it split as ``docker://`` is,
    ``oras://localhost/x`` would be resolved at one place, and pulled by Apptainer from docker.io.
    """
    first, slash, remainder = name.partition("/")
    if not slash:
        return DOCKER_HUB, name
    if first == _LEGACY_DOCKER_HUB:
        return DOCKER_HUB, remainder
    if "." in first or ":" in first:
        return first, remainder
    if as_docker and (first == "localhost" or first != first.lower()):
        return first, remainder
    return DOCKER_HUB, name


def check_repository(text: str, path: str) -> str:
    """Return `path`, where each of its components has the form that one must have."""
    for component in path.split("/"):
        if _COMPONENT.fullmatch(component):
            continue
        if not component:
            raise invalid(text, "a component of the name is empty", "remove the extra / or :")
        if component != component.lower():
            raise invalid(
                text,
                f"the name must be lower case, not {shown_rest(component)!r}",
                f"write {shown_rest(component).lower()!r}",
            )
        raise invalid(
            text,
            f"{shown_rest(component)!r} is not a component of a name",
            "a component has lower-case letters and digits, and between them one . or _, two _, or some -",
        )
    return path


def check_tag(text: str, tag: str) -> None:
    """Refuse a `tag` that does not have the form of one."""
    if not _TAG.fullmatch(tag):
        raise invalid(
            text,
            f"{shown_rest(tag)!r} is not a tag",
            "a tag has 1 to 128 letters, digits, _ . and -, and does not start with . or -",
        )


def check_host(text: str, host: str) -> None:
    """``domainAndPort`` of ``regexp.go``, narrowed to what a machine can have.

    Go takes a component that fails here, such as ``my_host.org``, for a part of the path and is left without
    a host.
    """
    match = _HOST.fullmatch(host)
    if match is None:
        raise invalid(text, f"{shown_rest(host)!r} is not a host", "write HOST, HOST:PORT or [IPV6]:PORT")
    name, ipv6, port = match["name"], match["ipv6"], match["port"]
    if ipv6 is not None and not _is_ipv6(ipv6):
        raise invalid(text, f"[{shown_rest(ipv6)}] is not an IPv6 address", "zones and embedded IPv4 are not allowed")
    if name is not None and not (len(name) <= _MAX_HOST_LENGTH and _HOST_NAME.fullmatch(name)):
        raise invalid(
            text,
            f"{shown_rest(name)!r} is not a host name",
            "a host name has letters, digits and - between dots, at most 63 characters between two dots",
        )
    if port is not None and not (_PORT.fullmatch(port) and 0 < int(port) <= _MAX_PORT):
        raise invalid(text, f"{shown_rest(port)!r} is not a port", f"a port is a number from 1 to {_MAX_PORT}")


def _is_ipv6(address: str) -> bool:
    """Return whether Go's grammar (hex digits, colons) and ``urlsplit``, which Snakemake calls, both take it."""
    if not re.fullmatch(r"[0-9a-fA-F:]+", address):
        return False
    import ipaddress  # few references name one

    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return True


def invalid(text: str, rule: str, hint: str = "") -> InvalidReference:
    """Return the error for the reference `text`, which breaks `rule`."""
    return InvalidReference(f"container reference {shown(text)}: {rule}", hint=hint)


def shown(text: str) -> str:
    """Return `text` for a message, quoted, with its scheme."""
    scheme = re.match(rf"{SCHEME.pattern}/*", text)
    start = scheme.end() if scheme else 0
    return repr(shown_rest(text[:start]) + shown_rest(text[start:]))


def shown_rest(text: str, limit: int = 160) -> str:
    """Return `text` for a message: cut short, and without what stands before an ``@``, which may be a password."""
    name, at, digest = text.rpartition("@")
    if not (at and DIGEST_LIKE.fullmatch(digest)):
        name, at, digest = text, "", ""
    _, user_info, host = name.rpartition("@")
    shown = ("…@" if user_info else "") + host + at + digest
    return shown if len(shown) <= limit else shown[:limit] + "…"
