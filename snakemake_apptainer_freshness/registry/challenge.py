"""Challenges: deciding after a 401 which server may see a credential. Values in, a decision out; no I/O.

A registry answers 401 and names, in ``WWW-Authenticate``, how it wants to be asked (RFC 9110, 11; distribution
specification, token authentication). That text comes from the server that answered, and CVE-2020-15157 is what happens
when a client sends its password to whatever host stands there. The rules:

* Only the registry itself may challenge. What a redirect led to may not: it gets no answer.
* A realm must be ``https``, unless the registry itself is asked by plain http.
* A login is sent to the realm only if the realm is on the registry's own host (whatever port), or is the token service
  that belongs to that registry in a small built-in table, or is a host that the user listed, or if registry and realm
  both have private addresses. Host names are compared whole, never by prefix or suffix.
* Any other public realm gets an anonymous request: a public image needs no more.
* A realm with a private address is asked only on behalf of a registry with a private one. What is never asked at all
  (link-local, metadata) is :mod:`.addresses`' business and refused when the connection is made.
* The scope is ours (``repository:NAME:pull``), whatever the challenge proposes.
* ``Bearer`` is preferred to ``Basic`` where both are offered; any other scheme is not understood.

A token answer must be a JSON object with a token that fits into a header. One without a usable expiry lives for 60
seconds, as the specification says; none is believed for longer than an hour.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

from snakemake_apptainer_freshness.errors import DamagedAnswer, PolicyRefused, Unauthorized
from snakemake_apptainer_freshness.registry import urls
from snakemake_apptainer_freshness.registry.addresses import ANYWHERE, Zone
from snakemake_apptainer_freshness.registry.urls import Origin, Url

MAX_HEADER: Final = 8192
"""Of all ``WWW-Authenticate`` values together, in characters."""
DEFAULT_EXPIRY: Final = 60.0
"""Of a token that does not say, in seconds (distribution specification, token authentication)."""
MAX_EXPIRY: Final = 3600.0
CLIENT_ID: Final = "snakemake-apptainer-freshness"

TOKEN_SERVICES: Final[Mapping[str, frozenset[str]]] = {
    "registry-1.docker.io": frozenset({"auth.docker.io"}),
    "index.docker.io": frozenset({"auth.docker.io"}),
    "registry.gitlab.com": frozenset({"gitlab.com"}),
}
"""Token services on another host than their registry's, that may see its logins."""

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME: Final = re.compile(rf"[ \t,]*({_WORD})(?=[ \t,]|$)[ \t]*")
_PARAMETER: Final = re.compile(rf'({_WORD})[ \t]*=[ \t]*(?:({_WORD})|"((?:[^"\\]|\\.)*)")[ \t]*(?:,[ \t,]*|$)')
_TOKEN68: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*[ \t]*(?:,|$)")
_BEARER_TOKEN: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What one login file, helper or environment has for a registry; its ``repr`` shows no secret."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    """Exchanged for access tokens (OAuth 2 refresh token)."""
    registry_token: str = field(default="", repr=False)
    """Sent as it is."""
    source: str = ""
    """Where it was found, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One scheme (lower case) of a ``WWW-Authenticate`` header, with its parameters (keys in lower case)."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Basic:
    """Ask the registry again, with user name and password."""

    login: Login


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """Ask the registry again, with a token that the user brought."""

    login: Login


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchToken:
    """Ask `url` for a token, with `login`, or anonymously; at addresses of `zones` only.

    `withheld` says why a login that exists is not sent.
    """

    url: Url
    zones: frozenset[Zone]
    login: Login | None = None
    form: Mapping[str, str] | None = field(default=None, repr=False)
    """For a POST, where an identity token is exchanged."""
    withheld: str = ""


NextRequest = Basic | Bearer | FetchToken
"""What is asked next: the registry once more, or a token service."""


def parse(values: Iterable[str]) -> tuple[Challenge, ...]:
    """Return the challenges in the values of ``WWW-Authenticate`` headers.

    Raises
    ------
    DamagedAnswer
        where they are too long or not of the grammar.
    """
    challenges: list[Challenge] = []
    values = list(values)
    if sum(map(len, values)) > MAX_HEADER:
        raise DamagedAnswer(f"the registry's challenge is longer than {MAX_HEADER} characters")
    for value in values:
        position = 0
        while value[position:].strip(" \t,"):
            challenge, position = _one_challenge(value, position)
            challenges.append(challenge)
    return tuple(challenges)


def _one_challenge(value: str, position: int) -> tuple[Challenge, int]:
    scheme = _SCHEME.match(value, position)
    if scheme is None:
        raise DamagedAnswer("the registry's challenge is malformed")
    position = scheme.end()
    parameters: dict[str, str] = {}
    while parameter := _PARAMETER.match(value, position):
        key = parameter[1].lower()
        text = parameter[2] if parameter[2] is not None else re.sub(r"\\(.)", r"\1", parameter[3])
        if parameters.setdefault(key, text) != text:
            raise DamagedAnswer(f"the registry's challenge says {key[:40]!r} twice")
        position = parameter.end()
    if not parameters and (token := _TOKEN68.match(value, position)) and "=" in token[0]:
        position = token.end()
    elif position < len(value) and not _SCHEME.match(value, position):
        raise DamagedAnswer("the registry's challenge is malformed")
    return Challenge(scheme=scheme[1].lower(), parameters=parameters), position


