"""The OCI image layout: a folder, or an archive of one, in which every blob is named by its own hash. Pure.

As the image specification 1.1 has it (``image-layout.md``): ``oci-layout`` with the version, ``index.json`` with what a
person would ask for by name, and ``blobs/<algorithm>/<hex>``. Tools such as podman, skopeo, crane and oras read it.

* A name is the annotation ``org.opencontainers.image.ref.name``: host, repository and tag, as podman writes it.
* A ready SIF lies there as an artifact of its own whose only layer it is, as ``oras://`` has it. Its ``subject`` is the
  manifest of the image that it is said to be built of. That is a claim, and only says what to compare it with.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from snakemake_apptainer_freshness.errors import DamagedAnswer, InvalidDigest
from snakemake_apptainer_freshness.image import manifest
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.manifest import OCI_INDEX, OCI_MANIFEST, SIF_LAYER, Index
from snakemake_apptainer_freshness.image.platform import Platform

LAYOUT: Final = "oci-layout"
INDEX: Final = "index.json"
VERSION: Final = b'{"imageLayoutVersion": "1.0.0"}\n'
"""What stands in `LAYOUT`."""

EMPTY: Final = b"{}"
"""The configuration of an artifact that has none (``manifest.md``, "Guidance for an Empty Descriptor")."""
_EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
_NAME: Final = "org.opencontainers.image.ref.name"
_TITLE: Final = "org.opencontainers.image.title"
_BLOB: Final = re.compile(r"blobs/(sha256|sha512)/([0-9a-f]+)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An entry of ``index.json``: a manifest or index of `size` bytes, under `name` unless that is empty."""

    digest: Digest
    size: int
    media_type: str
    name: str = ""
    platform: Platform | None = None
    artifact_type: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as JSON has it."""
        table: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.platform is not None:
            names = {
                "os": self.platform.os,
                "architecture": self.platform.architecture,
                "variant": self.platform.variant,
            }
            table["platform"] = {key: value for key, value in names.items() if value}
        if self.artifact_type:
            table["artifactType"] = self.artifact_type
        if self.name:
            table["annotations"] = {_NAME: self.name}
        return table


def blob_name(digest: Digest) -> str:
    """Return where the blob `digest` lies in a layout."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


def digest_of(name: str) -> Digest | None:
    """Return the digest of the blob that lies under `name`; None where no blob can have that name."""
    match = _BLOB.fullmatch(name)
    try:
        return Digest.parse(f"{match[1]}:{match[2]}") if match is not None else None
    except InvalidDigest:
        return None


def index_document(listed: Iterable[Listed]) -> bytes:
    """Return the bytes of an ``index.json`` with these entries."""
    return _dumped(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry.to_dict() for entry in listed]}, indent=1
    )


def sif_manifest(sif: Digest, size: int, *, title: str, subject: Listed | None) -> bytes:
    """Return the manifest of the artifact whose only layer is the SIF `sif` of `size` bytes.

    `title` is the file name that tools give it; `subject` the manifest that it is said to be built of.
    """
    layer = {"mediaType": SIF_LAYER, "digest": str(sif), "size": size, "annotations": {_TITLE: title}}
    table: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": SIF_LAYER,
        "config": {"mediaType": _EMPTY_TYPE, "digest": str(Digest.of(EMPTY)), "size": len(EMPTY)},
        "layers": [layer],
    }
    if subject is not None:
        table["subject"] = {
            "mediaType": subject.media_type,
            "digest": str(subject.digest),
            "size": subject.size,
        }
    return _dumped(table)


def artifacts(content: bytes) -> list[Digest]:
    """Return the manifests of the SIFs that the ``index.json`` with these bytes lists.

    Raises
    ------
    DamagedAnswer
        where it is no index.
    """
    document = manifest.parse(content, None)
    if not isinstance(document, Index):
        raise DamagedAnswer(f"{INDEX} is not an index")
    return [entry.digest for entry in document.entries if entry.artifact_type == SIF_LAYER]


def _dumped(table: Mapping[str, Any], *, indent: int | None = None) -> bytes:
    return (json.dumps(table, indent=indent) + ("\n" if indent else "")).encode()
