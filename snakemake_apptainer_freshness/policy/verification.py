"""Verification of signatures: whether one is good, and about this image. Pure: no network, no disk.

What a signature says is believed only where all of this holds:

* It was made by the signer that the policy names. With a `key`, whose public half the policy has; with an `identity`,
  by a certificate that the pinned trusted root leads to, that names this identity and issuer, that was valid when the
  signature was made, and whose use is in the transparency log. The library ``sigstore`` checks the latter, offline.
* It is about this digest. A signature of another one, by whomever, says nothing.
* It names this repository, where it names one: a signature of ``lab/tool`` does not make ``lab/other`` signed.

Both libraries are an extra, are imported here alone, and only where a policy asks for a signature.
"""

import functools
import hashlib
import importlib.util
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from snakemake_apptainer_freshness.common import strict_json
from snakemake_apptainer_freshness.errors import FreshnessError, InvalidPolicy, UsageError
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.signature import (
    IN_TOTO,
    Form,
    Signature,
    SignedClaim,
    simple_claim,
    statement_claims,
    unbase64,
)
from snakemake_apptainer_freshness.policy.signed_by import Signer

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from cryptography.hazmat.primitives.hashes import HashAlgorithm
    from sigstore.verify import Verifier

_LIBRARIES: Final = ("cryptography", "sigstore")
_SHORTEST_RSA: Final = 2048
_TRUST_CONFIG: Final = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
_NO_SIGNING: Final = {"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json"}


class NotSigned(Exception):
    """A signature is not what the policy asks for; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """That `digest` was signed by `by`; `signature` is the SHA-256 of the signature that shows it."""

    digest: Digest
    by: str
    signature: str


def require() -> None:
    """Raise UsageError where the libraries that check signatures are not installed."""
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the policy asks for signatures, which {' and '.join(missing)} would check: not installed",
            hint="pip install 'snakemake-apptainer-freshness[signatures]'",
        )


def check_signer(signer: Signer, source: str) -> None:
    """Raise InvalidPolicy where nothing could ever be checked with the material of `signer`."""
    try:
        if signer.key:
            _public_key(signer.material)
        elif signer.identity:
            _verifier(signer.material)
    except NotSigned as reason:
        raise InvalidPolicy(
            f"{source}: {signer.file} cannot be used to check signatures: {reason}",
            hint="a key is a PEM file such as cosign.pub; a trusted root is the JSON file of a Sigstore",
        ) from None


def verify(signature: Signature, signer: Signer, *, digest: Digest, repository: str) -> Signed:
    """Return that `signer` signed `digest` as an image of `repository`, as `signature` shows.

    Raises
    ------
    NotSigned
        where it does not show that.
    """
    try:
        claims = tuple(_claims(signature, signer))
    except FreshnessError as error:
        raise NotSigned(f"it cannot be read: {error.message}") from None
    if not any(claim.is_about(digest, repository) for claim in claims):
        first = claims[0]
        other = f"repository ({first.repository[:100]})" if first.digest == digest else f"digest ({first.digest.short})"
        raise NotSigned(f"it is about another {other}")
    return Signed(digest=digest, by=_name(signer), signature=signature.sha256)


def _claims(signature: Signature, signer: Signer) -> Iterable[SignedClaim]:
    """Return what `signature` says, which is shown to come from `signer`."""
    if signer.key and signature.form is Form.SIMPLE:
        _check_by_key(signer, _unbase64(signature.signature), signature.content)
        return [simple_claim(signature.content)]
    if signer.key:
        return statement_claims(_statement_by_key(signer, signature.content))
    if signature.form is Form.SIMPLE:
        raise NotSigned("it is of cosign's old form, in which the time of an identity's signature cannot be checked")
    return statement_claims(_statement_by_identity(signer, signature.content))


def _statement_by_key(signer: Signer, bundle: bytes) -> bytes:
    """Return the statement in the DSSE envelope of `bundle`, which the key of `signer` has signed."""
    document = strict_json.load(bundle)
    envelope = document.get("dsseEnvelope") if isinstance(document, dict) else None
    signatures = envelope.get("signatures") if isinstance(envelope, dict) else None
    if not isinstance(envelope, dict) or not isinstance(signatures, list) or len(signatures) != 1:
        raise NotSigned("it has no envelope with one signature")
    kind, payload = envelope.get("payloadType"), envelope.get("payload")
    value = signatures[0].get("sig") if isinstance(signatures[0], dict) else None
    if kind != IN_TOTO or not isinstance(payload, str) or not isinstance(value, str):
        raise NotSigned("its envelope holds no in-toto statement")
    statement = _unbase64(payload)
    _check_by_key(
        signer, _unbase64(value), b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(statement), statement)
    )
    return statement


def _statement_by_identity(signer: Signer, bundle: bytes) -> bytes:
    """Return the statement in `bundle`, which is shown to have been signed by the identity of `signer`."""
    from sigstore.models import Bundle
    from sigstore.verify.policy import Identity

    strict_json.load(bundle)  # nothing that is nested deeply, or can be read in two ways, gets to the library
    verifier = _verifier(signer.material)
    try:
        who = Identity(identity=signer.identity, issuer=signer.issuer)
        kind, statement = verifier.verify_dsse(Bundle.from_json(bundle), who)
    except Exception as error:  # noqa: BLE001  the bundle is a stranger's, and the library promises no tree of errors
        raise NotSigned(f"it is not shown to be by {signer}: {_first_line(error)}") from None
    if kind != IN_TOTO:
        raise NotSigned("its envelope holds no in-toto statement")
    return statement


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:300] or type(error).__name__


def _unbase64(text: str) -> bytes:
    try:
        return unbase64(text)
    except ValueError:
        raise NotSigned("its signature is no base64") from None


# --- keys ------------------------------------------------------------------------------------------------------------


def _check_by_key(signer: Signer, signature: bytes, message: bytes) -> None:
    """Raise NotSigned where `signature` is not the one of the key of `signer` under `message`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA256

    key = _public_key(signer.material)
    for algorithm in _hashes(key):
        try:
            if isinstance(key, rsa.RSAPublicKey):
                key.verify(signature, message, padding.PKCS1v15(), SHA256())
            elif isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, message, ec.ECDSA(algorithm))
            elif isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(signature, message)
        except InvalidSignature:
            continue
        return
    raise NotSigned(f"it was not made with {signer}")