def realm(challenges: Iterable[Challenge]) -> Url | None:
    """Return where the first ``Bearer`` challenge wants a token to be asked for; None without one.

    Raises
    ------
    PolicyRefused
        where the realm is no URL that we follow.
    """
    for challenge in challenges:
        if challenge.scheme == "bearer":
            return urls.parse(challenge.parameters.get("realm", ""))
    return None


def decide(
    challenges: tuple[Challenge, ...],
    *,
    registry: Origin,
    answered_by: Origin,
    repository: str,
    login: Login | None,
    registry_zone: Zone | None,
    realm_zone: Zone | None,
    token_hosts: frozenset[str] = frozenset(),
) -> NextRequest:
    """Return what to do about `challenges`, which `answered_by` sent when `registry` was asked about `repository`.

    `registry_zone` and `realm_zone` are where the two hosts' addresses lie, None where only a proxy knows.
    `token_hosts` are the hosts that the user listed.

    Raises
    ------
    PolicyRefused
        where the challenge must not be answered.
    Unauthorized
        where it can only be answered with a login, and there is none.
    """
    if answered_by != registry:
        raise PolicyRefused(f"{registry} redirected to {answered_by}, which asked for a login: it gets none")
    schemes = {challenge.scheme for challenge in challenges}
    target = realm(challenges)
    if target is not None:
        if login is not None and login.registry_token:
            return Bearer(login=login)
        return _token_request(
            challenges,
            target,
            registry,
            repository=repository,
            login=login,
            zones=(registry_zone, realm_zone),
            token_hosts=token_hosts,
        )
    if "basic" not in schemes:
        raise Unauthorized(
            f"{registry} wants a login of a kind that is not supported: {', '.join(sorted(schemes)) or 'it names none'}"
        )
    if login is None or not login.username:
        raise Unauthorized(
            f"{registry} wants a user name and a password for {repository}, and there is no login for it"
        )
    return Basic(login=login)


def _token_request(
    challenges: tuple[Challenge, ...],
    target: Url,
    registry: Origin,
    *,
    repository: str,
    login: Login | None,
    zones: tuple[Zone | None, Zone | None],
    token_hosts: frozenset[str],
) -> FetchToken:
    refuse_realm(target.origin, registry, zones)
    both_private = zones == (Zone.PRIVATE, Zone.PRIVATE)
    trusted = may_see_logins(target.origin, registry=registry, token_hosts=token_hosts)
    sent = login if trusted or both_private else None
    withheld = ""
    if login is not None and sent is None:
        withheld = f"the login was not sent to {target.origin.host}, which is not known to belong to {registry.host}"
    # What the name resolves to when the connection is made has to lie where it lay when this was decided.
    allowed = ANYWHERE
    if target.origin != registry and zones[0] is Zone.PUBLIC:
        allowed = frozenset({Zone.PUBLIC})
    elif sent is not None and not trusted:
        allowed = frozenset({Zone.PRIVATE})
    parameters = next(challenge.parameters for challenge in challenges if challenge.scheme == "bearer")
    service = parameters.get("service")
    query = {**({"service": service} if service else {}), "scope": f"repository:{repository}:pull"}
    if sent is not None and sent.identity_token:
        form = {"grant_type": "refresh_token", "client_id": CLIENT_ID, "refresh_token": sent.identity_token, **query}
        return FetchToken(url=target, zones=allowed, login=sent, form=form)
    return FetchToken(url=_with_query(target, query), zones=allowed, login=sent, withheld=withheld)


def refuse_realm(realm: Origin, registry: Origin, zones: tuple[Zone | None, Zone | None]) -> None:
    """Refuse a realm that is not asked at all; `zones` are those of registry and realm.

    Raises
    ------
    PolicyRefused
        for plain http on behalf of an https registry, and for a private address on behalf of a public one.
    """
    if realm.scheme != "https" and registry.scheme == "https":
        raise PolicyRefused(f"{registry} asks for a login at {realm}, which is not encrypted")
    if zones == (Zone.PUBLIC, Zone.PRIVATE):
        raise PolicyRefused(f"{registry} is public and asks for a login at a private address, {realm.host}")


def may_see_logins(realm: Origin, *, registry: Origin, token_hosts: frozenset[str]) -> bool:
    """Return whether `realm` may see a login of `registry`, by name.

    Private addresses are :func:`decide`'s business.
    """
    return (
        realm.host == registry.host
        or realm.host in TOKEN_SERVICES.get(registry.host, frozenset())
        or realm.host in token_hosts
    )


def _with_query(url: Url, query: Mapping[str, str]) -> Url:
    joint = "&" if "?" in url.target else "?"
    return Url(origin=url.origin, target=f"{url.target}{joint}{urlencode(query)}")


def read_token(body: bytes) -> tuple[str, float]:
    """Return the token in a token service's answer, and how many seconds it lives.

    Raises
    ------
    DamagedAnswer
        where there is none that fits into a header.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise DamagedAnswer("the token service's answer is not JSON") from None
    if not isinstance(document, dict):
        raise DamagedAnswer("the token service's answer is not an object")
    token = document.get("token") or document.get("access_token")
    if not isinstance(token, str) or not _BEARER_TOKEN.fullmatch(token):
        raise DamagedAnswer("the token service's answer has no usable token")
    expiry = document.get("expires_in")
    if isinstance(expiry, bool) or not isinstance(expiry, int | float) or not 0 < expiry < float("inf"):
        return token, DEFAULT_EXPIRY
    return token, min(float(expiry), MAX_EXPIRY) if expiry < MAX_EXPIRY else MAX_EXPIRY
