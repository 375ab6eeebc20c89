"""Referrers: finding and fetching the signatures of an image in its registry; they are verified elsewhere.

Three places are looked at: the registry's own list of what refers to a digest (distribution specification 1.1,
``GET /v2/<name>/referrers/<digest>``); where it has none, the list under the tag ``sha256-<hex>`` that the
specification has clients keep in its place; and the tag ``sha256-<hex>.sig``, under which cosign has its own form.

All that is fetched is named by a digest and held to it, and no more of it than the limits allow: a user who may push to
a repository can put any amount there. What cannot be read is left out, and told.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from snakemake_apptainer_freshness.errors import DamagedAnswer, NotFound
from snakemake_apptainer_freshness.image import manifest, signature
from snakemake_apptainer_freshness.image.blobs import Bounded
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.manifest import Descriptor, Index, Manifest
from snakemake_apptainer_freshness.image.signature import BUNDLE, Form, Signature
from snakemake_apptainer_freshness.registry.client import Client
from snakemake_apptainer_freshness.registry.containers_conf import Repository

_COSIGN_ARTIFACT: Final = "application/vnd.dev.cosign.artifact.sig.v1+json"
Part = tuple[Descriptor, Form, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSignatures:
    """The signatures that lie beside an image; `problems` says of what was there and could not be used why."""

    signatures: tuple[Signature, ...] = ()
    problems: tuple[str, ...] = ()


def together(answers: Iterable[FoundSignatures], problems: Sequence[str] = ()) -> FoundSignatures:
    """Return what several places have, each signature once."""
    places = list(answers)
    return FoundSignatures(
        signatures=tuple(dict.fromkeys(signature for place in places for signature in place.signatures)),
        problems=(*(text for place in places for text in place.problems), *problems),
    )


def signatures(client: Client, place: Repository, digest: Digest) -> FoundSignatures:
    """Return what `place` has as signatures of the image `digest`.

    Raises
    ------
    RegistryError
        where it cannot be asked.
    """
    search = _Search(client, place, digest)
    most = client.limits.signatures
    parts = list(islice(search.parts(), most + 1))
    if len(parts) > most:
        search.problems.append(f"{place} has more than {most} signatures of {digest.short}; the others were not read")
    fetched = [signature for part in parts[:most] if (signature := search.fetch(*part)) is not None]
    return FoundSignatures(signatures=tuple(dict.fromkeys(fetched)), problems=tuple(search.problems))


class _Search:
    """The search for the signatures of one image at one place."""

    def __init__(self, client: Client, place: Repository, digest: Digest) -> None:
        self._client = client
        self._place = place
        self._digest = digest
        self.problems: list[str] = []

    def parts(self) -> Iterator[Part]:
        """Yield what is a signature in the documents that refer to the image."""
        tag = f"{self._digest.algorithm}-{self._digest.hex}"
        pages = self._client.referrers(self._place, self._digest)
        lists = [self._parsed(page) for page in pages or ()]
        if pages is None or not all(isinstance(page, Index) for page in lists):  # some answer whatever is asked
            lists.append(self._tagged(tag))
        for entry in islice(self._candidates(lists), self._client.limits.signatures + 1):
            yield from self._parts_of(self._named(str(entry.digest)))
        yield from self._parts_of(self._tagged(f"{tag}.sig"))

    def _candidates(self, lists: Iterable[Manifest | Index | None]) -> Iterator[Descriptor]:
        """Yield what may hold signatures; what does not say what it is, is looked at."""
        for page in lists:
            for entry in page.entries if isinstance(page, Index) else ():
                if entry.artifact_type in ("", _COSIGN_ARTIFACT) or entry.artifact_type.startswith(BUNDLE):
                    yield entry

    def _parts_of(self, document: Manifest | Index | None) -> Iterator[Part]:
        if isinstance(document, Manifest):
            yield from signature.parts(document)

    def _tagged(self, tag: str) -> Manifest | Index | None:
        try:
            return self._parsed(self._client.fetch(self._place, tag).body)
        except NotFound:
            return None  # most images have none
        except DamagedAnswer as error:
            self.problems.append(error.message)
            return None

    def _named(self, digest: str) -> Manifest | Index | None:
        try:
            return self._parsed(self._client.fetch(self._place, digest).body)
        except (NotFound, DamagedAnswer) as error:
            self.problems.append(error.message)
            return None

    def _parsed(self, body: bytes) -> Manifest | Index | None:
        try:
            return manifest.parse(body, None)
        except DamagedAnswer as error:
            self.problems.append(f"{self._place}: what refers to {self._digest.short} cannot be read: {error.message}")
            return None

    def fetch(self, descriptor: Descriptor, form: Form, value: str) -> Signature | None:
        """Return the signature in the blob `descriptor`; None where it cannot be had, or is too large."""
        most = self._client.limits.signature_size
        if descriptor.size > most:
            self.problems.append(
                f"a signature of {self._digest.short} is {descriptor.size} bytes long; {most} are read"
            )
            return None
        body = Bounded(descriptor.size)
        try:
            self._client.blob(self._place, descriptor.digest, body)
        except (NotFound, DamagedAnswer) as error:
            self.problems.append(f"a signature of {self._digest.short} cannot be had: {error.message}")
            return None
        if not descriptor.digest.matches(bytes(body.content)):
            self.problems.append(f"{self._place}: what is served as {descriptor.digest.short} is something else")
            return None
        return Signature(form=form, content=bytes(body.content), signature=value)
