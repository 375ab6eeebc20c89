"""Tokens: answering challenges with a login or a token that it buys. Needed from the first 401 on.

A challenge is answered as :mod:`.challenge` decides. Token requests follow no redirect: a login goes where it was
decided, or nowhere. A token is given up shortly before it expires.

What is said to each registry about each repository: nothing first, and after a 401 what answers it, once.

A registry that has answered 401 to a request without a login, and never served anything to one, wants a token for
everything: from then on the token of each further repository is asked for first, which saves a round trip. A token is
reused until shortly before it expires on the monotonic clock, which is never set back.

Most registries of public images never answer 401: what answers one (:mod:`.registry.tokens`) is imported when one
comes.
"""

import base64
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from snakemake_apptainer_freshness.errors import DamagedAnswer, Denied, PolicyRefused, RegistryError, Unauthorized
from snakemake_apptainer_freshness.registry import challenge, urls
from snakemake_apptainer_freshness.registry.challenge import Challenge, Login
from snakemake_apptainer_freshness.registry.containers_conf import Repository
from snakemake_apptainer_freshness.registry.credentials import Credentials
from snakemake_apptainer_freshness.registry.retry import RetryPolicy
from snakemake_apptainer_freshness.registry.transport import (
    FORBIDDEN,
    OK,
    REDIRECTS,
    UNAUTHORIZED,
    HttpRequest,
    HttpResponse,
    Transport,
)
from snakemake_apptainer_freshness.registry.urls import Origin
from snakemake_apptainer_freshness.settings import Limits

EARLY: Final = 10.0
"""A token is not used any more this many seconds before it expires, or half of a shorter life."""
_BAD_REQUEST: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """The value of an ``Authorization`` header, good until `expires` on the monotonic clock.

    `withheld` says why `login`, which exists, was not shown to the token service.
    """

    value: str = field(repr=False)
    expires: float = float("inf")
    login: Login | None = None
    withheld: str = ""

    @property
    def is_fresh(self) -> bool:
        """Whether it may still be sent."""
        return time.monotonic() < self.expires


class Authenticator:
    """Answers challenges, from any thread. `token_hosts` are hosts of token services that the user lets see logins."""

    def __init__(
        self,
        transport: Transport,
        patience: RetryPolicy,
        *,
        limits: Limits,
        credentials: Credentials,
        token_hosts: frozenset[str] = frozenset(),
    ) -> None:
        self._transport = transport
        self._patience = patience
        self._limits = limits
        self._credentials = credentials
        self._token_hosts = token_hosts

    def answer(
        self, place: Repository, challenges: tuple[Challenge, ...], *, registry: Origin, answered_by: Origin
    ) -> Authorization:
        """Return what to say to `registry` about `place` after `challenges`, which `answered_by` sent.

        Raises
        ------
        PolicyRefused, Unauthorized, DamagedAnswer
            where they must not, or cannot, be answered.
        """
        realm = challenge.realm(challenges)
        login = self._credentials.find(place)
        try:
            decision = challenge.decide(
                challenges,
                registry=registry,
                answered_by=answered_by,
                repository=place.repository,
                login=login,
                registry_zone=self._transport.zone(registry),
                realm_zone=None if realm is None else self._transport.zone(realm.origin),
                token_hosts=self._token_hosts,
            )
            return self._carry_out(place, login, decision)
        except Unauthorized as error:
            raise Unauthorized(error.message, hint=self.hint(place)) from None

    def hint(self, place: Repository) -> str:
        """Return what a person can do who has no login for `place` that works."""
        hint = f"log in: {self._credentials.rules.login_command} --username NAME docker://{place.host}"
        elsewhere = self._credentials.elsewhere(place)
        return f"{hint} ({elsewhere})" if elsewhere else hint

    def _carry_out(self, place: Repository, login: Login | None, decision: challenge.NextRequest) -> Authorization:
        match decision:
            case challenge.Basic(login=shown):
                return Authorization(value=_basic(shown), login=login)
            case challenge.Bearer(login=shown):
                return Authorization(value=f"Bearer {shown.registry_token}", login=login)
            case challenge.FetchToken():
                asked = time.monotonic()
                token, lifetime = self._fetch_token(place, decision)
                expires = asked + lifetime - min(EARLY, lifetime / 2)
                return Authorization(value=f"Bearer {token}", expires=expires, login=login, withheld=decision.withheld)

    def _fetch_token(self, place: Repository, decision: challenge.FetchToken) -> tuple[str, float]:
        """Return a token, and its life in seconds."""
        headers, content = {"Accept": "application/json"}, b""
        if decision.form is not None:
            content = urls.encode(decision.form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        elif decision.login is not None and decision.login.username:
            headers["Authorization"] = _basic(decision.login)
        ask = HttpRequest(
            method="POST" if content else "GET",
            url=decision.url,
            headers=headers,
            content=content,
            limit=self._limits.token_size,
            zones=decision.zones,
        )
        answer = self._patience.ask(decision.url.origin, lambda: self._transport.send(ask))
        if answer.status == OK:
            return challenge.read_token(answer.body)
        where = decision.url.origin.netloc
        if answer.status in REDIRECTS:
            raise PolicyRefused(f"the token service {where} redirects, which is not followed")
        if answer.status in (_BAD_REQUEST, UNAUTHORIZED, FORBIDDEN):
            if decision.login is None:
                raise Unauthorized(f"{where} gives no token for {place} without a login{because(decision.withheld)}")
            raise Unauthorized(f"{where} refused the login from {decision.login.source} for {place}")
        raise DamagedAnswer(f"the token service {where} answered with status {answer.status}")


def because(withheld: str) -> str:
    """Return the reason `withheld` as the end of a sentence."""
    return f" ({withheld})" if withheld else ""


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.username}:{login.password}".encode()).decode("ascii")


