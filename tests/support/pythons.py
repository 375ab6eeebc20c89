"""Pythons that this Debian does not have: those of its unstable suite, unpacked into a private folder.

They come as the other tools do (:mod:`.tools`): through apt, checked, with the libraries that they were built for.
"""

import shutil
from pathlib import Path
from typing import Final

from tests.support import tools

VERSIONS: Final = ("3.13", "3.14", "3.15")
"""What Debian's unstable suite has; 3.12 is in no suite of Debian any more."""


def make(target: Path, version: str) -> Path:
    """Unpack Python `version` into `target`, if it is not there; gives its interpreter."""
    interpreter = target / "usr" / "bin" / f"python{version}"
    if not interpreter.exists():
        scratch = target.with_name(f"{target.name}.partial")
        shutil.rmtree(scratch, ignore_errors=True)
        apt = tools.Apt(target.with_name("apt"), tools.debian_archive())
        root = scratch / "root"
        tools._unpack(apt.fetch([f"python{version}-venv", "patchelf"], scratch / "debs"), root)
        tools._relocate(root, target)
        root.rename(target)
        shutil.rmtree(scratch)
    return interpreter
