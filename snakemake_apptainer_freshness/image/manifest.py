"""Manifests: the documents that a registry serves under a tag or a digest, from bytes to values.

A document is an *image manifest* or an *index* of OCI or Docker, and it must be plain which: what two
programs could read in two ways is refused (CVE-2021-41190). Apptainer reads with Go's ``encoding/json``,
which takes the last of two equal keys and does not tell ``Digest`` from ``digest``: a document that uses
either of these would make us pin one image and Apptainer pull another (seen with Apptainer 1.4.5). So equal
keys are refused, and keys that differ from a known one in case alone.

A ``mediaType`` in the document, its shape, and the ``Content-Type`` header have to agree. Where the registry
sends no type of a manifest, the document decides. Anything else than exactly what the specifications allow
(OCI image specification 1.1, ``manifest.md``, ``image-index.md``, ``descriptor.md``) is a
:class:`~errors.DamagedAnswer` that names the place; fields that they do not know are ignored. How the bytes
are read at all is :mod:`.common.strict_json`'s business.

Which image of an index runs is Apptainer's choice, made by go-containerregistry (``pkg/v1/remote/index.go``,
``childByPlatform``): the first entry with equal os and architecture; its variant counts only where one is
asked for, and an entry without a platform counts as linux/amd64.

The media types that a registry has for manifests, and what is in them.

Schema 1 of Docker is recognised and never asked for: Apptainer cannot pull it, and its digest is not that of its bytes.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeGuard

from snakemake_apptainer_freshness.common.strict_json import load, refuse
from snakemake_apptainer_freshness.errors import InvalidDigest, InvalidReference
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"

ACCEPT: Final = f"{OCI_INDEX}, {OCI_MANIFEST}, {DOCKER_LIST}, {DOCKER_MANIFEST}"
"""For the ``Accept`` header; without these some registries convert to schema 1, under another digest."""

OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
SIF_LAYER: Final = "application/vnd.sylabs.sif.layer.v1.sif"
SIF_LAYER_OLD: Final = "appliciation/vnd.sylabs.sif.layer.tar"
"""Of Singularity before 3.7, typing error included (Apptainer, ``internal/pkg/client/oras``)."""


MAX_SIZE: Final = 1 << 44
"""Of one layer, in bytes (16 TiB): more than any file system that holds images takes."""

# Of each shape the types that it can have; the first is meant where neither document nor header says which.
_INDEXES: Final = (OCI_INDEX, DOCKER_LIST)
_MANIFESTS: Final = (OCI_MANIFEST, DOCKER_MANIFEST)
_SCHEMA1: Final = (DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED)
_KNOWN: Final = frozenset(_INDEXES + _MANIFESTS + _SCHEMA1)
_SAYS_NOTHING: Final = frozenset({"", "application/json", "application/octet-stream", "text/plain"})

_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")

_DOCUMENT_KEYS: Final = (
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "subject",
    "annotations",
    "fsLayers",
    "history",
    "signatures",
)
_DESCRIPTOR_KEYS: Final = (
    "mediaType",
    "digest",
    "size",
    "urls",
    "annotations",
    "data",
    "platform",
    "artifactType",
)
_PLATFORM_KEYS: Final = ("architecture", "os", "os.version", "os.features", "variant", "features")

_DEFAULT_PLATFORM: Final = Platform(os="linux", architecture="amd64")
_UNKNOWN_PLATFORM: Final = Platform(os="unknown", architecture="unknown")


class ManifestKind(StrEnum):
    """What a manifest is of."""

    IMAGE = "image"
    """A container image: ``docker://`` can pull it."""
    SIF = "sif"
    """A SIF file as the only layer: ``oras://`` can pull it."""
    ARTIFACT = "artifact"
    """Something else, such as a signature or a chart: Apptainer cannot pull it."""
    SCHEMA1 = "schema 1"
    """A container image in Docker's first format: Apptainer cannot pull it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """A descriptor: type, digest and size in bytes of another document; in an index also the platform."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""

    @property
    def is_index(self) -> bool:
        """Whether it describes an index; inside an index, a nested one."""
        return self.media_type in _INDEXES


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One image or artifact. `config` is None for schema 1 alone, whose parts are not looked at."""

    media_type: str
    config: Descriptor | None
    layers: tuple[Descriptor, ...] = ()
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    subject: Descriptor | None = None

    @property
    def kind(self) -> ManifestKind:
        """What this is a manifest of, and so which of Apptainer's sources can pull it."""
        if self.config is None:
            return ManifestKind.SCHEMA1
        if self.sif_layer is not None:
            return ManifestKind.SIF
        # Docker before 1.10 called configurations application/octet-stream: their type proves nothing.
        if self.media_type == DOCKER_MANIFEST or self.config.media_type in (OCI_CONFIG, DOCKER_CONFIG):
            return ManifestKind.IMAGE
        return ManifestKind.ARTIFACT

    @property
    def sif_layer(self) -> Descriptor | None:
        """The SIF file that ``oras://`` pulls: the only layer (Apptainer, ``oras.DownloadImage``)."""
        if len(self.layers) == 1 and self.layers[0].media_type in (SIF_LAYER, SIF_LAYER_OLD):
            return self.layers[0]
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """A list of manifests, mostly one for each platform, in the order in which they are tried."""

    media_type: str
    entries: tuple[Descriptor, ...]
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    subject: Descriptor | None = None


