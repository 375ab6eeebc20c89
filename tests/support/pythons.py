"""Pythons that this Debian does not have: those of its unstable suite, unpacked into a private folder.

They come as the other tools do (:mod:`.tools`): through apt, checked, with the libraries that they were built for.
"""

import shutil
import subprocess
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
        root = scratch / "root"
        apt = tools.Apt(target.with_name("apt"), tools.debian_archive())
        tools._unpack(apt.fetch([f"python{version}-venv", "patchelf"], scratch / "debs"), root)
        _use_own_libraries(root / interpreter.relative_to(target), root, target)
        root.rename(target)
        shutil.rmtree(scratch)
    return interpreter


def _use_own_libraries(program: Path, root: Path, final: Path) -> None:
    """Point `program`, below `root`, at the loader and the libraries beside it, as they lie below `final`."""
    loader = next(root.glob("usr/lib/*/ld-linux-*.so.*"))
    beside = final / loader.parent.relative_to(root)
    patchelf: list[str | Path] = [loader, "--library-path", loader.parent, root / "usr" / "bin" / "patchelf"]
    options: list[str | Path] = ["--set-interpreter", beside / loader.name, "--force-rpath", "--set-rpath", beside]
    subprocess.run([*patchelf, *options, program], check=True, timeout=60)
