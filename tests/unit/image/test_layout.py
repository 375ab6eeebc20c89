"""The OCI image layout: names of blobs, the index, and ready SIFs as artifacts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.errors import DamagedAnswer
from snakemake_apptainer_freshness.image import layout, manifest
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.layout import Listed
from snakemake_apptainer_freshness.image.manifest import OCI_MANIFEST, SIF_LAYER
from snakemake_apptainer_freshness.image.platform import Platform

DIGEST = Digest.of(b"manifest")
IMAGE = Listed(
    digest=DIGEST,
    size=8,
    media_type=OCI_MANIFEST,
    name="quay.io/team/tool:1.0",
    platform=Platform(os="linux", architecture="arm64", variant="v8"),
)
SIF = Digest.of(b"sif")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_blob_lies_under_its_digest(algorithm):
    digest = Digest.of(b"content", algorithm)

    assert layout.blob_name(digest) == f"blobs/{algorithm}/{digest.hex}"
    assert layout.digest_of(layout.blob_name(digest)) == digest


@given(st.text(max_size=100))
def test_any_other_name_is_that_of_no_blob(name):
    assert layout.digest_of(name) is None
    assert layout.digest_of(f"blobs/sha256/{name}") is None


def test_the_index_is_one_and_says_names_and_platforms():
    document = json.loads(layout.index_document([IMAGE]))
    [entry] = document["manifests"]

    assert (document["schemaVersion"], document["mediaType"]) == (2, manifest.OCI_INDEX)
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "quay.io/team/tool:1.0"}
    assert entry["platform"] == {"os": "linux", "architecture": "arm64", "variant": "v8"}
    parsed = manifest.parse(layout.index_document([IMAGE]), None)
    assert isinstance(parsed, manifest.Index)
    assert parsed.entries[0].digest == DIGEST


def test_a_ready_sif_is_an_artifact_about_its_image():
    body = layout.sif_manifest(SIF, 3, title="x.simg", subject=IMAGE)
    parsed = manifest.parse(body, None)

    assert isinstance(parsed, manifest.Manifest)
    assert parsed.artifact_type == SIF_LAYER
    assert (parsed.sif_layer.digest, parsed.sif_layer.size) == (SIF, 3)
    assert parsed.subject.digest == DIGEST
    assert manifest.parse(layout.sif_manifest(SIF, 3, title="x.simg", subject=None), None).subject is None


def test_artifacts_are_found_in_the_index():
    body = layout.sif_manifest(SIF, 3, title="x.simg", subject=IMAGE)
    ready = Listed(digest=Digest.of(body), size=len(body), media_type=OCI_MANIFEST, artifact_type=SIF_LAYER)

    assert layout.artifacts(layout.index_document([IMAGE, ready])) == [Digest.of(body)]
    assert layout.artifacts(layout.index_document([])) == []


def test_what_is_no_index_has_no_artifacts():
    with pytest.raises(DamagedAnswer, match="is not an index"):
        layout.artifacts(layout.sif_manifest(SIF, 3, title="x.simg", subject=None))
