"""The protocol of a registry: manifests, asked for by tag or digest (OCI distribution specification 1.1).

Who asks is :mod:`.registry.tokens`'s business. ``/v2/`` is never pinged: quay.io answers it with 401 and serves public
manifests without a login.

Redirects are followed a few times. One that leaves scheme, host or port loses the authorization for good, may not go
from https to http, and may not lead from a public registry into a private network.

Plain http is used where Apptainer would: for a registry that was declared insecure (``APPTAINER_NOHTTPS``, or
``insecure`` in registries.conf), after https failed. Verification is never switched off.
"""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from snakemake_apptainer_freshness.errors import (
    ConnectionFailed,
    DamagedAnswer,
    InvalidDigest,
    NotFound,
    PolicyRefused,
    RegistryError,
    TLSFailed,
)
from snakemake_apptainer_freshness.image import manifest
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.registry import urls
from snakemake_apptainer_freshness.registry.addresses import ANYWHERE, Zone
from snakemake_apptainer_freshness.registry.containers_conf import Repository
from snakemake_apptainer_freshness.registry.listings import TagList, error_codes, tag_names
from snakemake_apptainer_freshness.registry.retry import RetryPolicy
from snakemake_apptainer_freshness.registry.tokens import Authorizations
from snakemake_apptainer_freshness.registry.transport import (
    FORBIDDEN,
    NOT_FOUND,
    OK,
    PARTIAL,
    REDIRECTS,
    UNAUTHORIZED,
    HttpRequest,
    HttpResponse,
    Sink,
    Transport,
)
from snakemake_apptainer_freshness.registry.urls import Origin, Url
from snakemake_apptainer_freshness.settings import Limits

_TAGS: Final = 1000
_NO_SUCH_PART: Final = 416
_NEXT: Final = re.compile(r'<(?:https?://[^/>]*)?(/v2/[A-Za-z0-9%&=?._~+/:-]*)>\s*;\s*rel="?next"?')
"""The address of the next page (distribution specification, listing tags); its host is left aside: it is this one."""

