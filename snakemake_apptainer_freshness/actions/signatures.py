"""Signatures of images: found, held to what policies demand, and remembered where they are good.

What counts is a signature of the very digest that a run is held to. Where that is a platform's manifest, a signature of
its index will do if the index was seen to have this manifest, by this user: what a lock says of its platforms does not
count. Signatures that are remembered are checked first, anew, and mostly no registry is asked; a run without a network
has nothing else. A registry that withholds signatures, or whose mirror lacks them, has images that are not signed:
silence is no consent.

A signature is about a digest. That a file is what the digest names is proven elsewhere, signed or not.
"""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from snakemake_apptainer_freshness.errors import FreshnessError, NotLocked
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference, parse
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.image.signature import Signature
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.policy import Policy, Rule, Violation
from snakemake_apptainer_freshness.policy.schema import Level
from snakemake_apptainer_freshness.policy.signed_by import Demand, repository_of
from snakemake_apptainer_freshness.policy.verification import NotSigned, Signed, verify
from snakemake_apptainer_freshness.registry.referrers import FoundSignatures
from snakemake_apptainer_freshness.settings import PinKind
from snakemake_apptainer_freshness.store import facts
from snakemake_apptainer_freshness.store import kept_signatures as remembered

_REASONS: Final = 3

SignedImage = tuple[Reference, Digest]
"""The image that signatures are about."""


class SignatureSource(Protocol):
    """Who looks for signatures beside images: :class:`.registry.resolver.Resolver`, or a stand-in in tests."""

    def signatures(
        self, images: Iterable[SignedImage]
    ) -> Iterator[tuple[SignedImage, FoundSignatures | FreshnessError]]:
        """Return what lies beside each image as its signatures, as it comes in; none of it is checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureCheck:
    """What policies say of the signatures of images; `signed` has those that are good, by reference."""

    violations: tuple[Violation, ...] = ()
    signed: Mapping[str, tuple[Signed, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a run is held to: which digest of an entry, on which machine."""

    kind: PinKind
    platform: Platform

    def digests(self, entry: Entry) -> tuple[Digest, ...]:
        """Return the digests of which a signature is one of what runs for `entry`."""
        try:
            held = entry.digest_for(self.kind, self.platform)
        except NotLocked:
            return (entry.digest,)  # such an image never runs here
        if held != entry.digest and facts.manifest_of(entry.digest, self.platform) == held:
            return held, entry.digest
        return (held,)


@dataclass(slots=True, kw_only=True)
class _Subject:
    """An image that has to be signed: what each policy demands of it, and what is known of its signatures."""

    text: str
    repository: str
    images: tuple[SignedImage, ...]
    demands: list[tuple[Policy, Demand]]
    signatures: dict[Signature, Digest] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    asked: bool = False

    def by(self, demand: Demand) -> tuple[Signed | None, list[str]]:
        """Return what satisfies `demand`, and why what does not does not."""
        reasons = []
        for signature, digest in self.signatures.items():
            for signer in demand.signers:
                try:
                    return verify(signature, signer, digest=digest, repository=self.repository), []
                except NotSigned as reason:
                    reasons.append(str(reason))
        return None, reasons

    @property
    def is_satisfied(self) -> bool:
        """Whether every demand is met."""
        return all(self.by(demand)[0] is not None for _, demand in self.demands)


def check_signatures(
    policies: Iterable[Policy],
    pins: Mapping[str, Entry | None],
    held: Held,
    *,
    ask: Callable[[], SignatureSource] | None,
    remember: bool,
    sees_files: bool,
) -> SignatureCheck:
    """Hold what references are pinned to, None where to nothing, to the ``signed_by`` of `policies`.

    Without `ask` no registry is asked. Good signatures are kept for later runs, unless `remember` is off. What has to
    be signed inside of a file is left to :mod:`.sif_signatures`, and hopeless where no file is seen (`sees_files`).
    """
    violations: list[Violation] = []
    wanted: list[_Subject] = []
    for text, entry in pins.items():
        beside: list[tuple[Policy, Demand]] = []
        for policy, demand in demands_of(policies, text):
            if problem := _hopeless(entry, demand, sees_files=sees_files):
                violations.append(violation(policy, text, problem))
            elif not demand.is_inside:
                beside.append((policy, demand))
        if entry is not None and beside:
            images = tuple((entry.pinned, digest) for digest in held.digests(entry))
            wanted.append(_Subject(text=text, repository=repository_of(entry.reference), images=images, demands=beside))
    _gather(wanted, ask)
    signed: dict[str, tuple[Signed, ...]] = {}
    for subject in wanted:
        good, bad = _judged(subject)
        violations += bad
        if good:
            signed[subject.text] = good
            if remember:
                _keep(subject, good)
    return SignatureCheck(violations=tuple(violations), signed=signed)


