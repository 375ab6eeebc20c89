"""A signature counts where signer, digest and repository are those that are asked for; nothing is replaced here."""

import sys
from dataclasses import replace
from datetime import timedelta

import pytest

from snakemake_apptainer_freshness.errors import InvalidPolicy, UsageError
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.signature import Form, Signature
from snakemake_apptainer_freshness.policy.signed_by import Signer
from snakemake_apptainer_freshness.policy.verification import NotSigned, check_signer, require, verify
from tests.support.signatures import IDENTITY, ISSUER, Key, Sigstore

DIGEST = "sha256:" + "a" * 64
TOOL = "quay.io/lab/tool"
LATE = timedelta(hours=1)


@pytest.fixture(scope="module")
def key():
    return Key()


@pytest.fixture(scope="module")
def sigstore():
    return Sigstore(ago=LATE)


@pytest.fixture
def by_key(key):
    return Signer(key="cosign.pub", material=key.pem)


@pytest.fixture
def by_identity(sigstore):
    return Signer(identity=IDENTITY, issuer=ISSUER, trusted_root="root.json", material=sigstore.trusted_root)


def holds(signature, signer, digest=DIGEST, repository=TOOL):
    return verify(signature, signer, digest=Digest.parse(digest), repository=repository)


def test_cosigns_old_form_by_a_key(key, by_key):
    signed = holds(key.simple(DIGEST, TOOL), by_key)
    assert str(signed.digest) == DIGEST
    assert signed.by.startswith("key sha256:")


def test_a_bundle_by_a_key(key, by_key):
    assert holds(key.bundle(DIGEST), by_key).by == holds(key.simple(DIGEST, TOOL), by_key).by


def test_a_bundle_by_an_identity_whose_certificate_is_over_by_now(sigstore, by_identity):
    assert holds(sigstore.bundle(DIGEST), by_identity).by == f"{IDENTITY} (issuer {ISSUER})"


def test_an_identity_that_is_an_address(sigstore, by_identity):
    workflow = "https://forge.lab.example/images/build.yml@refs/heads/main"
    assert holds(sigstore.bundle(DIGEST, identity=workflow), replace(by_identity, identity=workflow))


def test_other_spellings_of_the_repository_are_the_same(key, by_key):
    assert holds(key.simple(DIGEST, "index.docker.io/library/alpine"), by_key, repository="docker.io/library/alpine")
    assert holds(key.simple(DIGEST, "alpine:3"), by_key, repository="docker.io/library/alpine")
    assert holds(key.simple(DIGEST, f"{TOOL}@{DIGEST}"), by_key)


def test_an_attestation_is_no_signature(key, by_key, sigstore, by_identity):
    of = "https://slsa.dev/provenance/v1"
    for signature, signer in (
        (key.bundle(DIGEST, predicate=of), by_key),
        (sigstore.bundle(DIGEST, predicate=of), by_identity),
    ):
        with pytest.raises(NotSigned, match="attestation of"):
            holds(signature, signer)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"[" * 100_000, b"\xff", b'{"dsseEnvelope": {"signatures": [{}]}}', b'{"a": 1, "a": 2}'],
)
@pytest.mark.parametrize("form", list(Form))
def test_what_is_no_signature_is_refused(content, form, by_key, by_identity):
    for signer in (by_key, by_identity):
        with pytest.raises(NotSigned):
            holds(Signature(form=form, content=content, signature="AAAA"), signer)


def test_a_signature_that_is_no_base64_is_refused(key, by_key):
    with pytest.raises(NotSigned, match="no base64"):
        holds(replace(key.simple(DIGEST, TOOL), signature="…"), by_key)


@pytest.mark.parametrize("pem", [b"", b"not a key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_a_policy_whose_key_is_none_is_refused(pem):
    with pytest.raises(InvalidPolicy, match=r"cosign\.pub cannot be used"):
        check_signer(Signer(key="cosign.pub", material=pem), "site")


@pytest.mark.parametrize("root", [b"", b"{}", b'{"mediaType": "x"}'])
def test_a_policy_whose_trusted_root_is_none_is_refused(root):
    signer = Signer(identity=IDENTITY, issuer=ISSUER, trusted_root="root.json", material=root)
    with pytest.raises(InvalidPolicy, match=r"root\.json cannot be used"):
        check_signer(signer, "site")


def test_a_short_rsa_key_is_refused():
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    short = rsa.generate_private_key(65537, 1024).public_key()
    pem = short.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(InvalidPolicy, match="1024 bits"):
        check_signer(Signer(key="cosign.pub", material=pem), "site")


def test_without_the_libraries_the_error_says_how_to_install_them(monkeypatch):
    require()
    monkeypatch.setitem(sys.modules, "sigstore", None)  # as where it is not installed
    with pytest.raises(UsageError) as error:
        require()
    assert error.value.hint == "pip install 'snakemake-apptainer-freshness[signatures]'"
    assert "which sigstore would check: not installed" in error.value.message
