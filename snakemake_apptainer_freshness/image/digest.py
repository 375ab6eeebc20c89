"""Digests: names that are hashes, and so the only ones that bind content.

Grammar of the OCI image specification (descriptor.md, "Digests"), narrowed to the two registered algorithms:
``sha256`` with exactly 64 and ``sha512`` with exactly 128 lower-case hex digits. Nothing else is a digest: no
upper case, no other length, no white space, no path. A :class:`Digest` that exists is valid.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from snakemake_apptainer_freshness.common.text import short
from snakemake_apptainer_freshness.errors import InvalidDigest

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_DIGEST = re.compile(r"(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Digest:
    """An algorithm and its value in lower-case hex; ``str()`` gives ``sha256:…``."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the digest that `text` spells.

        Raises
        ------
        InvalidDigest
            where `text` is not exactly one registered algorithm with its number of lower-case hex digits.
        """
        match = _DIGEST.fullmatch(text)
        if match is None:
            raise InvalidDigest(f"{_shorten(text)!r} is not a digest: {_what_is_wrong(text)}")
        return cls(algorithm=match[1] or match[3], hex=match[2] or match[4])

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Self:
        """Return the digest of `data`."""
        return cls(algorithm=algorithm, hex=hashlib.new(algorithm, data).hexdigest())

    def matches(self, data: bytes) -> bool:
        """Return whether `data` hashes to this digest."""
        return hashlib.new(self.algorithm, data).hexdigest() == self.hex

    @property
    def short(self) -> str:
        """The first 12 hex digits, for people; never for comparing."""
        return short(str(self))

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def _shorten(text: str, limit: int = 160) -> str:
    return text if len(text) <= limit else text[:limit] + "…"


def _what_is_wrong(text: str) -> str:
    algorithm, colon, value = text.partition(":")
    if not colon:
        return "it has no algorithm (expected sha256:… or sha512:…)"
    if algorithm not in _HEX_LENGTH:
        return f"the algorithm must be {' or '.join(_HEX_LENGTH)}"
    wanted = _HEX_LENGTH[algorithm]
    if len(value) != wanted:
        return f"{algorithm} needs {wanted} hex digits, this has {len(value)} characters"
    return "the value must be lower-case hex digits"
