"""Signatures as they lie in a registry, and which image each is about."""

import json

import pytest

from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.image import manifest
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.signature import (
    Form,
    Signature,
    SignedClaim,
    canonical,
    parts,
    simple_claim,
    statement_claims,
)
from tests.support.signatures import bundle_manifest, descriptor, payload, simple_manifest, statement

DIGEST = "sha256:" + "a" * 64
TOOL = "quay.io/lab/tool"
SIMPLE = Signature(form=Form.SIMPLE, content=payload(DIGEST, TOOL), signature="AAAA")
BUNDLE = Signature(form=Form.BUNDLE, content=b"{}")


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("alpine", "docker.io/library/alpine"),
        ("lab/tool", "docker.io/lab/tool"),
        ("docker.io/alpine", "docker.io/library/alpine"),
        ("index.docker.io/lab/tool", "docker.io/lab/tool"),
        ("Quay.io:443/lab/tool", TOOL),
        ("docker://quay.io/lab/tool", TOOL),
        ("127.0.0.1:5000/lab/tool", "127.0.0.1:5000/lab/tool"),
        ("localhost/tool", "localhost/tool"),
    ],
)
def test_a_repository_has_one_canonical_name(name, same):
    assert canonical(name) == same


def test_a_signature_comes_back_as_it_was_kept():
    assert Signature.loads(SIMPLE.dumps()) == SIMPLE
    assert Signature.loads(BUNDLE.dumps()) == BUNDLE
    assert SIMPLE.sha256 != BUNDLE.sha256


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", SIMPLE.dumps().replace(b'"version": 1', b'"version": 2')])
def test_what_is_not_kept_by_us_is_no_signature(content):
    with pytest.raises(ValueError, match="not "):
        Signature.loads(content)


def test_the_parts_of_documents_that_cosign_writes():
    [(layer, form, signature)] = parts(manifest.parse(simple_manifest([SIMPLE]), None))
    assert (layer.size, form, signature) == (len(SIMPLE.content), Form.SIMPLE, "AAAA")
    document = bundle_manifest(BUNDLE, descriptor(b"image", manifest.OCI_MANIFEST))
    assert [form for _, form, _ in parts(manifest.parse(document, None))] == [Form.BUNDLE]


def test_an_image_is_no_signature():
    image = {"schemaVersion": 2, "mediaType": manifest.OCI_MANIFEST, "config": descriptor(b"", manifest.OCI_CONFIG)}
    image["layers"] = [descriptor(b"x", "application/vnd.oci.image.layer.v1.tar")]
    assert list(parts(manifest.parse(json.dumps(image).encode(), None))) == []


def test_what_a_payload_says():
    claim = simple_claim(SIMPLE.content)
    assert claim == SignedClaim(digest=Digest.parse(DIGEST), repository=TOOL)
    assert claim.is_about(Digest.parse(DIGEST), TOOL)
    assert not claim.is_about(Digest.parse(DIGEST), "quay.io/lab/other")


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        payload(DIGEST, TOOL, type="atomic container signature"),
        payload("sha256:aa", TOOL),
        payload(DIGEST, ""),
        payload(DIGEST, TOOL, image={}),
        payload(DIGEST, TOOL).replace(b'"image"', b'"image": {}, "image"'),
    ],
)
def test_a_payload_that_is_not_sound_is_refused(content):
    with pytest.raises(FreshnessError):
        simple_claim(content)


def test_what_a_statement_says():
    [claim] = statement_claims(statement(DIGEST))
    assert claim.is_about(Digest.parse(DIGEST), "anything.example/at/all")
    [named] = statement_claims(statement(DIGEST, name=f"{TOOL}:1.0"))
    assert named.repository == TOOL


@pytest.mark.parametrize(
    "content", [b"{}", statement(DIGEST, predicate="https://slsa.dev/provenance/v1"), statement("sha256:aa"), b"[]"]
)
def test_a_statement_that_signs_no_image_is_refused(content):
    with pytest.raises(FreshnessError):
        statement_claims(content)
