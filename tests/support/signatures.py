"""Signatures of images, made for the occasion: with a key as cosign does it, or by a small Sigstore of our own.

A :class:`Key` signs in both of cosign's forms. :class:`Sigstore` is a certificate authority, a certificate
transparency log and a transparency log, with the trusted root that leads to them; its bundles are what the library
``sigstore`` accepts, nothing replaced. :func:`push` puts signatures into a registry where cosign puts them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from snakemake_apptainer_freshness.image.signature import (
    IN_TOTO,
    SIGN_PREDICATE,
    SIMPLE_SIGNING,
    Form,
    Signature,
)
from tests.support import images

BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
EMPTY: Final = b"{}"
IDENTITY: Final = "builder@lab.example"
ISSUER: Final = "https://login.lab.example"
_SHA256: Final = ec.ECDSA(hashes.SHA256())
_ISSUER_OID: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")


def _canonical(document: Mapping[str, Any]) -> bytes:
    """JSON as RFC 8785 wants it, of documents in ASCII without broken numbers."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def payload(digest: str, repository: str, **changes: Any) -> bytes:
    """A simple signing payload, as cosign writes it."""
    critical = {
        "identity": {"docker-reference": repository},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    }
    return json.dumps({"critical": critical | changes, "optional": None}).encode()


def statement(digest: str, *, predicate: str = SIGN_PREDICATE, name: str | None = None) -> bytes:
    """What cosign's bundles say of an image."""
    subject: dict[str, Any] = {"digest": {"sha256": digest.removeprefix("sha256:")}}
    subject |= {} if name is None else {"name": name}
    document = {"_type": "https://in-toto.io/Statement/v1", "subject": [subject], "predicateType": predicate}
    return json.dumps(document | {"predicate": {}}).encode()


def pae(content: bytes, kind: str = IN_TOTO) -> bytes:
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(content), content)


def envelope(content: bytes, signature: bytes) -> dict[str, Any]:
    return {"payload": b64(content), "payloadType": IN_TOTO, "signatures": [{"sig": b64(signature)}]}


