"""Versions in tags: which tags of a repository are newer than the one that is named, by the tags' own scheme. Pure.

A tag is a prefix, a version of numbers with dots, and a rest: ``v1.2.3``, ``3.12-slim``, ``1.10.2--hecfa306_0``. Only
tags of the same scheme are compared: the same prefix, the same rest, as many numbers. The rest of a BioContainers tag
(``--hash_build``) is a build of the same version, so any will do there, and versions of another length are compared, as
bioconda has 1.9 before 1.10.1. What does not read as a version, a release candidate among them, is never proposed.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_TAG: Final = re.compile(r"(?P<prefix>[vV]?)(?P<version>[0-9]{1,18}(?:\.[0-9]{1,18}){0,7})(?P<rest>.*)", re.ASCII)
_BUILD: Final = re.compile(r"--(?P<hash>[A-Za-z0-9.]+_)?(?P<number>[0-9]{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class TagVersion:
    """A tag that reads as a version: the numbers, the build of a BioContainers tag (-1: none), and its scheme."""

    tag: str
    numbers: tuple[int, ...]
    build: int
    prefix: str
    rest: str

    def is_comparable(self, other: "TagVersion") -> bool:
        """Return whether `other` has the same scheme."""
        if self.prefix != other.prefix:
            return False
        if self.build >= 0 or other.build >= 0:
            return self.build >= 0 and other.build >= 0
        return self.rest == other.rest and len(self.numbers) == len(other.numbers)


def parse(tag: str) -> TagVersion | None:
    """Return the version that `tag` reads as; None where it reads as none."""
    match = _TAG.fullmatch(tag)
    if match is None or match["rest"][:1] not in ("", "-", "_"):  # what comes before 1.0rc1, its project alone knows
        return None
    build = _BUILD.fullmatch(match["rest"])
    return TagVersion(
        tag=tag,
        numbers=tuple(map(int, match["version"].split("."))),
        build=int(build["number"]) if build else -1,
        prefix=match["prefix"],
        rest=match["rest"],
    )


def newer(tag: str, tags: Iterable[str]) -> list[str]:
    """Return the `tags` that have a newer version than `tag` in its scheme, the newest first; of a version one.

    Of several builds of one version the last one is given.
    """
    named = parse(tag)
    if named is None:
        return []
    best: dict[tuple[int, ...], TagVersion] = {}
    for other in map(parse, tags):
        if other is None or not named.is_comparable(other) or other.numbers <= named.numbers:
            continue
        known = best.get(other.numbers)
        if known is None or (other.build, other.tag) > (known.build, known.tag):
            best[other.numbers] = other
    return [best[numbers].tag for numbers in sorted(best, reverse=True)]
