"""Signatures inside SIF files, held to what policies demand; each file is looked at once, by its own SHA-256.

They are for images that come as SIF files: of ``oras://``, ``library://`` and web servers. All who signed a file have
to be among the demanded signers: where others have signed it, too, it cannot be said which part of it is whose.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from snakemake_apptainer_freshness.actions.signatures import SignatureCheck, demands_of, violation
from snakemake_apptainer_freshness.apptainer.program import Apptainer
from snakemake_apptainer_freshness.apptainer.signers import NotSignedInside, signers
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.policy import Policy, Violation
from snakemake_apptainer_freshness.policy.signed_by import Demand
from snakemake_apptainer_freshness.policy.verification import Signed
from snakemake_apptainer_freshness.store import kept_signatures as remembered
from snakemake_apptainer_freshness.store import places


@dataclass(frozen=True, slots=True, kw_only=True)
class SifFile:
    """The file of one image: what it has to be, and what the disk said of it."""

    pin: Pin
    fact: DiskFact

    @property
    def sha256(self) -> str:
        """What it hashes to; empty where it is not proven to be what it has to be."""
        if self.fact.state is not DiskState.VERIFIED:
            return ""
        if self.pin.content is not None:
            return self.pin.content.hex
        place = places.load(Path(self.fact.path))
        return place.sha256 if place is not None else ""


def check_files(
    policies: Iterable[Policy], files: Mapping[str, SifFile], *, find: Callable[[], Apptainer] = Apptainer.find
) -> SignatureCheck:
    """Hold the SIF `files`, by reference, to what `policies` demand of the signatures inside.

    Raises
    ------
    MissingProgram
        where there is no Apptainer that could check one.
    """
    violations: list[Violation] = []
    signed: dict[str, tuple[Signed, ...]] = {}
    for text, file in files.items():
        inside = [pair for pair in demands_of(policies, text) if pair[1].is_inside]
        if not inside:
            continue
        try:
            fingerprints = _signers(file, find)
        except NotSignedInside as reason:
            violations += [violation(policy, text, _unsigned(demand, str(reason))) for policy, demand in inside]
            continue
        for policy, demand in inside:
            if not _is_by(fingerprints, demand):
                others = f"it is signed by {', '.join(sorted(fingerprints))}"
                violations.append(violation(policy, text, _unsigned(demand, others)))
        digest = Digest(algorithm="sha256", hex=file.sha256)
        signed[text] = tuple(
            Signed(digest=digest, by=f"PGP key {fingerprint}", signature="") for fingerprint in sorted(fingerprints)
        )
    return SignatureCheck(violations=tuple(violations), signed=signed)


def _is_by(signers: frozenset[str], demand: Demand) -> bool:
    """Return whether all who signed are among those of `demand`."""
    return signers <= {signer.fingerprint for signer in demand.signers}


def _unsigned(demand: Demand, reason: str) -> str:
    return f"its SIF file has to be signed inside by {demand}: {reason}"


def _signers(file: SifFile, find: Callable[[], Apptainer]) -> frozenset[str]:
    """Return who signed the file, asked once for each SHA-256."""
    sha256 = file.sha256
    if not sha256:
        raise NotSignedInside(f"the file is {file.fact.state}, and not proven")
    fingerprints = remembered.inside(sha256)
    if fingerprints:
        return fingerprints
    fingerprints = signers(find(), Path(file.fact.path))
    if not fingerprints:
        raise NotSignedInside("it has no signature")
    if file.sha256 == sha256:
        with suppress(OSError):
            remembered.keep_inside(sha256, fingerprints)
    return fingerprints
