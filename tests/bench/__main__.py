"""Run all benchmarks, or those that are named, such as ``python -m tests.bench startup cache``."""

import importlib
import os
import sys
import tempfile

NAMES = (
    "startup",
    "cli",
    "registry",
    "cache",
    "library",
    "squashfs",
    "recording",
    "records",
    "audit",
    "page",
    "overhead",
    "scale",
)


def main(names: list[str]) -> int:
    """Run the benchmarks of `names`; every one where none is named."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="bench-state-") as state:
        os.environ["XDG_STATE_HOME"] = state
        for name in names or NAMES:
            importlib.import_module(f"tests.bench.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