class Key:
    """A key as ``cosign generate-key-pair`` makes it."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def pem(self) -> bytes:
        """``cosign.pub``."""
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, content: bytes) -> bytes:
        return self._key.sign(content, _SHA256)

    def simple(self, digest: str, repository: str, **changes: Any) -> Signature:
        """``cosign sign --key``, in the form of cosign 1 and 2."""
        content = payload(digest, repository, **changes)
        return Signature(form=Form.SIMPLE, content=content, signature=b64(self.sign(content)))

    def bundle(self, digest: str, **changes: Any) -> Signature:
        """``cosign sign --key``, in the form of cosign 3."""
        content = statement(digest, **changes)
        document = {
            "mediaType": BUNDLE_TYPE,
            "verificationMaterial": {"publicKey": {"hint": "lab"}, "tlogEntries": []},
            "dsseEnvelope": envelope(content, self.sign(pae(content))),
        }
        return Signature(form=Form.BUNDLE, content=json.dumps(document).encode())


def _spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


_USAGES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
_MORE_USAGES = ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")


def _usage(*used: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in used for name in (*_USAGES, *_MORE_USAGES)})


class Sigstore:
    """All parts of a Sigstore that a signature passes through, `ago`. Each entry is the only one of its log."""

    def __init__(self, *, ago: timedelta = timedelta()) -> None:
        self._ca_key = ec.generate_private_key(ec.SECP256R1())
        self._ct_key = ec.generate_private_key(ec.SECP256R1())
        self._log_key = ec.generate_private_key(ec.SECP256R1())
        self.now = datetime.now(UTC).replace(microsecond=0) - ago
        key_id = x509.SubjectKeyIdentifier.from_public_key(self._ca_key.public_key())
        self._ca = (
            self._certificate("lab", self._ca_key, self.now - timedelta(days=30), timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
            .add_extension(key_id, critical=False)
            .sign(self._ca_key, hashes.SHA256())
        )

    @property
    def trusted_root(self) -> bytes:
        """The file that leads to all of it."""
        log = {"hashAlgorithm": "SHA2_256", "baseUrl": "https://log.lab.example"}
        authority = {
            "subject": {"organization": "lab", "commonName": "lab"},
            "uri": "https://ca.lab.example",
            "certChain": {"certificates": [{"rawBytes": b64(self._ca.public_bytes(Encoding.DER))}]},
            "validFor": self._valid,
        }
        document = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log | self._public(self._log_key)],
            "certificateAuthorities": [authority],
            "ctlogs": [log | self._public(self._ct_key)],
        }
        return json.dumps(document).encode()

    def bundle(
        self,
        digest: str,
        *,
        identity: str = IDENTITY,
        issuer: str = ISSUER,
        lifetime: timedelta = timedelta(minutes=10),
        late: timedelta = timedelta(),
        **changes: Any,
    ) -> Signature:
        """``cosign sign`` by `identity`; `late` after its certificate was made, whose `lifetime` may then be over."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._leaf(key, identity, issuer, lifetime)
        content = statement(digest, **changes)
        signed = envelope(content, key.sign(pae(content), _SHA256))
        material = {
            "certificate": {"rawBytes": b64(leaf.public_bytes(Encoding.DER))},
            "tlogEntries": [self._entry(leaf, content, signed, self.now + late)],
        }
        document = {"mediaType": BUNDLE_TYPE, "verificationMaterial": material, "dsseEnvelope": signed}
        return Signature(form=Form.BUNDLE, content=json.dumps(document).encode())

    @property
    def _valid(self) -> dict[str, str]:
        return {"start": (self.now - timedelta(days=30)).isoformat().replace("+00:00", "Z")}

    def _public(self, key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
        public = {"rawBytes": b64(_spki(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": self._valid}
        return {"publicKey": public, "logId": {"keyId": b64(hashlib.sha256(_spki(key)).digest())}}

    def _certificate(
        self, name: str, key: ec.EllipticCurvePrivateKey, start: datetime, lifetime: timedelta
    ) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(_name(name)).issuer_name(_name("lab"))
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        return builder.not_valid_before(start).not_valid_after(start + lifetime)

    def _leaf(
        self, key: ec.EllipticCurvePrivateKey, identity: str, issuer: str, lifetime: timedelta
    ) -> x509.Certificate:
        """A certificate with a time stamp of the certificate log, which signs all of the rest of it."""
        who: x509.GeneralName = x509.RFC822Name(identity)
        if "://" in identity:
            who = x509.UniformResourceIdentifier(identity)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._ca_key.public_key())
        builder = (
            self._certificate("", key, self.now - timedelta(minutes=1), lifetime)
            .add_extension(_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(authority, critical=False)
            .add_extension(x509.SubjectAlternativeName([who]), critical=True)
            .add_extension(x509.UnrecognizedExtension(_ISSUER_OID, issuer.encode()), critical=False)
        )
        precertificate = builder.sign(self._ca_key, hashes.SHA256()).tbs_certificate_bytes
        stamp = _octets(self._time_stamp(precertificate))
        oid = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
        return builder.add_extension(x509.UnrecognizedExtension(oid, stamp), critical=False).sign(
            self._ca_key, hashes.SHA256()
        )

    def _time_stamp(self, precertificate: bytes) -> bytes:
        """A list of one signed certificate time stamp (RFC 6962, 3.2 and 3.3)."""
        when = int(self.now.timestamp() * 1000)
        issuer = hashlib.sha256(_spki(self._ca_key)).digest()
        entry = issuer + len(precertificate).to_bytes(3) + precertificate
        signed = struct.pack("!BBQH", 0, 0, when, 1) + entry + struct.pack("!H", 0)
        signature = self._ct_key.sign(signed, _SHA256)
        log_id = hashlib.sha256(_spki(self._ct_key)).digest()
        stamp = struct.pack("!B32sQHBBH", 0, log_id, when, 0, 4, 3, len(signature)) + signature
        listed = struct.pack("!H", len(stamp)) + stamp
        return struct.pack("!H", len(listed)) + listed

    def _entry(self, leaf: x509.Certificate, content: bytes, signed: Mapping[str, Any], at: datetime) -> dict[str, Any]:
        """The entry of a log that has no other one, with its proof and its promise."""
        verifier = b64(leaf.public_bytes(Encoding.PEM))
        spec = {
            "envelopeHash": {"algorithm": "sha256", "value": hashlib.sha256(json.dumps(signed).encode()).hexdigest()},
            "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(content).hexdigest()},
            "signatures": [{"signature": signed["signatures"][0]["sig"], "verifier": verifier}],
        }
        body = _canonical({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec})
        root = hashlib.sha256(b"\0" + body).digest()
        log_id = hashlib.sha256(_spki(self._log_key)).digest()
        note = f"log.lab.example - 1\n1\n{b64(root)}\n"
        mark = b64(log_id[:4] + self._log_key.sign(note.encode(), _SHA256))
        when = int(at.timestamp())
        promised = {"body": b64(body), "integratedTime": when, "logID": log_id.hex(), "logIndex": 0}
        return {
            "logIndex": "0",
            "logId": {"keyId": b64(log_id)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(when),
            "inclusionPromise": {"signedEntryTimestamp": b64(self._log_key.sign(_canonical(promised), _SHA256))},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": b64(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": f"{note}\n\N{EM DASH} log.lab.example {mark}\n"},
            },
            "canonicalizedBody": b64(body),
        }


def _octets(content: bytes) -> bytes:
    """`content` as an octet string of ASN.1."""
    size = bytes([len(content)]) if len(content) < 128 else b"\x82" + len(content).to_bytes(2)
    return b"\x04" + size + content


# --- in a registry ---------------------------------------------------------------------------------------------------


def descriptor(content: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(content)} | more


def simple_manifest(signatures: Sequence[Signature]) -> bytes:
    """What cosign puts under the tag ``sha256-….sig``."""
    layers = [
        descriptor(one.content, SIMPLE_SIGNING, annotations={"dev.cosignproject.cosign/signature": one.signature})
        for one in signatures
    ]
    config = descriptor(EMPTY, "application/vnd.oci.image.config.v1+json")
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}).encode()


def bundle_manifest(signature: Signature, image: Mapping[str, Any]) -> bytes:
    """What refers to the image that the descriptor `image` is of, and has a bundle."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": BUNDLE_TYPE,
        "config": descriptor(EMPTY, "application/vnd.oci.empty.v1+json"),
        "layers": [descriptor(signature.content, BUNDLE_TYPE)],
        "subject": image,
    }
    return json.dumps(document).encode()


def referrers(*manifests: bytes) -> bytes:
    """The index of what refers to an image."""
    entries = [descriptor(one, OCI_MANIFEST, artifactType=json.loads(one).get("artifactType")) for one in manifests]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


def push(host: str, repository: str, digest: str, *signatures: Signature) -> None:
    """Put `signatures` of the image `digest` into a real registry, as cosign does where it has no list of referrers."""
    tag = digest.replace(":", "-")
    simple = [one for one in signatures if one.form is Form.SIMPLE]
    bundles = [one for one in signatures if one.form is Form.BUNDLE]
    headers = {"User-Agent": images.USER_AGENT}
    with httpx.Client(base_url=f"http://{host}/v2/{repository}", headers=headers, trust_env=False) as client:
        for content in [EMPTY, *(one.content for one in signatures)]:
            _put_blob(client, content)
        if simple:
            _put_manifest(client, f"{tag}.sig", simple_manifest(simple))
        image = {"mediaType": OCI_MANIFEST, "digest": digest, "size": 1}
        manifests = [bundle_manifest(one, image) for one in bundles]
        for one in manifests:
            _put_manifest(client, descriptor(one, OCI_MANIFEST)["digest"], one)
        if manifests:
            _put_manifest(client, tag, referrers(*manifests), OCI_INDEX)


def _put_blob(client: httpx.Client, blob: bytes) -> None:
    place = client.post("/blobs/uploads/").raise_for_status().headers["Location"]
    digest = descriptor(blob, OCI_MANIFEST)["digest"]
    client.put(httpx.URL(place).copy_merge_params({"digest": digest}), content=blob).raise_for_status()


def _put_manifest(client: httpx.Client, name: str, document: bytes, media_type: str = OCI_MANIFEST) -> None:
    headers = {"Content-Type": media_type}
    client.put(f"/manifests/{name}", content=document, headers=headers).raise_for_status()
