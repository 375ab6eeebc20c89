"""``signed_by``: by whom the images of a registry or a repository have to be signed. Pure: values in, values out.

::

    [policy.signed_by]
    trusted_root = "trusted_root.json"

    [policy.signed_by.images]
    "quay.io/lab/*" = {key = "cosign.pub"}
    "ghcr.io" = [{identity = "https://github.com/lab/images/.github/workflows/build.yml@refs/heads/main",
                  issuer = "https://token.actions.githubusercontent.com"}]
    "library/lab/*" = {fingerprint = "0123456789ABCDEF0123456789ABCDEF01234567"}

A pattern without a slash is one of hosts, any other one of host and repository. Of several signers one is enough; where
several patterns match an image each of them holds. Of most images in this field there is no signature, so nothing is
asked for where no pattern matches.

There are three kinds of signers. One with a `key` (a PEM file) or an `identity` signs an image's digest, and the
signature lies beside the image in its registry; who checks an identity needs the trusted root of a Sigstore, a file
that is pinned here. One with a `fingerprint` signs inside a SIF file, with OpenPGP.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Final

from snakemake_apptainer_freshness.errors import InvalidPolicy
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.image.signature import canonical, canonical_host
from snakemake_apptainer_freshness.policy.schema import Level, level_of, table_of, text_of

_FINGERPRINT: Final = re.compile(r"[0-9A-F]{40}", re.ASCII)
_SIGNER_KEYS: Final = ("key", "identity", "issuer", "fingerprint")
_KINDS: Final = (frozenset({"key"}), frozenset({"identity", "issuer"}), frozenset({"fingerprint"}))
_MOST: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who has to have signed: whose `key` it is, or an `identity` as an `issuer` of Sigstore's knows it, or a PGP key.

    `material` is what a check rests on, once it was read: the public key (PEM), or the trusted root (JSON).
    """

    key: str = ""
    identity: str = ""
    issuer: str = ""
    fingerprint: str = ""
    trusted_root: str = ""
    material: bytes = field(default=b"", repr=False)

    @property
    def file(self) -> str:
        """The file that has its material; empty where it needs none."""
        return self.key or self.trusted_root

    def __str__(self) -> str:
        if self.identity:
            return f"{self.identity} (issuer {self.issuer})"
        return f"PGP key {self.fingerprint}" if self.fingerprint else f"key {self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """That images which `pattern` matches are signed by one of `signers`."""

    pattern: str
    signers: tuple[Signer, ...]

    def is_about(self, repository: str) -> bool:
        """Return whether the images of `repository`, a host and a path in one spelling, are meant."""
        return fnmatchcase(repository if "/" in self.pattern else repository.partition("/")[0], self.pattern)

    @property
    def is_inside(self) -> bool:
        """Whether the signature has to be inside of a SIF file, not beside an image in its registry."""
        return bool(self.signers[0].fingerprint)

    def __str__(self) -> str:
        return " or ".join(map(str, self.signers))

    def with_material(self, material: Mapping[str, bytes]) -> "Demand":
        """Return the same with the content of the files that its signers name."""
        signers = (
            replace(signer, material=material[signer.file]) if signer.file else signer for signer in self.signers
        )
        return replace(self, signers=tuple(signers))


def repository_of(reference: Reference) -> str:
    """Return the host and path of an image in the one spelling that patterns are held against; empty without host."""
    if not reference.scheme.rules.has_host:
        return ""
    path = reference.repository or reference.path.lstrip("/")
    if reference.scheme.is_registry:
        return canonical(f"{reference.host}/{path}")
    return f"{canonical_host(reference.host) or 'library'}/{path}"


def files_of(demands: Iterable[Demand]) -> frozenset[str]:
    """Return the names of the files that have to be read before `demands` can be checked."""
    return frozenset(signer.file for demand in demands for signer in demand.signers if signer.file)


def parse_signed_by(value: object, source: str) -> tuple[dict[str, Any], Level]:
    """Return the demands that the table `value` spells, and their level.

    Raises
    ------
    InvalidPolicy
        for an unknown key, a value of the wrong kind, and a signer that could not be checked.
    """
    name = "policy.signed_by"
    table = table_of(value, name, source, allowed=["images", "trusted_root", "level"])
    images = table.get("images")
    if not isinstance(images, Mapping) or not images or len(images) > _MOST:
        raise InvalidPolicy(
            f"{source}: {name}.images must be a table of patterns and who signs what they match",
            hint='such as: "quay.io/lab/*" = {key = "cosign.pub"}',
        )
    root = text_of(table["trusted_root"], f"{name}.trusted_root", source) if "trusted_root" in table else ""
    demands = tuple(_demand(pattern, signers, root, f"{name}.images", source) for pattern, signers in images.items())
    if root and not any(signer.identity for demand in demands for signer in demand.signers):
        raise InvalidPolicy(
            f"{source}: {name}.trusted_root is for identities, and no signer is one",
            hint="name an identity and its issuer, or remove trusted_root",
        )
    return {"signed_by": demands}, level_of(table, "signed_by", source)


def _demand(pattern: object, value: object, root: str, name: str, source: str) -> Demand:
    pattern = text_of(pattern, f"{name}, as a pattern,", source)
    listed = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not listed:
        raise InvalidPolicy(f"{source}: {name}.{pattern} names no signer, so that nothing could satisfy it")
    host, slash, rest = pattern.partition("/")
    # A spelling that no image's name is brought to would protect none.
    signers = tuple(_signer(row, root, f"{name}.{pattern}", source) for row in listed)
    if len({bool(signer.fingerprint) for signer in signers}) > 1:
        raise InvalidPolicy(
            f"{source}: {name}.{pattern} mixes PGP keys, which sign inside of SIF files, with signers beside images",
            hint="an image has one kind or the other: give each its own pattern",
        )
    return Demand(pattern=canonical_host(host) + slash + rest, signers=signers)


def _signer(value: object, root: str, name: str, source: str) -> Signer:
    table = table_of(value, name, source, allowed=_SIGNER_KEYS)
    if frozenset(table) not in _KINDS:
        raise InvalidPolicy(
            f"{source}: {name} has {', '.join(table) or 'nothing'}, which does not say who signs",
            hint="a signer is a key, an identity with its issuer, or a fingerprint",
        )
    texts = {key: text_of(item, f"{name}.{key}", source) for key, item in table.items()}
    if "fingerprint" in texts:
        return Signer(fingerprint=_fingerprint(texts["fingerprint"], name, source))
    if "identity" not in texts:
        return Signer(key=texts["key"])
    if not root:
        raise InvalidPolicy(
            f"{source}: {name} names an identity, and policy.signed_by has no trusted_root to check it with",
            hint="put the trusted root of your Sigstore into a file, and name it as trusted_root",
        )
    return Signer(identity=texts["identity"], issuer=texts["issuer"], trusted_root=root)


def _fingerprint(text: str, name: str, source: str) -> str:
    fingerprint = text.replace(" ", "").upper()
    if _FINGERPRINT.fullmatch(fingerprint) is None:
        raise InvalidPolicy(
            f"{source}: {name}.fingerprint must be the whole fingerprint of a PGP key, not {text!r}",
            hint="40 hexadecimal digits, as 'apptainer key list' shows them; a short key id can be forged",
        )
    return fingerprint
