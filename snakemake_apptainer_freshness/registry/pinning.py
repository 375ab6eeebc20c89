"""What is served, as an entry of the lock: from bytes that were hashed to a pin. Needed for new and moved pins alone.

``oras://`` is pinned by its manifest like any image; the digest of the SIF file in it, which is Apptainer's name for
the file in its cache, stands beside the pin as the hint ``layer``.
"""

from collections.abc import Callable, Mapping
from typing import Final

from snakemake_apptainer_freshness.errors import DamagedAnswer, InvalidReference, Unpullable
from snakemake_apptainer_freshness.image import manifest, strict_json
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.manifest import Index, Kind, Manifest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference, Scheme
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.registry.client import Document, Sink
from snakemake_apptainer_freshness.settings import LIMITS

_WRONG_KIND: Final = {
    Kind.SIF: "it is a SIF file, which docker:// cannot pull: write oras://",
    Kind.IMAGE: "it is a container image, which oras:// cannot pull: write docker://",
    Kind.ARTIFACT: "it is an artifact (a signature, a chart, …), not an image",
    Kind.SCHEMA1: "it is in Docker's first format (schema 1), which Apptainer cannot pull: push it again",
}


def entry(reference: Reference, document: Document, fetch: Callable[[Digest], Document]) -> Entry:
    """The pin of `reference`, as which `document` is served; `fetch` gets another document of its repository.

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
    elif isinstance(parsed, Manifest) and parsed.kind is not Kind.IMAGE:
        raise Unpullable(f"{reference.text}: {_WRONG_KIND[parsed.kind]}")
    return Entry(
        reference=reference.text,
        pinned=reference.pinned(document.digest),
        digest=str(document.digest),
        media_type=parsed.media_type,
        platforms=_platforms(parsed),
        hints=hints,
    )


def platform(document: Document, fetch: Callable[[Digest, Sink], None]) -> str | None:
    """``os/architecture`` of the single image that `document` is of; None where its configuration does not say.

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
    body = _Bounded(config.size)
    fetch(config.digest, body)
    if not config.digest.matches(bytes(body.content)):
        raise DamagedAnswer(f"the configuration of {document.digest} is not what its manifest says")
    content = strict_json.load(bytes(body.content))
    names = [content.get(key) for key in ("os", "architecture")] if isinstance(content, dict) else []
    try:
        return str(Platform.parse("/".join(map(str, names))))
    except InvalidReference:
        return None


class _Bounded:
    """Keeps a blob that is no longer than it should be."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.content = bytearray()

    def restart(self) -> None:
        """What comes next is the first piece, perhaps once more."""
        self.content.clear()

    def __call__(self, piece: bytes) -> None:
        self.content += piece
        if len(self.content) > self._size:
            raise DamagedAnswer(f"a configuration is longer than the {self._size} bytes that its manifest says")


def platforms(document: Document) -> Mapping[str, str]:
    """The platforms of `document` and their digests; none where it is not an index.

    Raises
    ------
    DamagedAnswer
        where `document` is no manifest and no index.
    """
    return _platforms(manifest.parse(document.body, document.content_type))


def _platforms(parsed: Manifest | Index) -> dict[str, str]:
    return dict(manifest.platforms(parsed)) if isinstance(parsed, Index) else {}


def _sif_layer(reference: Reference, parsed: Manifest | Index, fetch: Callable[[Digest], Document]) -> Digest:
    if isinstance(parsed, Index):  # Apptainer 1.5 takes the child of this machine's platform
        child = manifest.choose(parsed, Platform.here())
        if child is None or child.is_index:
            raise Unpullable(f"{reference.text}: the index has no SIF file for {Platform.here()}")
        document = fetch(child.digest)
        parsed = manifest.parse(document.body, document.content_type)
    if isinstance(parsed, Manifest) and parsed.sif_layer is not None:
        return parsed.sif_layer.digest
    kind = parsed.kind if isinstance(parsed, Manifest) else Kind.ARTIFACT
    raise Unpullable(f"{reference.text}: {_WRONG_KIND[kind]}")
