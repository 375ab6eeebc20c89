"""Which program runs the containers, found as Snakemake finds it: ``apptainer`` on PATH, else ``singularity``.

Its family and version say what it reads and knows: SingularityCE is not Apptainer, and Apptainer's packages bring a
``singularity`` that is. So the program is asked for its version, whatever it is called.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from snakemake_apptainer_freshness.errors import MissingProgram
from snakemake_apptainer_freshness.settings import DISK

_VERSION: Final = re.compile(
    r"(apptainer|singularity(?:-ce|-ro)?)\s+(?:version\s+)?v?(\d{1,4})\.(\d{1,4})(\S*)", re.ASCII
)
_OLDEST: Final = {"apptainer": (1, 0), "singularity": (3, 8)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerProgram:
    """The program at `path`; `release` is its version's first two numbers, `family` apptainer or singularity."""

    path: str
    family: str
    version: str
    release: tuple[int, int]

    @property
    def name(self) -> str:
        """What its family is called."""
        return "Apptainer" if self.family == "apptainer" else "SingularityCE"


def find(environment: Mapping[str, str]) -> ContainerProgram:
    """Return the program on PATH.

    Raises
    ------
    MissingProgram
        where there is none, it does not say its version, or it is too old.
    """
    path = on_path(environment)
    if path is None:
        raise MissingProgram(
            "cannot fetch images: neither apptainer nor singularity is on PATH",
            hint="install Apptainer 1.0 or later, or load its environment module",
        )
    version_text = _version_text(path, environment)
    match = _VERSION.search(version_text)
    if match is None:
        raise MissingProgram(
            f"{path} does not say its version: {version_text.strip()[:200]!r}", hint="install Apptainer 1.0 or later"
        )
    family = "apptainer" if match[1] == "apptainer" else "singularity"
    release = (int(match[2]), int(match[3]))
    if release < _OLDEST[family]:
        oldest = ".".join(map(str, _OLDEST[family]))
        raise MissingProgram(
            f"{path} is {match[0]}; at least {family} {oldest} is needed", hint="install Apptainer 1.0 or later"
        )
    return ContainerProgram(
        path=path, family=family, version=f"{family} {match[2]}.{match[3]}{match[4]}", release=release
    )


def on_path(environment: Mapping[str, str]) -> str | None:
    """Return where the program is, without starting it; None where there is none."""
    folders = environment.get("PATH", os.defpath)
    return shutil.which("apptainer", path=folders) or shutil.which("singularity", path=folders)


def _version_text(program: str, environment: Mapping[str, str]) -> str:
    try:
        result = subprocess.run(
            [program, "--version"], env=dict(environment), capture_output=True, text=True, errors="replace",
            timeout=DISK.program_timeout, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingProgram(f"{program} does not start: {error}", hint="install Apptainer 1.0 or later") from error
    return result.stdout or result.stderr