def parse(body: bytes, content_type: str | None) -> Manifest | Index:
    """Return the manifest or index that `body` spells; `content_type` is the header's value, None without one.

    Raises
    ------
    DamagedAnswer
        where `body` is not plainly one of them; the message names the place, as in ``manifests[3].size``.
    """
    document = _members(load(body), "the document", _DOCUMENT_KEYS)
    media_type = _media_type(document, content_type)
    if media_type in _SCHEMA1:
        return Manifest(media_type=media_type, config=None)
    if not _is_version(document, 2):
        refuse("schemaVersion must be 2")
    artifact_type = _optional_media_type(document, "artifactType", "")
    annotations = _annotations(document, "")
    subject = None if document.get("subject") is None else _descriptor(document["subject"], "subject")
    if media_type in _INDEXES:
        return Index(
            media_type=media_type,
            entries=_descriptors(document, "manifests"),
            artifact_type=artifact_type,
            annotations=annotations,
            subject=subject,
        )
    return Manifest(
        media_type=media_type,
        config=_descriptor(document.get("config"), "config"),
        layers=_descriptors(document, "layers"),
        artifact_type=artifact_type,
        annotations=annotations,
        subject=subject,
    )


def platforms(index: Index) -> Mapping[Platform, Digest]:
    """Return what Apptainer takes from `index` on each platform.

    Without variants, since Apptainer asks for none; :func:`choose` can. Attestations (``unknown/unknown``)
    are left out. A digest may be that of a nested index.
    """
    taken: dict[Platform, Digest] = {}
    for platform, digest in _images(index):
        taken.setdefault(Platform(os=platform.os, architecture=platform.architecture), digest)
    return taken


def offered(index: Index) -> frozenset[Platform]:
    """Return the platforms that `index` has images for, with their variants; attestations are left out."""
    return frozenset(platform for platform, _ in _images(index))


def _images(index: Index) -> Iterator[tuple[Platform, Digest]]:
    for entry in index.entries:
        platform = entry.platform or _DEFAULT_PLATFORM
        if (platform.os, platform.architecture) != (_UNKNOWN_PLATFORM.os, _UNKNOWN_PLATFORM.architecture):
            yield platform, entry.digest


def choose(index: Index, wanted: Platform) -> Descriptor | None:
    """Return the entry that Apptainer takes for `wanted`; it may be a nested index. None where there is none."""
    for entry in index.entries:
        if (entry.platform or _DEFAULT_PLATFORM).serves(wanted):
            return entry
    return None