_PUBLIC_ONLY: Final = frozenset({Zone.PUBLIC})


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A manifest or index as it was served: `digest` is the hash of `body`."""

    digest: Digest
    body: bytes = field(repr=False)
    content_type: str | None


class ResumableSink(Sink, Protocol):
    """Knows how much of a body it has: what breaks off can go on there."""

    @property
    def taken(self) -> int:
        """How many bytes stand before the next piece; none once it begins anew."""


class Client:
    """Asks registries, from any thread."""

    def __init__(
        self,
        transport: Transport,
        patience: RetryPolicy,
        *,
        limits: Limits,
        authorizations: Authorizations,
    ) -> None:
        self._transport = transport
        self._patience = patience
        self.limits = limits
        self._authorizations = authorizations
        self._schemes: dict[str, str] = {}
        self._scheme_locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def head(self, place: Repository, name: str) -> Digest | None:
        """Return the digest that the registry says `name` (a tag or a digest) has.

        None where it does not say, or not well.

        Raises
        ------
        NotFound
            where the registry does not have it.
        RegistryError
            for whatever else went wrong.
        """
        answer = self._ask(place, "HEAD", name)
        if answer.status != OK:
            # Some registries have no HEAD, and an answer to HEAD cannot say what is missing.
            return self.fetch(place, name).digest
        return _digest(answer.headers.get("docker-content-digest", ""))

    def fetch(self, place: Repository, name: str) -> Document:
        """Return what the registry serves as `name`, a tag or a digest.

        Raises
        ------
        DamagedAnswer
            where the bytes are not what the digest says, `name` itself or the registry's header.
        NotFound
            where the registry does not have it.
        RegistryError
            for whatever else went wrong.
        """
        answer = self._ask(place, "GET", name)
        if answer.status != OK:
            raise self._failure(place, name, answer)
        wanted = _digest(name) or _digest(answer.headers.get("docker-content-digest", ""))
        digest = verified(place, wanted, answer.body)
        return Document(digest=digest, body=answer.body, content_type=answer.headers.get("content-type"))

    def blob(self, place: Repository, digest: Digest, sink: ResumableSink) -> None:
        """Give `sink` the bytes of a blob, piece by piece. They are not checked: the `sink` has to hash them.

        What breaks off behind some megabytes goes on where it broke off, if the registry can do that; so does what the
        `sink` has from an earlier time.

        Raises
        ------
        NotFound
            where the registry does not have it.
        RegistryError
            for whatever else went wrong.
        """
        path = f"/v2/{place.repository}/blobs/{digest}"
        limit = self.limits.error_size
        answer = self._with_scheme(place, lambda at: self._authorized(place, at, "GET", path, limit, sink=sink))
        if answer.status not in (OK, PARTIAL):
            raise self._failure(place, str(digest), answer)

    def tags(self, place: Repository) -> TagList:
        """Return the tags of a repository, page after page, so many pages as the limits allow.

        Where the next page is, the registry says; it is asked for only where that is a page of this list.

        Raises
        ------
        NotFound
            where the registry does not have the repository.
        RegistryError
            for whatever else went wrong.
        """
        start = f"/v2/{place.repository}/tags/list?"
        path, names = f"{start}n={_TAGS}", dict[str, None]()
        for _ in range(self.limits.tag_pages):
            answer = self._tag_page(place, path)
            names |= dict.fromkeys(tag_names(place, answer.body))
            following = _NEXT.search(answer.headers.get("link", ""))
            if following is None or not following[1].startswith(start):
                return TagList(tags=tuple(names), is_whole=following is None)
            path = following[1]
        return TagList(tags=tuple(names), is_whole=False)

    def referrers(self, place: Repository, digest: Digest) -> tuple[bytes, ...] | None:
        """Return the lists of what refers to `digest`, page after page; None where the registry keeps none.

        Raises
        ------
        RegistryError
            where it cannot be asked.
        """
        start = f"/v2/{place.repository}/referrers/"
        path, pages = f"{start}{digest}", list[bytes]()
        for _ in range(self.limits.referrer_pages):
            answer = self._listing(place, path)
            if answer.status in (UNAUTHORIZED, FORBIDDEN):
                raise self._authorizations.refused(place, f"what refers to {place}@{digest}", answer)
            if answer.status != OK:
                return None  # a registry without this request answers it in many ways, mostly with 404
            pages.append(answer.body)
            following = _NEXT.search(answer.headers.get("link", ""))
            if following is None or not following[1].startswith(start):
                break
            path = following[1]
        return tuple(pages)

    def _listing(self, place: Repository, path: str) -> HttpResponse:
        limit = self.limits.manifest_size
        return self._with_scheme(place, lambda at: self._authorized(place, at, "GET", path, limit))

    def _tag_page(self, place: Repository, path: str) -> HttpResponse:
        answer = self._listing(place, path)
        if answer.status == NOT_FOUND:
            raise NotFound(f"{place}: the registry has no repository of this name, or lists no tags")
        if answer.status in (UNAUTHORIZED, FORBIDDEN):
            raise self._authorizations.refused(place, f"the tags of {place}", answer)
        if answer.status != OK:
            raise DamagedAnswer(f"the tags of {place}: the registry answered with status {answer.status}")
        return answer

    def _ask(self, place: Repository, method: str, name: str) -> HttpResponse:
        path = f"/v2/{place.repository}/manifests/{name}"
        limit = self.limits.manifest_size
        return self._with_scheme(place, lambda origin: self._authorized(place, origin, method, path, limit))

    # --- https or http ---------------------------------------------------------------------------------------------

    def _with_scheme(self, place: Repository, ask: Callable[[Origin], HttpResponse]) -> HttpResponse:
        """Return the answer by https; for an insecure place by http where https fails, which is found out once."""
        if not place.insecure:
            return ask(urls.origin_of("https", place.api_host))
        with self._lock:
            lock = self._scheme_locks.setdefault(place.api_host, threading.Lock())
        with lock:
            if place.api_host not in self._schemes:
                self._schemes[place.api_host] = self._find_scheme(place)
        return ask(urls.origin_of(self._schemes[place.api_host], place.api_host))

    def _find_scheme(self, place: Repository) -> str:
        origin = urls.origin_of("https", place.api_host)
        try:
            self._transport.send(HttpRequest(method="HEAD", url=Url(origin=origin, target="/v2/"), limit=0))
        except (TLSFailed, ConnectionFailed):
            return "http"
        return "https"

    def _authorized(
        self,
        place: Repository,
        origin: Origin,
        method: str,
        path: str,
        limit: int,
        *,
        sink: ResumableSink | None = None,
    ) -> HttpResponse:
        authorization = self._authorizations.current(place, origin)
        answer = self._follow(origin, method, path, authorization, limit, sink=sink)
        if answer.status == OK and not authorization:
            self._authorizations.served(origin)
        if answer.status != UNAUTHORIZED:
            return answer
        fresh = self._authorizations.fresh(place, origin, answer, stale=authorization)
        return self._follow(origin, method, path, fresh, limit, sink=sink)

    # --- redirects -------------------------------------------------------------------------------------------------

    def _follow(
        self,
        origin: Origin,
        method: str,
        path: str,
        authorization: str,
        limit: int,
        *,
        sink: ResumableSink | None = None,
    ) -> HttpResponse:
        ask = HttpRequest(
            method=method,
            url=Url(origin=origin, target=path),
            headers={
                "Accept": "*/*" if sink else manifest.ACCEPT,
                **({"Authorization": authorization} if authorization else {}),
            },
            limit=limit,
            sink=sink,
            timeout=self.limits.download_timeout if sink else None,
        )
        is_counted = method == "GET" and sink is None
        patiently = self._patience.ask_counted if is_counted else self._patience.ask
        for _ in range(self.limits.redirects + 1):
            answer = patiently(ask.url.origin, lambda ask=ask: self._send(ask, sink))  # type: ignore[misc]
            location = answer.headers.get("location", "")
            if answer.status not in REDIRECTS or not location:
                return answer
            ask = self._redirected(ask, urls.join(ask.url, location), origin)
        raise PolicyRefused(f"{origin} redirects more than {self.limits.redirects} times")

    def _send(self, ask: HttpRequest, sink: ResumableSink | None) -> HttpResponse:
        if sink is not None and sink.taken >= self.limits.resume_from:
            answer = self._transport.send(replace(ask, offset=sink.taken))
            if answer.status != _NO_SUCH_PART:
                return answer
        if sink is not None:
            sink.restart()
        return self._transport.send(ask)

    def _redirected(self, ask: HttpRequest, target: Url, origin: Origin) -> HttpRequest:
        if target.origin == ask.url.origin:
            return replace(ask, url=target)
        if ask.url.origin.scheme == "https" and target.origin.scheme != "https":
            raise PolicyRefused(f"{ask.url.origin} redirects to {target.origin}, which is not encrypted")
        zones = _PUBLIC_ONLY if self._transport.zone(origin) is Zone.PUBLIC else ANYWHERE
        return replace(ask, url=target, headers={"Accept": ask.headers["Accept"]}, zones=zones)

    # --- what went wrong -------------------------------------------------------------------------------------------

    def _failure(self, place: Repository, name: str, answer: HttpResponse) -> RegistryError:
        what = f"{place}@{name}" if ":" in name else f"{place}:{name}"
        if answer.status == NOT_FOUND:
            return self._not_found(place, name, what, answer)
        if answer.status in (UNAUTHORIZED, FORBIDDEN):
            return self._authorizations.refused(place, what, answer)
        return DamagedAnswer(f"{what}: the registry answered with status {answer.status}")

    def _not_found(self, place: Repository, name: str, what: str, answer: HttpResponse) -> NotFound:
        """Return which is missing, the repository or the tag; the one page of tags that tells is asked for once."""
        spelling = "check the spelling, or whether it was deleted"
        if "NAME_UNKNOWN" in error_codes(answer.body):
            return NotFound(f"{what}: the registry has no repository of this name", hint=spelling)
        if ":" in name:
            return NotFound(f"{what}: the registry does not have this digest", hint=spelling)
        tags = self._first_tags(place)
        if tags is None:
            return NotFound(f"{what}: the registry has no repository of this name", hint=spelling)
        import difflib

        near = difflib.get_close_matches(name, tags, n=3)
        hint = f"tags like it: {', '.join(near)}" if near else spelling
        return NotFound(f"{what}: the registry has no tag of this name", hint=hint)

    def _first_tags(self, place: Repository) -> list[str] | None:
        """Return the first tags of a repository; None where it does not exist. Further pages are not asked for."""
        path = f"/v2/{place.repository}/tags/list?n={_TAGS}"
        try:
            answer = self._with_scheme(
                place, lambda at: self._authorized(place, at, "GET", path, self.limits.error_size)
            )
            if answer.status == NOT_FOUND:
                return None
            return tag_names(place, answer.body)
        except RegistryError:
            return []


def verified(place: Repository, wanted: Digest | None, body: bytes) -> Digest:
    """Return the digest of `body`, which was served as `wanted`, if under a digest at all.

    Raises
    ------
    DamagedAnswer
        where `body` does not hash to `wanted`.
    """
    digest = Digest.of(body, wanted.algorithm if wanted else "sha256")
    if wanted is not None and digest != wanted:
        raise DamagedAnswer(
            f"{place}: the registry says {wanted} and serves other bytes ({digest})",
            hint="do not use this image: the registry, or something between it and here, is broken or lying",
        )
    return digest


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InvalidDigest:
        return None
