"""``https://`` and ``http://``: files that can only be pinned by the hash of what is downloaded.

There is no digest to ask for, so the first pin reads the whole file and hashes it on the way; nothing is stored. What
the server says of the file's version (``ETag``, ``Last-Modified``) stands in the lock as a hint: where it has not
changed, the file is taken to be the same, and where it has, the file is read and hashed again before it is reported.
A server that says neither cannot be checked without a download, and that is what is reported.
"""

import hashlib
from typing import Final

from snakemake_apptainer_freshness.errors import (
    DamagedAnswer,
    Denied,
    NotFound,
    PolicyRefused,
    Unauthorized,
    Unpullable,
)
from snakemake_apptainer_freshness.freshness import RemoteFact, RemoteState
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.registry import urls
from snakemake_apptainer_freshness.registry.addresses import ANYWHERE, Zone
from snakemake_apptainer_freshness.registry.retry import RetryPolicy
from snakemake_apptainer_freshness.registry.transport import (
    FORBIDDEN,
    OK,
    REDIRECTS,
    UNAUTHORIZED,
    HttpRequest,
    HttpResponse,
    Sink,
    Transport,
)
from snakemake_apptainer_freshness.registry.urls import Url
from snakemake_apptainer_freshness.settings import Limits

MEDIA_TYPE: Final = "application/vnd.sylabs.sif.layer.v1.sif"
"""Of a file that should be a SIF; that is not checked when it is pinned."""

IMAGE_START: Final = 128
_LONGEST_HINT: Final = 256


class WebSource:
    """References that are web addresses."""

    def __init__(self, transport: Transport, patience: RetryPolicy, *, limits: Limits) -> None:
        self._transport = transport
        self._patience = patience
        self._limits = limits

    def resolve(self, reference: Reference) -> Entry:
        """Return the pin of `reference`: the file is read whole.

        Raises
        ------
        RegistryError
            where the server cannot be asked, or does not have it.
        """
        digest, answer = self._download(reference)
        return Entry(
            reference=reference,
            digest=digest,
            media_type=MEDIA_TYPE,
            hints=_hints(answer),
        )

    def check(self, reference: Reference, entry: Entry) -> RemoteFact:
        """Return what the server has now: one HEAD where its version has not changed."""
        try:
            hints = _hints(self._ask(reference, "HEAD"))
            if not hints:
                detail = "the server says neither ETag nor Last-Modified: only a download could tell"
                return RemoteFact(state=RemoteState.UNCHECKED, detail=detail)
            if hints == entry.hints:
                return RemoteFact(state=RemoteState.CURRENT, digest=entry.digest)
            digest, _ = self._download(reference)
        except NotFound as error:
            return RemoteFact(state=RemoteState.LOST, detail=error.message)
        state = RemoteState.CURRENT if digest == entry.digest else RemoteState.MOVED
        return RemoteFact(state=state, digest=digest)

    def download(self, reference: Reference, sink: Sink) -> None:
        """Give `sink` the file at the address `reference`, piece by piece, unchecked.

        Raises
        ------
        RegistryError
            where the server cannot be asked, or does not have it.
        """
        self._ask(reference, "GET", sink)

    def _download(self, reference: Reference) -> tuple[Digest, HttpResponse]:
        """Return the hash of the file as it is now, and the answer that it came with."""
        hashing = _Hashing()
        answer = self._ask(reference, "GET", hashing)
        if not looks_like_image(bytes(hashing.start)):
            raise Unpullable(
                f"{reference.text}: what the server sends is not a SIF file",
                hint="look at it in a browser: a login page or an error page may have taken its place",
            )
        return Digest(algorithm="sha256", hex=hashing.hasher.hexdigest()), answer

    def _ask(self, reference: Reference, method: str, sink: Sink | None = None) -> HttpResponse:
        url = urls.parse(reference.text)
        home = url.origin
        zones = ANYWHERE
        for _ in range(self._limits.redirects + 1):
            answer = self._patience.ask(url.origin, lambda url=url, zones=zones: self._send(method, url, zones, sink))  # type: ignore[misc]
            location = answer.headers.get("location", "")
            if answer.status not in REDIRECTS or not location:
                return _usable(answer, reference)
            target = urls.join(url, location)
            if url.origin.scheme == "https" and target.origin.scheme != "https":
                raise PolicyRefused(f"{url.origin} redirects to {target.origin}, which is not encrypted")
            if target.origin != home and self._transport.zone(home) is Zone.PUBLIC:
                zones = frozenset({Zone.PUBLIC})
            url = target
        raise PolicyRefused(f"{home} redirects more than {self._limits.redirects} times")

    def _send(self, method: str, url: Url, zones: frozenset[Zone], sink: Sink | None) -> HttpResponse:
        timeout = None
        if sink is not None:
            sink.restart()
            timeout = self._limits.download_timeout
        ask = HttpRequest(
            method=method, url=url, limit=self._limits.error_size, zones=zones, sink=sink, timeout=timeout
        )
        return self._transport.send(ask)


class _Hashing:
    """Takes a body in pieces, from the start again at each attempt; keeps its hash and its first bytes."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.hasher = hashlib.sha256()
        self.start = bytearray()

    def __call__(self, piece: bytes) -> None:
        self.hasher.update(piece)
        if len(self.start) < IMAGE_START:
            self.start += piece[:IMAGE_START]


def looks_like_image(start: bytes) -> bool:
    """Return whether a file that starts so is an image for Apptainer: a SIF, or the bare squashfs of Singularity 2."""
    return b"SIF_MAGIC" in start[:IMAGE_START] or b"hsqs" in start[:IMAGE_START]


def _usable(answer: HttpResponse, reference: Reference) -> HttpResponse:
    if answer.status == OK:
        return answer
    if answer.status in (404, 410):
        raise NotFound(f"{reference.text}: the server does not have it", hint="check the address")
    if answer.status == UNAUTHORIZED:
        raise Unauthorized(f"{reference.text}: the server wants a login, and Apptainer has none for web addresses")
    if answer.status == FORBIDDEN:
        raise Denied(f"{reference.text}: the server refuses it")
    raise DamagedAnswer(f"{reference.text}: the server answered with status {answer.status}")


def _hints(answer: HttpResponse) -> dict[str, str]:
    """Return what the server says of the file's version, where that fits into a lock."""
    hints = {"etag": answer.headers.get("etag", ""), "last_modified": answer.headers.get("last-modified", "")}
    return {key: text for key, text in hints.items() if text and text.isprintable() and len(text) <= _LONGEST_HINT}