def demands_of(policies: Iterable[Policy], text: str) -> Iterator[tuple[Policy, Demand]]:
    """Yield what each of `policies` demands of the image that `text` names."""
    repository = repository_of(parse(text))
    if repository:
        yield from (
            (policy, demand) for policy in policies for demand in policy.signed_by if demand.is_about(repository)
        )


def _hopeless(entry: Entry | None, demand: Demand, *, sees_files: bool) -> str:
    """Return why no signature could satisfy `demand`, where none could."""
    wanted = f"it has to be signed by {demand}"
    if entry is None:
        return f"{wanted}, and it cannot be pinned: a signature is about a digest"
    scheme = entry.reference.scheme
    if not scheme.is_registry and not demand.is_inside:
        return f"{wanted}, and no signature lies beside an image of {scheme}://"
    if scheme is Scheme.DOCKER and demand.is_inside:
        return f"{wanted}, and an image that is built on this machine has no signature inside"
    if demand.is_inside and not sees_files:
        return f"{wanted} inside of its file, which each job fetches for itself here, unchecked"
    return ""


def _gather(wanted: Iterable[_Subject], ask: Callable[[], SignatureSource] | None) -> None:
    """Find signatures: what is remembered, and where that is not enough what registries have."""
    missing: defaultdict[SignedImage, list[_Subject]] = defaultdict(list)
    for subject in wanted:
        for image in subject.images:
            subject.signatures |= dict.fromkeys(remembered.known(image[1]), image[1])
        if ask is not None and not subject.is_satisfied:
            subject.asked = True
            for image in subject.images:
                missing[image].append(subject)
    if ask is None or not missing:
        return
    for image, answer in ask().signatures(missing):
        for subject in missing[image]:
            if isinstance(answer, FreshnessError):
                subject.problems.append(answer.message)
            else:
                subject.signatures |= dict.fromkeys(answer.signatures, image[1])
                subject.problems += answer.problems


def _judged(subject: _Subject) -> tuple[tuple[Signed, ...], list[Violation]]:
    good: dict[Signed, None] = {}
    bad = []
    for policy, demand in subject.demands:
        signed, reasons = subject.by(demand)
        if signed is not None:
            good[signed] = None
        else:
            bad.append(violation(policy, subject.text, _why(subject, demand, reasons)))
    return tuple(good), bad


def _why(subject: _Subject, demand: Demand, reasons: Iterable[str]) -> str:
    """Return in one line what is wrong with the signatures of an image."""
    digest = subject.images[0][1].short
    if subject.signatures:
        why = f"none of the {len(subject.signatures)} signatures of {digest} is by {demand}"
    elif subject.asked:
        why = f"no signature of {digest} was found, and it has to be signed by {demand}"
    else:
        why = f"no signature of {digest} is remembered, no registry is asked, and it has to be signed by {demand}"
    more = list(dict.fromkeys([*reasons, *subject.problems]))[:_REASONS]
    return f"{why}: {'; '.join(more)}" if more else why


def violation(policy: Policy, text: str, problem: str) -> Violation:
    """Return that the image `text` breaks the ``signed_by`` of `policy`; `problem` says how."""
    level = policy.levels.get(Rule.SIGNED_BY, Level.ERROR)
    return Violation(rule=Rule.SIGNED_BY, level=level, reference=text, text=problem, source=policy.source)


def _keep(subject: _Subject, good: Iterable[Signed]) -> None:
    """Remember signatures, as far as it can be done: another run can find them again."""
    names = {signed.signature for signed in good}
    for signature, digest in subject.signatures.items():
        if signature.sha256 in names:
            with contextlib.suppress(OSError):
                remembered.keep(digest, [signature])
