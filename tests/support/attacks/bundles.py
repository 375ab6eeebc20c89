"""What attacks through a bundle or an archive are made of: a good image, an attacker's, and how loading is refused."""

from __future__ import annotations

import json

import pytest

from snakemake_apptainer_freshness.errors import InvalidBundle
from tests.support import images
from tests.support.bundles import Place, TakenApart
from tests.support.images import Image, multi_arch
from tests.support.proofs import file, folder, layer

CONTENT = Image(layers=(layer(folder("bin"), file("bin/tool", "good", 0o755)), layer(file("data", "x" * 5000))))
EVIL = Image(layers=(layer(folder("bin"), file("bin/tool", "evil", 0o755)), layer(file("data", "x" * 5000))))
INDEX = multi_arch(CONTENT, "s390x")


def refused(place: Place, content: bytes, reason: str) -> None:
    """That loading stops for a `reason`, from a file and from a pipe, and nothing is left of it."""
    path = place.folder.with_name("hostile.tar")
    path.write_bytes(content)
    for bundle in (path, content):
        with pytest.raises(InvalidBundle, match=reason):
            place.load(bundle)
        assert place.put == []


def with_ready(bundle: TakenApart, sif: bytes) -> bytes:
    """The bundle with a ready image that claims to be built of the manifest."""
    layer_of_sif = {
        "mediaType": "application/vnd.sylabs.sif.layer.v1.sif",
        "digest": bundle.add(sif),
        "size": len(sif),
    }
    document = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": images.OCI_MANIFEST,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": bundle.add(b"{}"), "size": 2},
            "layers": [layer_of_sif],
            "subject": {
                "mediaType": CONTENT.media_type,
                "digest": CONTENT.digest,
                "size": len(CONTENT.manifest),
            },
        }
    ).encode()
    position = bundle.named("index.json")
    index = json.loads(bundle.files[position][1])
    index["manifests"].append(
        {
            "mediaType": images.OCI_MANIFEST,
            "digest": bundle.add(document),
            "size": len(document),
            "artifactType": "application/vnd.sylabs.sif.layer.v1.sif",
        }
    )
    bundle.put(position, json.dumps(index).encode())
    return bundle.bytes
