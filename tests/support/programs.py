"""Where the real programs are, and the surroundings that they need.

A program of the user's own on PATH comes first, the private installation of ``make tools`` second. A program
that is nowhere is an error, never a reason to skip a test: a test that did not run proves nothing.

Root needs ``--userns``: without it Apptainer mounts with root's own privileges, which root in a container has
not. An ordinary user gets a user namespace anyway. Where ``/dev/fuse`` cannot be opened, Apptainer cannot
mount an image without privileges and has to be told to unpack it for each run.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from snakemake_apptainer_freshness.common.environment import CHECK_EVERY

TOOLS = Path(__file__).resolve().parents[2] / ".tools"
FUSE = Path("/dev/fuse")

_FOREIGN_SETTINGS = ("APPTAINER", "SINGULARITY", "DOCKER_", "REGISTRY_AUTH_FILE", "CONTAINERS_", "SSL_CERT_")


class MissingProgram(Exception):
    """A real program that a test needs is not there."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is neither on PATH nor in {TOOLS / 'bin'}: run 'make tools' first.")


def find(name: str) -> Path:
    """The program ``name``: from PATH, else the private one; raises :class:`MissingProgram`."""
    found = shutil.which(name, path=_search_path())
    if found is None:
        raise MissingProgram(name)
    return Path(found)


def private(name: str) -> Path:
    """The private program ``name``, for what must be a static build; raises :class:`MissingProgram`."""
    path = TOOLS / "bin" / name
    if not path.exists():
        raise MissingProgram(name)
    return path


def others_may_run_them() -> bool:
    """Whether another user of this machine may reach the private programs: a checkout can lie in a closed folder."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (TOOLS, *TOOLS.parents) if folder.exists())


def environment(home: Path | None = None) -> dict[str, str]:
    """This process's environment, fit for running the real programs.

    Settings for Apptainer, Docker, their credentials and certificates that a developer happens to have are taken
    out. With ``home`` the home folder, and so the image cache and every credential and configuration file, are in
    that folder.
    """
    variables = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN_SETTINGS)}
    variables["PATH"] = _search_path()
    variables[CHECK_EVERY] = "0"  # tests move tags within seconds; what is remembered has tests of its own
    if os.geteuid() == 0:
        variables["APPTAINER_USERNS"] = "1"
    if not _can_mount():
        variables["APPTAINER_UNSQUASH"] = "1"
    if home is not None:
        variables |= {
            "HOME": str(home),
            "APPTAINER_CONFIGDIR": str(home / ".apptainer"),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "XDG_DATA_HOME": str(home / ".local/share"),
            "XDG_STATE_HOME": str(home / ".local/state"),
        }
    return variables


def apptainer_args() -> list[str]:
    """What ``apptainer exec`` and ``run`` need here: ``--userns`` for root, nothing for others."""
    return ["--userns"] if os.geteuid() == 0 else []


def _can_mount() -> bool:
    """Whether FUSE is there for this process: containers often show the device and forbid to open it."""
    try:
        os.close(os.open(FUSE, os.O_RDWR))
    except OSError:
        return False
    return True


def _search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), str(TOOLS / "bin")])
