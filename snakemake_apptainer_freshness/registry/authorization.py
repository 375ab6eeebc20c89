"""What is said to each registry about each repository: nothing first, and after a 401 what answers it, once.

A registry that has answered 401 to a request without a login, and never served anything to one, wants a token for
everything: from then on the token of each further repository is asked for first, which saves a round trip. A token is
reused until shortly before it expires on the monotonic clock, which nobody sets back.

Most registries of public images never answer 401: what answers one (:mod:`.answering`) is imported when one comes.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from snakemake_apptainer_freshness.errors import Denied, RegistryError, Unauthorized
from snakemake_apptainer_freshness.registry.containers_conf import Place
from snakemake_apptainer_freshness.registry.transport import UNAUTHORIZED, Answer
from snakemake_apptainer_freshness.registry.urls import Origin

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.registry.answering import Answerer, Authorization
    from snakemake_apptainer_freshness.registry.challenge import Challenge


@dataclass(slots=True)
class _Session:
    """What is known about one repository at one origin."""

    authorization: "Authorization | None" = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def current(self) -> str:
        said = self.authorization
        return said.value if said is not None and said.is_fresh else ""


class Authorizations:
    """What is said to each registry, for each repository. Thread-safe. `answerer` gives whoever answers challenges."""

    def __init__(self, answerer: "Callable[[], Answerer]") -> None:
        self._answerer = answerer
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
        return self._answer(place, session, challenges, (origin, origin), stale="")

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
        from snakemake_apptainer_freshness.registry import challenge

        challenges = challenge.parse(answer.challenges)
        if answer.url.origin == origin:
            self._challenges.setdefault(origin, challenges)
        session = self._session(place, origin)
        return self._answer(place, session, challenges, (origin, answer.url.origin), stale=stale)

    def refused(self, place: Place, what: str, answer: Answer) -> RegistryError:
        """The error for a 401 or 403 in `answer`, that stayed.

        Registries hide what one may not see: absent and forbidden look the same from outside.
        """
        from snakemake_apptainer_freshness.registry.answering import because

        said = self._session(place, answer.url.origin).authorization
        if said is None or said.login is None or said.withheld:
            withheld = "" if said is None else said.withheld
            return Unauthorized(
                f"{what}: it does not exist, or needs a login{because(withheld)}", hint=self._answerer().hint(place)
            )
        if answer.status == UNAUTHORIZED:
            return Unauthorized(
                f"{what}: it does not exist, or the registry refused the login from {said.login.source}",
                hint=self._answerer().hint(place),
            )
        return Denied(
            f"{what}: it does not exist, or the login from {said.login.source} may not read it",
            hint="check the spelling, and ask the owner of the repository for access",
        )

    def _session(self, place: Place, origin: Origin) -> _Session:
        with self._lock:
            return self._sessions.setdefault((origin, place.repository), _Session())

    def _answer(
        self,
        place: Place,
        session: _Session,
        challenges: "tuple[Challenge, ...]",
        origins: tuple[Origin, Origin],
        *,
        stale: str,
    ) -> str:
        """The authorization to try next; `stale` is the one that was refused, `origins` registry and challenger."""
        registry, answered_by = origins
        with session.lock:
            current = session.current()
            if current and current != stale:
                return current
            said = self._answerer().answer(place, challenges, registry=registry, answered_by=answered_by)
            session.authorization = said
            return said.value
