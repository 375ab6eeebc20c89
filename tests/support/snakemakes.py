"""Environments that have this package and one version of Snakemake each, below ``.tools/matrix``.

``python -m tests.support.snakemakes [NAME…]`` makes them, by default the oldest and ``deployment``. A name is a version
of Snakemake, or ``newest``; ``-python3.13`` after it asks for another Python than the one that makes them, where PATH
has it. The oldest has the lowest version of each dependency that pyproject.toml allows. ``deployment`` has no Snakemake
but the interface of its software deployment plugins, whose dependencies today's Snakemake does not allow.

An environment is made anew where its recipe changed; what interrupts it, the next call starts over. Tests run the code
of their own checkout with it.
"""

import fcntl
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.programs import TOOLS, find
from tests.support.rooms import PACKAGE, ROOT

OLDEST: Final = "9.0.1"
HERE: Final = "here"
"""The environment that runs the tests, which has the newest of everything."""
NEWEST: Final = "newest"
DEPLOYMENT: Final = "deployment"
"""The environment that has the interface of software deployment plugins, and the published plugin for containers."""
PYTHONS: Final = tuple(one for one in ("3.12", "3.13", "3.14", "3.15") if shutil.which(f"python{one}"))
NAMES: Final = (
    *(OLDEST, "9.3.5", "9.5.1", "9.9.0", "9.14.8", "9.20.0", "9.24.0", NEWEST),
    *(f"{NEWEST}-python{version}" for version in PYTHONS),
)
"""The matrix."""
_BESIDE: Final = "snakemake-executor-plugin-cluster-generic>=1.0.9,<2"
_INTERFACE: Final = (
    "snakemake-interface-software-deployment-plugins>=0.21,<0.22",
    "snakemake-software-deployment-plugin-container>=0.7,<0.8",
    "pytest>=8.3,<10",
)
_TIMEOUT: Final = 900.0  # seconds, for one environment on a slow connection


def folder(name: str) -> Path:
    """Where the environment `name` is."""
    return TOOLS.resolve() / "matrix" / name


def python(name: str) -> Path:
    """The interpreter of the environment `name`; a :class:`FileNotFoundError` says how to make it."""
    if name == HERE:
        return Path(sys.executable)
    found = folder(name) / "bin" / "python"
    if not (folder(name) / "stamp").exists():
        raise FileNotFoundError(f"there is no {found}: run 'python -m tests.support.snakemakes {name}' first")
    return found


def version(name: str) -> str:
    """The version of Snakemake in the environment `name`."""
    return ask(name, "from importlib.metadata import version; print(version('snakemake'))")


def ask(name: str, program: str) -> str:
    """What `program` prints in the environment `name`."""
    return subprocess.check_output([python(name), "-c", program], text=True, timeout=_TIMEOUT).strip()


def variables(name: str, path: str) -> dict[str, str]:
    """What makes the environment `name` run the code of this checkout, with its own programs before those of `path`."""
    return {
        "PYTHONPATH": f"{ROOT}:{PACKAGE / 'plugin'}",
        "PATH": path if name == HERE else f"{folder(name) / 'bin'}:{path}",
    }


def make(name: str) -> None:
    """Make the environment `name`, if it is not there as it should be; the newest is brought up to date."""
    target = folder(name)
    number, _, other = name.partition("-")
    wants = (
        [*_INTERFACE] if name == DEPLOYMENT else ["snakemake>=9,<10" if number == NEWEST else f"snakemake=={number}"]
    )
    wants += [] if name == DEPLOYMENT else [_BESIDE]
    wants += lowest() if number == OLDEST else dependencies()
    with _lock():
        stamp, wanted = target / "stamp", f"{sys.version_info[:2]} {target} {wants}\n"
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(target, ignore_errors=True)
            _run(other or sys.executable, "-m", "venv", "--without-pip", str(target))
            # Snakemake before 9.20 knows the program by this name alone, which Apptainer's own packages bring along
            (target / "bin" / "singularity").symlink_to(find("apptainer"))
        elif number != NEWEST:
            return
        pip = ("-m", "pip", "-qq", "--disable-pip-version-check", "--python", str(target / "bin" / "python"))
        ours = [] if name == DEPLOYMENT else ["--editable", str(ROOT)]  # it would bring a Snakemake along
        _run(sys.executable, *pip, "install", "--upgrade", *wants, *ours)
        stamp.write_text(wanted)


def dependencies() -> list[str]:
    """What pyproject.toml says that this project depends on, but Snakemake."""
    found = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    return [one for one in found if not one.startswith("snakemake")]


def lowest() -> list[str]:
    """The lowest version of each that :func:`dependencies` allow, as requirements for pip."""
    return [re.sub(r">=([\d.]+).*", r"==\1", one) for one in dependencies()]


@contextmanager
def _lock() -> Iterator[None]:
    place = TOOLS.resolve() / "matrix"
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=_TIMEOUT)


if __name__ == "__main__":
    for wanted in sys.argv[1:] or [OLDEST, DEPLOYMENT]:
        make(wanted)
