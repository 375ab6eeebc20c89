"""Run one scenario through every Snakemake and Python of the matrix, and write which they were; ``make matrix``.

``python -m tests.matrix [NAME…]`` runs some of them and writes nothing. The versions go into the package, and from
there into the error that names them, README.md and docs/hook.md; ``python -m tests.support.seams`` writes those anew.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.support import seams, snakemakes
from tests.support.rooms import PACKAGE, ROOT

SCENARIO: Final = "tests/e2e/test_snakemake_versions.py"
MODULE: Final = PACKAGE / "engine" / "versions.py"
_TIMEOUT: Final = 3600.0  # seconds, for one environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """An environment that has passed the scenario."""

    snakemake: str
    python: str
    seconds: float


def main(names: Sequence[str]) -> int:
    """Run the environments of `names`; of all, where none is named."""
    passed, failed = [], []
    for name in names or snakemakes.NAMES:
        try:
            passed.append(run(name))
        except subprocess.SubprocessError as error:
            failed.append(name)
            print(f"{name}: {error}", file=sys.stderr)
            continue
        print(f"{name}: Snakemake {passed[-1].snakemake}, Python {passed[-1].python}: {passed[-1].seconds:.0f} s")
    if failed:
        print(f"failed: {', '.join(failed)}; nothing is written", file=sys.stderr)
        return 1
    if not names:
        write(passed)
    return 0


def run(name: str) -> Passed:
    """Run the scenario in the environment `name`; a :class:`subprocess.SubprocessError` where it does not pass."""
    snakemakes.make(name)
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", SCENARIO],
        cwd=ROOT,
        env=os.environ | {"SNAKEMAKE_ENVIRONMENTS": name},
        timeout=_TIMEOUT,
        check=True,
    )
    python = snakemakes.ask(name, "import sys; print('%d.%d' % sys.version_info[:2])")
    return Passed(snakemake=snakemakes.version(name), python=python, seconds=time.monotonic() - started)


def write(passed: Sequence[Passed]) -> None:
    """Write the versions of those that `passed` into the package, and from there into the documents."""
    names = {"SNAKEMAKES": {one.snakemake for one in passed}, "PYTHONS": {one.python for one in passed}}
    kept = [line for line in MODULE.read_text(encoding="utf-8").splitlines() if not line.startswith(tuple(names))]
    lines = [f"{name}: Final = ({_listed(versions)})" for name, versions in names.items()]
    MODULE.write_text("\n".join([*kept, *lines, ""]), encoding="utf-8")
    subprocess.run([sys.executable, "-m", seams.__name__], cwd=ROOT, check=True)


def _listed(versions: set[str]) -> str:
    ordered = sorted(versions, key=lambda one: [*map(int, one.split("."))])
    return ", ".join(f'"{one}"' for one in ordered)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