def _members(value: object, where: str, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        refuse(f"{where} must be an object, not {_name(value)}")
    folded = {key.casefold() for key in known}
    for key in value:
        if key not in known and key.casefold() in folded:
            refuse(f"{where} has the key {key[:40]!r}, which Go programs take for another one")
    return value


def _media_type(document: Mapping[str, Any], content_type: str | None) -> str:
    """Return the one type that the document, its shape and the header agree on."""
    shape = _shape(document)
    header = (content_type or "").partition(";")[0].strip().lower()
    if header not in _KNOWN and header not in _SAYS_NOTHING:
        refuse(
            f"the registry sent it as {header[:80]!r}, which is no type of a manifest",
            "is the host a registry? A proxy or a login page may have answered in its place",
        )
    own = _optional_media_type(document, "mediaType", "")
    if own and own not in _KNOWN:
        refuse(f"its mediaType {own[:80]!r} is no type of a manifest")
    if own and header in _KNOWN and own != header:
        refuse(f"its mediaType is {own} and the registry sent it as {header}")
    media_type = own or (header if header in _KNOWN else shape[0])
    if media_type not in shape:
        refuse(f"it has not the shape of its type {media_type}")
    return media_type


def _shape(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the types that a document with these members can have.

    As ``ValidateUnambiguousManifestFormat`` of containers/image (``internal/manifest/common.go``), only
    stricter: a key that is there counts, whatever its value.
    """
    present = {key for key in ("config", "layers", "manifests", "fsLayers", "history") if key in document}
    if _is_version(document, 1) and not present & {"config", "layers", "manifests"}:
        return _SCHEMA1
    if present == {"manifests"}:
        return _INDEXES
    if present == {"config", "layers"}:
        return _MANIFESTS
    if "manifests" not in present:
        refuse("it is neither a manifest (config and layers) nor an index (manifests)")
    return refuse(f"it is an index and a manifest at once ({', '.join(sorted(present))})")


def _is_version(document: Mapping[str, Any], wanted: int) -> bool:
    version = document.get("schemaVersion")
    return _is_integer(version) and version == wanted


def _is_integer(value: object) -> TypeGuard[int]:
    """Return whether JSON would call `value` an integer; Python calls true one, too."""
    return isinstance(value, int) and not isinstance(value, bool)


def _descriptors(document: Mapping[str, Any], key: str) -> tuple[Descriptor, ...]:
    items = document[key]
    if items is None:  # how Go writes an empty list
        return ()
    if not isinstance(items, list):
        refuse(f"{key} must be a list, not {_name(items)}")
    return tuple(_descriptor(item, f"{key}[{number}]") for number, item in enumerate(items))


def _descriptor(value: object, where: str) -> Descriptor:
    members = _members(value, where, _DESCRIPTOR_KEYS)
    media_type = _optional_media_type(members, "mediaType", where)
    if not media_type:
        refuse(f"{where}.mediaType is missing")
    urls = members.get("urls")
    if urls is not None and not (isinstance(urls, list) and all(isinstance(url, str) for url in urls)):
        refuse(f"{where}.urls must be a list of strings")
    _string(members, "data", where)
    return Descriptor(
        media_type=media_type,
        digest=_digest(members, where),
        size=_size(members, where),
        platform=_platform(members.get("platform"), f"{where}.platform"),
        annotations=_annotations(members, where),
        artifact_type=_optional_media_type(members, "artifactType", where),
    )


def _digest(members: Mapping[str, Any], where: str) -> Digest:
    try:
        return Digest.parse(_string(members, "digest", where))
    except InvalidDigest as error:
        refuse(f"{where}.digest: {error.message}")


def _size(members: Mapping[str, Any], where: str) -> int:
    size = members.get("size")
    if not _is_integer(size):
        refuse(f"{where}.size must be an integer, not {_name(size)}")
    if not 0 <= size <= MAX_SIZE:
        refuse(f"{where}.size cannot be {size}")
    return size


def _platform(value: object, where: str) -> Platform | None:
    """Return the platform of an entry; one that no machine can ask for is ``unknown/unknown``, as an attestation's.

    A variant that cannot be spelled is dropped and the entry kept: Apptainer, which asks for none, would take
    it.
    """
    if value is None:
        return None
    members = _members(value, where, _PLATFORM_KEYS)
    for key in ("os.features", "features"):
        features = members.get(key)
        if features is not None and not (
            isinstance(features, list) and all(isinstance(feature, str) for feature in features)
        ):
            refuse(f"{where}.{key} must be a list of strings")
    _string(members, "os.version", where)
    names = _string(members, "os", where), _string(members, "architecture", where)
    variant = _string(members, "variant", where)
    return _spelled(*names, variant) or _spelled(*names) or _UNKNOWN_PLATFORM


def _spelled(*names: str) -> Platform | None:
    if any("/" in name for name in names):
        return None
    try:
        return Platform.parse("/".join(names))
    except InvalidReference:
        return None


def _annotations(members: Mapping[str, Any], where: str) -> Mapping[str, str]:
    annotations = members.get("annotations")
    if annotations is None:
        return {}
    if not isinstance(annotations, dict) or not all(isinstance(text, str) for text in annotations.values()):
        refuse(f"{_join(where, 'annotations')} must map strings to strings")
    return annotations


def _optional_media_type(members: Mapping[str, Any], key: str, where: str) -> str:
    text = _string(members, key, where)
    if text and not _MEDIA_TYPE.fullmatch(text):
        refuse(f"{_join(where, key)} {text[:80]!r} is not a media type (RFC 6838, 4.2)")
    return text


def _string(members: Mapping[str, Any], key: str, where: str) -> str:
    """Return the string under `key`; empty where there is none."""
    value = members.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        refuse(f"{_join(where, key)} must be a string, not {_name(value)}")
    return value


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _name(value: object) -> str:
    """Return what JSON calls a value of this type."""
    names = {bool: "a truth value", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(value), "null or missing" if value is None else "an object")