@dataclass(slots=True)
class _Session:
    """What is known about one repository at one origin."""

    authorization: "Authorization | None" = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def current(self) -> str:
        authorization = self.authorization
        return authorization.value if authorization is not None and authorization.is_fresh else ""


class Authorizations:
    """The authorizations of registries, by repository. Thread-safe. `answerer` gives an :class:`Authenticator`."""

    def __init__(self, answerer: "Callable[[], Authenticator]") -> None:
        self._answerer = answerer
        self._sessions: dict[tuple[Origin, str], _Session] = {}
        self._challenges: dict[Origin, tuple[Challenge, ...]] = {}
        self._open: set[Origin] = set()
        self._lock = threading.Lock()

    def current(self, place: Repository, origin: Origin) -> str:
        """Return what to say first to `origin` about `place`; nothing where that may do."""
        session = self._session(place, origin)
        if known := session.current():
            return known
        challenges = self._challenges.get(origin, ())
        if origin in self._open or not any(challenge.scheme == "bearer" for challenge in challenges):
            return ""
        return self._answer(place, session, challenges, (origin, origin), stale="")

    def served(self, origin: Origin) -> None:
        """Note that `origin` serves some repositories without a login."""
        self._open.add(origin)

    def fresh(self, place: Repository, origin: Origin, answer: HttpResponse, *, stale: str) -> str:
        """Return what to say after the 401 `answer` to what was said before, `stale`.

        Raises
        ------
        PolicyRefused, Unauthorized, DamagedAnswer
            where the challenge must not, or cannot, be answered.
        """
        from snakemake_apptainer_freshness.registry import challenge

        challenges = challenge.parse(answer.challenges)
        if answer.url.origin == origin:
            self._challenges.setdefault(origin, challenges)
        session = self._session(place, origin)
        return self._answer(place, session, challenges, (origin, answer.url.origin), stale=stale)

    def refused(self, place: Repository, what: str, answer: HttpResponse) -> RegistryError:
        """Return the error for a 401 or 403 in `answer`, that stayed.

        Registries hide what one may not see: absent and forbidden look the same from outside.
        """
        authorization = self._session(place, answer.url.origin).authorization
        if authorization is None or authorization.login is None or authorization.withheld:
            withheld = "" if authorization is None else authorization.withheld
            return Unauthorized(
                f"{what}: it does not exist, or needs a login{because(withheld)}", hint=self._answerer().hint(place)
            )
        if answer.status == UNAUTHORIZED:
            return Unauthorized(
                f"{what}: it does not exist, or the registry refused the login from {authorization.login.source}",
                hint=self._answerer().hint(place),
            )
        return Denied(
            f"{what}: it does not exist, or the login from {authorization.login.source} may not read it",
            hint="check the spelling, and ask the owner of the repository for access",
        )

    def _session(self, place: Repository, origin: Origin) -> _Session:
        with self._lock:
            return self._sessions.setdefault((origin, place.repository), _Session())

    def _answer(
        self,
        place: Repository,
        session: _Session,
        challenges: "tuple[Challenge, ...]",
        origins: tuple[Origin, Origin],
        *,
        stale: str,
    ) -> str:
        """Return the authorization to try next.

        `stale` is the one that was refused, `origins` registry and challenger.
        """
        registry, answered_by = origins
        with session.lock:
            current = session.current()
            if current and current != stale:
                return current
            authorization = self._answerer().answer(place, challenges, registry=registry, answered_by=answered_by)
            session.authorization = authorization
            return authorization.value
