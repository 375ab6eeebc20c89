"""``docker://`` and ``oras://``: what a reference is pinned to, and what is asked about a pin later.

A pin is made from bytes that were hashed, never from what a server says of them: the tag's digest is asked for, what
is served under that digest is fetched, and has to hash to it. A later check believes a digest that has not changed,
because nothing follows from it; one that has changed is fetched and hashed before anybody is told.

``oras://`` is pinned by its manifest like any image; the digest of the SIF file in it, which is Apptainer's name for
the file in its cache, stands beside the pin as the hint ``layer``.
"""

from collections.abc import Callable, Iterable
from typing import Final, Protocol, TypeVar

from snakemake_apptainer_freshness.errors import (
    ConnectionFailed,
    NotFound,
    PolicyRefused,
    RegistryError,
    TimedOut,
    Unpullable,
)
from snakemake_apptainer_freshness.freshness import RemoteFact, RemoteState
from snakemake_apptainer_freshness.image import manifest
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.manifest import Index, Kind, Manifest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference, Scheme
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.registry.client import Client, Document, Sink
from snakemake_apptainer_freshness.registry.containers_conf import Place

T = TypeVar("T")

_WRONG_KIND: Final = {
    Kind.SIF: "it is a SIF file, which docker:// cannot pull: write oras://",
    Kind.IMAGE: "it is a container image, which oras:// cannot pull: write docker://",
    Kind.ARTIFACT: "it is an artifact (a signature, a chart, …), not an image",
    Kind.SCHEMA1: "it is in Docker's first format (schema 1), which Apptainer cannot pull: push it again",
}


class Source(Protocol):
    """How one kind of reference is asked about. Errors mean that nobody can say."""

    def resolve(self, reference: Reference) -> Entry:
        """The pin of `reference`."""

    def check(self, reference: Reference, entry: Entry) -> RemoteFact:
        """What is served now of `reference`, which `entry` pins."""


class RegistrySource:
    """References of OCI registries. `places` says where one is asked for; the first place that has it counts."""

    def __init__(self, client: Client, places: Callable[[Reference], Iterable[Place]]) -> None:
        self._client = client
        self._places = places

    def resolve(self, reference: Reference) -> Entry:
        """The pin of `reference`.

        Raises
        ------
        RegistryError
            where the registry cannot be asked, does not have it, or has something that cannot be pulled.
        """
        return self._first(reference, lambda place: self._resolve_at(place, reference))

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
                return ask(place)
            except RegistryError as error:
                failures.append(error)
        raise failures[-1] if len(failures) == 1 else _all_failed(failures)

    def _resolve_at(self, place: Place, reference: Reference) -> Entry:
        document = self._served(place, reference)
        parsed = manifest.parse(document.body, document.content_type)
        platforms, hints = {}, {}
        if isinstance(parsed, Index):
            platforms = dict(manifest.platforms(parsed))
        if reference.scheme is Scheme.ORAS:
            hints["layer"] = str(self._sif_layer(place, reference, parsed))
        elif isinstance(parsed, Manifest) and parsed.kind is not Kind.IMAGE:
            raise Unpullable(f"{reference.text}: {_WRONG_KIND[parsed.kind]}")
        return Entry(
            reference=reference.text,
            pinned=reference.pinned(document.digest),
            digest=str(document.digest),
            media_type=parsed.media_type,
            platforms=platforms,
            hints=hints,
        )

    def _served(self, place: Place, reference: Reference) -> Document:
        if reference.digest is not None:
            return self._client.fetch(place, str(reference.digest))
        tag = str(reference.tag)
        digest = self._client.head(place, tag)
        return self._client.fetch(place, tag if digest is None else str(digest))

    def _sif_layer(self, place: Place, reference: Reference, parsed: Manifest | Index) -> Digest:
        if isinstance(parsed, Index):  # Apptainer 1.5 takes the child of this machine's platform
            entry = manifest.choose(parsed, Platform.here())
            if entry is None or entry.is_index:
                raise Unpullable(f"{reference.text}: the index has no SIF file for {Platform.here()}")
            child = self._client.fetch(place, str(entry.digest))
            parsed = manifest.parse(child.body, child.content_type)
        if isinstance(parsed, Manifest) and parsed.sif_layer is not None:
            return parsed.sif_layer.digest
        kind = parsed.kind if isinstance(parsed, Manifest) else Kind.ARTIFACT
        raise Unpullable(f"{reference.text}: {_WRONG_KIND[kind]}")

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
        parsed = manifest.parse(document.body, document.content_type)
        return RemoteFact(
            state=RemoteState.MOVED if self._is_served(place, pin) else RemoteState.LOST,
            digest=str(document.digest),
            platforms=dict(manifest.platforms(parsed)) if isinstance(parsed, Index) else {},
        )

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
