"""Who we say that we are: logins and tokens, one token a repository.

A request goes out without a login first. A registry that has answered 401 to one, and never served anything, wants a
token for everything: from then on the token is asked for first. A 401 is answered as :mod:`.challenge` decides, once.
A token is reused until shortly before it expires on the monotonic clock, which nobody sets back.

Token requests follow no redirect: a login goes where it was decided, or nowhere.
"""

import base64
import threading
import time
from dataclasses import dataclass, field
from typing import Final

from snakemake_apptainer_freshness.errors import DamagedAnswer, Denied, PolicyRefused, RegistryError, Unauthorized
from snakemake_apptainer_freshness.registry import challenge, urls
from snakemake_apptainer_freshness.registry.challenge import Challenge, Login
from snakemake_apptainer_freshness.registry.containers_conf import Place
from snakemake_apptainer_freshness.registry.credentials import Credentials
from snakemake_apptainer_freshness.registry.patience import Patience
from snakemake_apptainer_freshness.registry.transport import (
    FORBIDDEN,
    OK,
    REDIRECTS,
    UNAUTHORIZED,
    Answer,
    Ask,
    Transport,
)
from snakemake_apptainer_freshness.registry.urls import Origin
from snakemake_apptainer_freshness.settings import Limits

EARLY: Final = 10.0
"""A token is not used any more this many seconds before it expires, or half of a shorter life."""
_BAD_REQUEST: Final = 400


@dataclass(slots=True)
class _Session:
    """What is known about one repository at one origin."""

    authorization: str = field(default="", repr=False)
    expires: float = float("inf")
    withheld: str = ""
    login: Login | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def current(self) -> str:
        return self.authorization if time.monotonic() < self.expires else ""


class Authorizations:
    """What is said to each registry, for each repository. Thread-safe.

    `token_hosts` are hosts of token services that the user lets see logins.
    """

    def __init__(
        self,
        transport: Transport,
        patience: Patience,
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
        self._sessions: dict[tuple[Origin, str], _Session] = {}
        self._challenges: dict[Origin, tuple[Challenge, ...]] = {}
        self._open: set[Origin] = set()
        self._lock = threading.Lock()

    def current(self, place: Place, origin: Origin) -> str:
        """What to say first to `origin` about `place`; nothing where that may do."""
        session = self._session(place, origin)
        if known := session.current():
            return known
        challenges = self._challenges.get(origin, ())
        if origin in self._open or not any(one.scheme == "bearer" for one in challenges):
            return ""
        return self._answer_challenge(place, session, challenges, (origin, origin), stale="")

    def served(self, origin: Origin) -> None:
        """Note that `origin` serves some repositories to anybody."""
        self._open.add(origin)

    def fresh(self, place: Place, origin: Origin, answer: Answer, *, stale: str) -> str:
        """What to say after the 401 `answer` to what was said before, `stale`.

        Raises
        ------
        PolicyRefused, Unauthorized, DamagedAnswer
            where the challenge must not, or cannot, be answered.
        """
        challenges = challenge.parse(answer.challenges)
        if answer.url.origin == origin:
            self._challenges.setdefault(origin, challenges)
        session = self._session(place, origin)
        return self._answer_challenge(place, session, challenges, (origin, answer.url.origin), stale=stale)

    def refused(self, place: Place, what: str, answer: Answer) -> RegistryError:
        """The error for a 401 or 403 in `answer`, that stayed.

        Registries hide what one may not see: absent and forbidden look the same from outside.
        """
        session = self._session(place, answer.url.origin)
        login = session.login
        if login is None or session.withheld:
            return Unauthorized(
                f"{what}: it does not exist, or needs a login{_because(session.withheld)}", hint=self._login_hint(place)
            )
        if answer.status == UNAUTHORIZED:
            return Unauthorized(
                f"{what}: it does not exist, or the registry refused the login from {login.source}",
                hint=self._login_hint(place),
            )
        return Denied(
            f"{what}: it does not exist, or the login from {login.source} may not read it",
            hint="check the spelling, and ask the owner of the repository for access",
        )

    def _login_hint(self, place: Place) -> str:
        hint = f"log in: apptainer registry login --username NAME docker://{place.host}"
        elsewhere = self._credentials.elsewhere(place)
        return f"{hint} ({elsewhere})" if elsewhere else hint

    def _session(self, place: Place, origin: Origin) -> _Session:
        with self._lock:
            return self._sessions.setdefault((origin, place.repository), _Session())

    def _answer_challenge(
        self,
        place: Place,
        session: _Session,
        challenges: tuple[Challenge, ...],
        origins: tuple[Origin, Origin],
        *,
        stale: str,
    ) -> str:
        """The authorization to try next; `stale` is the one that was refused."""
        origin, answered_by = origins
        with session.lock:
            current = session.current()
            if current and current != stale:
                return current
            realm = challenge.realm(challenges)
            session.login = self._credentials.find(place)
            try:
                decision = challenge.decide(
                    challenges,
                    registry=origin,
                    answered_by=answered_by,
                    repository=place.repository,
                    login=session.login,
                    registry_zone=self._transport.zone(origin),
                    realm_zone=None if realm is None else self._transport.zone(realm.origin),
                    token_hosts=self._token_hosts,
                )
                self._carry_out(place, session, decision)
            except Unauthorized as error:
                raise Unauthorized(error.message, hint=self._login_hint(place)) from None
            return session.authorization

    def _carry_out(self, place: Place, session: _Session, decision: challenge.Decision) -> None:
        session.expires = float("inf")
        match decision:
            case challenge.Basic(login=login):
                session.authorization = _basic(login)
            case challenge.Bearer(login=login):
                session.authorization = f"Bearer {login.registry_token}"
            case challenge.FetchToken():
                session.withheld = decision.withheld
                asked = time.monotonic()
                token, lifetime = self._fetch_token(place, decision)
                session.authorization = f"Bearer {token}"
                session.expires = asked + lifetime - min(EARLY, lifetime / 2)

    def _fetch_token(self, place: Place, decision: challenge.FetchToken) -> tuple[str, float]:
        """A token, and its life in seconds."""
        headers, content = {"Accept": "application/json"}, b""
        if decision.form is not None:
            content = urls.encode(decision.form)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        elif decision.login is not None and decision.login.username:
            headers["Authorization"] = _basic(decision.login)
        ask = Ask(
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
                raise Unauthorized(f"{where} gives no token for {place} without a login{_because(decision.withheld)}")
            raise Unauthorized(f"{where} refused the login from {decision.login.source} for {place}")
        raise DamagedAnswer(f"the token service {where} answered with status {answer.status}")


def _because(withheld: str) -> str:
    return f" ({withheld})" if withheld else ""


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.username}:{login.password}".encode()).decode("ascii")