def _hashes(key: "PublicKeyTypes") -> "tuple[HashAlgorithm, ...]":
    """Return the hashes that cosign signs with: SHA-256, and in bundles the one that goes with the curve."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    larger: dict[str, HashAlgorithm] = {"secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}
    own = larger.get(key.curve.name) if isinstance(key, ec.EllipticCurvePublicKey) else None
    return (hashes.SHA256(),) if own is None else (hashes.SHA256(), own)


@functools.lru_cache(maxsize=64)
def _public_key(pem: bytes) -> "PublicKeyTypes":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise NotSigned("it is no public key in PEM") from None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _SHORTEST_RSA:
        raise NotSigned(f"it is an RSA key of {key.key_size} bits, of which less than {_SHORTEST_RSA} can be forged")
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise NotSigned("it is no key of ECDSA, RSA or Ed25519")
    return key


def _name(signer: Signer) -> str:
    """Return who signed, in a form that means the same everywhere: of a key its hash, not where its file lies."""
    if not signer.key:
        return str(signer)
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = _public_key(signer.material).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"key sha256:{hashlib.sha256(der).hexdigest()}"


@functools.lru_cache(maxsize=64)
def _verifier(trusted_root: bytes) -> "Verifier":
    """Return what checks against the `trusted_root` of a Sigstore, whose own form wants a wrapping around it."""
    from sigstore.models import ClientTrustConfig
    from sigstore.verify import Verifier

    try:
        root: Any = strict_json.load(trusted_root)
        config = {"mediaType": _TRUST_CONFIG, "trustedRoot": root, "signingConfig": _NO_SIGNING}
        return Verifier(trusted_root=ClientTrustConfig.from_json(json.dumps(config)).trusted_root)
    except FreshnessError as error:
        raise NotSigned(error.message) from None
    except Exception as error:  # noqa: BLE001  as above
        raise NotSigned(f"it is no trusted root: {_first_line(error)}") from None
