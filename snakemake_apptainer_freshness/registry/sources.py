"""``docker://`` and ``oras://``: what a reference is pinned to, and what is asked about a pin later.

A pin is made from bytes that were hashed, never from what a server says of them. So a new pin costs one ``GET``, by
tag: the digest is the hash of what came, and a server whose header says another one is lying. A ``HEAD`` before would
prove nothing and cost a round trip, and it would not save the ``GET``, which is what registries count. What is served
under the digest later, Apptainer holds to it.

A later check needs no bytes, and is one ``HEAD``. A digest that has not changed is believed, because nothing follows
from it; one that has changed is fetched and hashed before it is reported.

What is served, as an entry of the lock: from bytes that were hashed to a pin. Needed for new and moved pins alone.

``oras://`` is pinned by its manifest like any image; the digest of the SIF file in it, which is Apptainer's name for
the file in its cache, stands beside the pin as the hint ``layer``.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, Protocol, TypeVar

from snakemake_apptainer_freshness.common import strict_json
from snakemake_apptainer_freshness.errors import (
    ConnectionFailed,
    DamagedAnswer,
    InvalidReference,
    NotFound,
    PolicyRefused,
    RegistryError,
    TimedOut,
    TLSFailed,
    Unpullable,
)
from snakemake_apptainer_freshness.freshness import RemoteFact, RemoteState
from snakemake_apptainer_freshness.image import manifest
from snakemake_apptainer_freshness.image.blobs import Bounded
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.manifest import Index, Manifest, ManifestKind
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.registry import referrers
from snakemake_apptainer_freshness.registry.client import Client, Document, ResumableSink
from snakemake_apptainer_freshness.registry.containers_conf import Repository
from snakemake_apptainer_freshness.registry.listings import TagList
from snakemake_apptainer_freshness.registry.referrers import FoundSignatures
from snakemake_apptainer_freshness.settings import LIMITS

_WRONG_KIND: Final = {
    ManifestKind.SIF: "it is a SIF file, which docker:// cannot pull: write oras://",
    ManifestKind.IMAGE: "it is a container image, which oras:// cannot pull: write docker://",
    ManifestKind.ARTIFACT: "it is an artifact (a signature, a chart, …), not an image",
    ManifestKind.SCHEMA1: "it is in Docker's first format (schema 1), which Apptainer cannot pull: push it again",
}


def entry(reference: Reference, document: Document, fetch: Callable[[Digest], Document]) -> Entry:
    """Return the pin of `reference`, as which `document` is served; `fetch` gets another document of its repository.

    Raises
    ------
    DamagedAnswer
        where `document` is no manifest and no index.
    Unpullable
        where Apptainer could not pull it.
    """
    parsed = manifest.parse(document.body, document.content_type)
    hints = {}
    if reference.scheme is Scheme.ORAS:
        hints["layer"] = str(_sif_layer(reference, parsed, fetch))
    elif isinstance(parsed, Manifest) and parsed.kind is not ManifestKind.IMAGE:
        raise Unpullable(f"{reference.text}: {_WRONG_KIND[parsed.kind]}")
    return Entry(
        reference=reference,
        digest=document.digest,
        media_type=parsed.media_type,
        platforms=_platforms(parsed),
        hints=hints,
    )


def platform(document: Document, fetch: Callable[[Digest, ResumableSink], None]) -> Platform | None:
    """Return the platform of the single image that `document` is of; None where its configuration does not say it.

    `fetch` gets a blob, here the configuration. It is hashed, and read no further than its size.

    Raises
    ------
    DamagedAnswer
        where it is not what the manifest says.
    """
    parsed = manifest.parse(document.body, document.content_type)
    config = parsed.config if isinstance(parsed, Manifest) else None
    if config is None or config.size > LIMITS.manifest_size:
        return None
    body = Bounded(config.size)
    fetch(config.digest, body)
    if not config.digest.matches(bytes(body.content)):
        raise DamagedAnswer(f"the configuration of {document.digest} is not what its manifest says")
    content = strict_json.load(bytes(body.content))
    names = [content.get(key) for key in ("os", "architecture")] if isinstance(content, dict) else []
    try:
        return Platform.parse("/".join(map(str, names)))
    except InvalidReference:
        return None


def platforms(document: Document) -> Mapping[Platform, Digest]:
    """Return the platforms of `document` and their digests; none where it is not an index.

    Raises
    ------
    DamagedAnswer
        where `document` is no manifest and no index.
    """
    return _platforms(manifest.parse(document.body, document.content_type))


def _platforms(parsed: Manifest | Index) -> Mapping[Platform, Digest]:
    return manifest.platforms(parsed) if isinstance(parsed, Index) else {}


def _sif_layer(reference: Reference, parsed: Manifest | Index, fetch: Callable[[Digest], Document]) -> Digest:
    if isinstance(parsed, Index):  # Apptainer 1.5 takes the child of this machine's platform
        child = manifest.choose(parsed, Platform.here())
        if child is None or child.is_index:
            raise Unpullable(f"{reference.text}: the index has no SIF file for {Platform.here()}")
        document = fetch(child.digest)
        parsed = manifest.parse(document.body, document.content_type)
    if isinstance(parsed, Manifest) and parsed.sif_layer is not None:
        return parsed.sif_layer.digest
    kind = parsed.kind if isinstance(parsed, Manifest) else ManifestKind.ARTIFACT
    raise Unpullable(f"{reference.text}: {_WRONG_KIND[kind]}")


T = TypeVar("T")


class ReferenceSource(Protocol):
    """How one kind of reference is asked about. An error means that the answer could not be had."""

    def resolve(self, reference: Reference) -> Entry:
        """Return the pin of `reference`."""

    def check(self, reference: Reference, entry: Entry) -> RemoteFact:
        """Return what is served now of `reference`, which `entry` pins."""


class RegistrySource:
    """References of OCI registries. `places` says where one is asked for; the first place that has it counts."""

    def __init__(
        self, client: Client, places: Callable[[Reference], Iterable[Repository]], warn: Callable[[str], None]
    ) -> None:
        self._client = client
        self._places = places
        self._warn = warn

    def resolve(self, reference: Reference) -> Entry:
        """Return the pin of `reference`.

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
        """Return what the registry serves now of `reference`: one HEAD where nothing changed."""
        pin = entry.digest
        missing: list[RemoteFact] = []

        def ask(place: Repository) -> RemoteFact:
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
        """Return what is served as `digest` in the repository of `reference`; its bytes hash to that."""
        return self._first(reference, lambda place: self._client.fetch(place, str(digest)))

    def tags(self, reference: Reference) -> TagList:
        """Return the tags of the repository of `reference`, from the first place that gives them."""
        return self._first(reference, self._client.tags)

    def blob(self, reference: Reference, digest: Digest, sink: ResumableSink) -> None:
        """Give `sink` the blob `digest` of the repository of `reference`, as :meth:`Client.blob` does."""
        self._first(reference, lambda place: self._client.blob(place, digest, sink))

    def signatures(self, reference: Reference, digest: Digest) -> FoundSignatures:
        """Return what lies beside the image `digest` of `reference` as its signatures, from every place that has it.

        A mirror that has the image may lack its signatures, or have others: no place speaks for another.

        Raises
        ------
        RegistryError
            where no place could be asked.
        """
        answers: list[FoundSignatures] = []
        failures: list[RegistryError] = []
        for place in self._places(reference):
            try:
                answers.append(referrers.signatures(self._client, place, digest))
            except RegistryError as error:
                failures.append(error)
        if not answers:
            raise failures[-1] if len(failures) == 1 else _all_failed(failures)
        return referrers.together(answers, [error.message for error in failures])

    def _first(self, reference: Reference, ask: Callable[[Repository], T]) -> T:
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

    def _resolve_with_platform_at(self, place: Repository, reference: Reference) -> Entry:
        pinned, document = self._resolve_at(place, reference)
        if pinned.platforms or reference.scheme is not Scheme.DOCKER:
            return pinned
        of = platform(document, lambda digest, sink: self._client.blob(place, digest, sink))
        return pinned if of is None else replace(pinned, platforms={of: pinned.digest})

    def _resolve_at(self, place: Repository, reference: Reference) -> tuple[Entry, Document]:
        document = self._client.fetch(place, str(reference.digest or reference.tag))
        return entry(reference, document, lambda digest: self._client.fetch(place, str(digest))), document

    def _check_at(self, place: Repository, reference: Reference, pin: Digest) -> RemoteFact:
        if reference.tag is None:
            state = RemoteState.CURRENT if self._is_served(place, pin) else RemoteState.LOST
            return RemoteFact(state=state)
        try:
            digest = self._client.head(place, reference.tag)
            if digest == pin:
                return RemoteFact(state=RemoteState.CURRENT, digest=pin)
            # a tag counts as moved only by what was fetched and hashed, not by what HEAD says
            document = self._client.fetch(place, reference.tag if digest is None else str(digest))
        except NotFound as error:
            state = RemoteState.UNTAGGED if self._is_served(place, pin) else RemoteState.LOST
            return RemoteFact(state=state, detail=error.message)
        if document.digest == pin:
            return RemoteFact(state=RemoteState.CURRENT, digest=pin)
        # a pin that is no longer served matters more than that its tag moved
        state = RemoteState.MOVED if self._is_served(place, pin) else RemoteState.LOST
        return RemoteFact(state=state, digest=document.digest, platforms=platforms(document))

    def _is_served(self, place: Repository, digest: Digest) -> bool:
        try:
            self._client.head(place, str(digest))
        except NotFound:
            return False
        return True


def _all_failed(failures: list[RegistryError]) -> RegistryError:
    """Return one error for all places: what the registry itself says, and what its mirrors said."""
    if not failures:
        return PolicyRefused("there is no place that this reference could be asked for")
    *mirrors, last = failures
    earlier = "; ".join(error.message for error in mirrors)
    unsure = next((error for error in mirrors if isinstance(error, ConnectionFailed | TimedOut)), None)
    # "Not found" is only true where every place could be asked.
    kind = type(unsure) if unsure is not None and isinstance(last, NotFound) else type(last)
    return kind(f"{last.message} (before that: {earlier})", hint=last.hint)
