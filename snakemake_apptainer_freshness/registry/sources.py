"""``docker://`` and ``oras://``: what a reference is pinned to, and what is asked about a pin later.

A pin is made from bytes that were hashed, never from what a server says of them. So a new pin costs one ``GET``, by
tag: the digest is the hash of what came, and a server whose header says another one is lying. A ``HEAD`` before would
prove nothing and cost a round trip, and it would not save the ``GET``, which is what registries count. What is served
under the digest later, Apptainer holds to it.

A later check needs no bytes, and is one ``HEAD``. A digest that has not changed is believed, because nothing follows
from it; one that has changed is fetched and hashed before anybody is told.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol, TypeVar

from snakemake_apptainer_freshness.errors import (
    ConnectionFailed,
    DamagedAnswer,
    NotFound,
    PolicyRefused,
    RegistryError,
    TimedOut,
    TLSFailed,
)
from snakemake_apptainer_freshness.freshness import RemoteFact, RemoteState
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import Reference, Scheme
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.registry.client import Client, Document, Sink
from snakemake_apptainer_freshness.registry.containers_conf import Place

T = TypeVar("T")


class Source(Protocol):
    """How one kind of reference is asked about. Errors mean that nobody can say."""

    def resolve(self, reference: Reference) -> Entry:
        """The pin of `reference`."""

    def check(self, reference: Reference, entry: Entry) -> RemoteFact:
        """What is served now of `reference`, which `entry` pins."""


class RegistrySource:
    """References of OCI registries. `places` says where one is asked for; the first place that has it counts."""

    def __init__(
        self, client: Client, places: Callable[[Reference], Iterable[Place]], warn: Callable[[str], None]
    ) -> None:
        self._client = client
        self._places = places
        self._warn = warn

    def resolve(self, reference: Reference) -> Entry:
        """The pin of `reference`.

        Raises
        ------
        RegistryError
            where the registry cannot be asked, does not have it, or has something that cannot be pulled.
        """
        return self._first(reference, lambda place: self._resolve_at(place, reference)[0])

    def resolve_with_platform(self, reference: Reference) -> Entry:
        """As :meth:`resolve`; and a single image's platform, which only its configuration says, is read, too."""
        return self._first(reference, lambda place: self._resolve_with_platform_at(place, reference))

    def check(self, reference: Reference, entry: Entry) -> RemoteFact:
        """What the registry serves now of `reference`: one HEAD where nothing changed."""
        pin = Digest.parse(entry.digest)
        missing: list[RemoteFact] = []

        def ask(place: Place) -> RemoteFact:
            fact = self._check_at(place, reference, pin)
            if fact.state not in (RemoteState.CURRENT, RemoteState.MOVED):
                missing.append(fact)
                raise NotFound(fact.detail or f"{reference.text}: {place} does not serve it")  # the next may have it
            return fact

        try:
            return self._first(reference, ask)
        except NotFound:
            return missing[-1]

    def manifest(self, reference: Reference, digest: Digest) -> Document:
        """What is served as `digest` in the repository of `reference`; its bytes hash to that."""
        return self._first(reference, lambda place: self._client.fetch(place, str(digest)))

    def blob(self, reference: Reference, digest: Digest, sink: Sink) -> None:
        """Give `sink` the blob `digest` of the repository of `reference`, as :meth:`Client.blob` does."""
        self._first(reference, lambda place: self._client.blob(place, digest, sink))

    def _first(self, reference: Reference, ask: Callable[[Place], T]) -> T:
        failures: list[RegistryError] = []
        for place in self._places(reference):
            try:
                answer = ask(place)
            except RegistryError as error:
                failures.append(error)
                continue
            for failure in failures:
                if isinstance(failure, DamagedAnswer | PolicyRefused | TLSFailed):  # not merely absent or down
                    self._warn(f"{reference.text} was asked at {place}, because a mirror failed: {failure.message}")
            return answer
        raise failures[-1] if len(failures) == 1 else _all_failed(failures)

    def _resolve_with_platform_at(self, place: Place, reference: Reference) -> Entry:
        from snakemake_apptainer_freshness.registry import pinning

        entry, document = self._resolve_at(place, reference)
        if entry.platforms or reference.scheme is not Scheme.DOCKER:
            return entry
        platform = pinning.platform(document, lambda digest, sink: self._client.blob(place, digest, sink))
        return entry if platform is None else replace(entry, platforms={platform: entry.digest})

    def _resolve_at(self, place: Place, reference: Reference) -> tuple[Entry, Document]:
        from snakemake_apptainer_freshness.registry import pinning

        document = self._client.fetch(place, str(reference.digest or reference.tag))
        return pinning.entry(reference, document, lambda digest: self._client.fetch(place, str(digest))), document

    def _check_at(self, place: Place, reference: Reference, pin: Digest) -> RemoteFact:
        if reference.tag is None:
            state = RemoteState.CURRENT if self._is_served(place, pin) else RemoteState.LOST
            return RemoteFact(state=state)
        try:
            digest = self._client.head(place, reference.tag)
            if digest == pin:
                return RemoteFact(state=RemoteState.CURRENT, digest=str(pin))
            document = self._client.fetch(place, reference.tag if digest is None else str(digest))
        except NotFound as error:
            state = RemoteState.UNTAGGED if self._is_served(place, pin) else RemoteState.LOST
            return RemoteFact(state=state, detail=error.message)
        if document.digest == pin:
            return RemoteFact(state=RemoteState.CURRENT, digest=str(pin))
        from snakemake_apptainer_freshness.registry import pinning

        platforms = pinning.platforms(document)
        state = RemoteState.MOVED if self._is_served(place, pin) else RemoteState.LOST
        return RemoteFact(state=state, digest=str(document.digest), platforms=platforms)

    def _is_served(self, place: Place, digest: Digest) -> bool:
        try:
            self._client.head(place, str(digest))
        except NotFound:
            return False
        return True


def _all_failed(failures: list[RegistryError]) -> RegistryError:
    """One error for all places: what the last one says, which is the registry itself, and what its mirrors said."""
    if not failures:
        return PolicyRefused("there is no place that this reference could be asked for")
    *mirrors, last = failures
    told = "; ".join(error.message for error in mirrors)
    unsure = next((error for error in mirrors if isinstance(error, ConnectionFailed | TimedOut)), None)
    # "Not found" is only true where every place could be asked.
    kind = type(unsure) if unsure is not None and isinstance(last, NotFound) else type(last)
    return kind(f"{last.message} (before that: {told})", hint=last.hint)
