"""Platforms: which of an index's images this machine would run.

Written ``os/architecture`` or ``os/architecture/variant`` with the names of the OCI image specification (the
values of Go's GOOS and GOARCH), as in ``linux/amd64`` and ``linux/arm64/v8``.
"""

import os
import re
from dataclasses import dataclass
from typing import Self

from snakemake_apptainer_freshness.errors import InvalidReference

_PLATFORM = re.compile(r"([a-z0-9]+)/([a-z0-9_]+)(?:/([a-z0-9.]+))?", re.ASCII)

_GO_ARCHITECTURE = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "i686": "386",
    "i386": "386",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Platform:
    """An operating system, an architecture, and an optional variant."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the platform that `text` spells, such as ``linux/arm64/v8``.

        Raises
        ------
        InvalidReference
            where `text` is not ``os/architecture[/variant]``.
        """
        match = _PLATFORM.fullmatch(text)
        if match is None:
            raise InvalidReference(
                f"{text[:80]!r} is not a platform",
                hint="write os/architecture or os/architecture/variant, as in linux/amd64",
            )
        return cls(os=match[1], architecture=match[2], variant=match[3] or "")

    @classmethod
    def here(cls) -> Self:
        """Return the platform whose images Apptainer would run on this machine."""
        machine = os.uname().machine
        return cls(os="linux", architecture=_GO_ARCHITECTURE.get(machine, machine))

    def serves(self, wanted: "Platform") -> bool:
        """Return whether an image of this platform is what a request for `wanted` gets.

        Apptainer 1.4 takes the first entry with equal os and architecture, and looks at the variant only if
        asked.
        """
        return (
            self.os == wanted.os
            and self.architecture == wanted.architecture
            and (not wanted.variant or self.variant == wanted.variant)
        )

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)
