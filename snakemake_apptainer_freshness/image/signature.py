"""Signatures beside images: how they lie in a registry, and which image each is about. Pure: bytes in, values out.

There are two forms. A *simple signing* payload (containers/image, ``docs/containers-signature.5.md``; cosign,
``specs/SIGNATURE_SPEC.md``) is a small JSON document that names a digest and a repository, and is signed as it is. A
*Sigstore bundle* (protobuf-specs, ``sigstore_bundle.proto``) has all in one JSON document: the signature, the
certificate or a hint which key, the entry of a transparency log, and what is signed: an in-toto statement in a DSSE
envelope, or a digest.

Nothing here says whether a signature is good. What it says of an image is read with the strict reader, since the
signer saw one reading of it.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Self

from snakemake_apptainer_freshness.common import strict_json
from snakemake_apptainer_freshness.errors import DamagedAnswer, FreshnessError
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.manifest import Descriptor, Manifest

VERSION: Final = 1
SIMPLE_SIGNING: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE: Final = "application/vnd.dev.sigstore.bundle"
"""Begins the media types of all versions of a bundle."""
COSIGN_TYPE: Final = "cosign container image signature"
IN_TOTO: Final = "application/vnd.in-toto+json"
SIGN_PREDICATE: Final = "https://sigstore.dev/cosign/sign/v1"
"""What a statement is of that says no more than: I sign this image."""

_SIGNATURE: Final = "dev.cosignproject.cosign/signature"
_LONGEST: Final = 16 * 1024
_HUB: Final = "docker.io"
_HUBS: Final = frozenset({_HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_DEFAULT_PORTS: Final = (":443", ":80")


class Form(StrEnum):
    """How a signature is written down."""

    SIMPLE = "simple signing"
    BUNDLE = "sigstore bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A signature as it was found: a payload and its `signature` (base64), or a bundle, which has its own."""

    form: Form
    content: bytes = field(repr=False)
    signature: str = ""

    @property
    def sha256(self) -> str:
        """Return what tells it from every other one: the SHA-256 of all of it, in hex."""
        return hashlib.sha256(self.dumps()).hexdigest()

    def dumps(self) -> bytes:
        """Return it as it is kept."""
        table = {
            "version": VERSION,
            "form": self.form.value,
            "content": base64.b64encode(self.content).decode(),
            "signature": self.signature,
        }
        return json.dumps(table, sort_keys=True).encode()

    @classmethod
    def loads(cls, content: bytes) -> Self:
        """Return the signature that `content` spells; raises ValueError where it is none, or of a newer version."""
        try:
            table = strict_json.load(content)
        except FreshnessError as error:
            raise ValueError("not a signature") from error
        if not isinstance(table, dict) or set(table) != {"version", "form", "content", "signature"}:
            raise ValueError("not the keys of a signature")
        if table["version"] != VERSION or not all(isinstance(table[key], str) for key in ("content", "signature")):
            raise ValueError("not a signature of this version")
        return cls(form=Form(table["form"]), content=unbase64(table["content"]), signature=table["signature"])


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedClaim:
    """What a signature says: this `digest`, under the name of this `repository` (empty where it names none)."""

    digest: Digest
    repository: str = ""

    def is_about(self, digest: Digest, repository: str) -> bool:
        """Return whether it is about the image `digest` of `repository`, a host and a path."""
        return self.digest == digest and (not self.repository or canonical(self.repository) == canonical(repository))


def unbase64(text: str) -> bytes:
    """Return the bytes that `text` spells; raises ValueError where it is no base64."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


def canonical(name: str) -> str:
    """Return one spelling of the repository `name`, which has a host, or is one of Docker Hub."""
    name = name.removeprefix("docker://")
    host, slash, path = name.partition("/")
    if not slash or not (set(host) & set(".:") or host == "localhost"):
        host, path = _HUB, name
    host = canonical_host(host)
    return f"{host}/{path}" if host != _HUB or "/" in path else f"{host}/library/{path}"


def canonical_host(host: str) -> str:
    """Return one spelling of `host`: Docker Hub has several, and its default port may stand behind any."""
    host = host.lower()
    for port in _DEFAULT_PORTS:
        host = host.removesuffix(port)
    return _HUB if host in _HUBS else host


def parts(manifest: Manifest) -> Iterator[tuple[Descriptor, Form, str]]:
    """Yield what of `manifest` is a signature: its blob, its form, and for a simple one the signature (base64)."""
    for layer in manifest.layers:
        signature = layer.annotations.get(_SIGNATURE, "")
        if layer.media_type == SIMPLE_SIGNING and 0 < len(signature) <= _LONGEST:
            yield layer, Form.SIMPLE, signature
        elif layer.media_type.startswith(BUNDLE):
            yield layer, Form.BUNDLE, ""


def simple_claim(payload: bytes) -> SignedClaim:
    """Return what a simple signing `payload` says.

    Raises
    ------
    DamagedAnswer
        where it is none.
    """
    document = strict_json.load(payload)
    critical = _table(document, "critical")
    if critical.get("type") != COSIGN_TYPE:
        raise DamagedAnswer(f"its type is not {COSIGN_TYPE!r}")
    digest = _table(critical, "image").get("docker-manifest-digest")
    repository = _table(critical, "identity").get("docker-reference")
    if not isinstance(digest, str) or not isinstance(repository, str) or not repository:
        raise DamagedAnswer("it names no digest or no repository")
    return SignedClaim(digest=Digest.parse(digest), repository=_without_tag(repository))


def statement_claims(statement: bytes) -> tuple[SignedClaim, ...]:
    """Return what an in-toto `statement` that signs images says, a claim for each of its subjects.

    Raises
    ------
    DamagedAnswer
        where it is none, or says something else of an image than that it is signed.
    """
    document = strict_json.load(statement)
    if not isinstance(document, dict) or not str(document.get("_type")).startswith("https://in-toto.io/Statement/v"):
        raise DamagedAnswer("it is no in-toto statement")
    predicate = document.get("predicateType")
    if predicate != SIGN_PREDICATE:
        # Provenance, a list of contents or the result of a scan by the same signer says nothing of the sort.
        raise DamagedAnswer(f"it is an attestation of {str(predicate)[:100]}, not a signature")
    subjects = document.get("subject")
    if not isinstance(subjects, list) or not subjects:
        raise DamagedAnswer("it has no subject")
    return tuple(map(_subject_claim, subjects))


def _subject_claim(subject: object) -> SignedClaim:
    sha256 = _table(subject, "digest").get("sha256")
    name = subject.get("name") if isinstance(subject, dict) else ""
    if not isinstance(sha256, str) or not isinstance(name, str | None):
        raise DamagedAnswer("a subject names no SHA-256")
    return SignedClaim(digest=Digest.parse(f"sha256:{sha256}"), repository=_without_tag(name or ""))


def _table(document: object, key: str) -> dict[str, Any]:
    table = document.get(key) if isinstance(document, dict) else None
    if not isinstance(table, dict):
        raise DamagedAnswer(f"it has no {key}")
    return table


def _without_tag(name: str) -> str:
    """Return the repository of `name`, which may have a tag, a digest or both behind it."""
    name = name.partition("@")[0]
    head, slash, last = name.rpartition("/")
    # What is before the only slash may be a host with a port, what is behind the last one a tag alone.
    return f"{head}{slash}{last.partition(':')[0]}"
