"""What the documents say of Snakemake's names and versions, out of the code.

``python -m tests.support.seams`` writes it anew; a test compares it with the code.
"""

import ast
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.engine.next_seams import NEXT_SEAMS
from snakemake_apptainer_freshness.engine.seams import KNOWN_VERSIONS, SEAMS, Seam
from snakemake_apptainer_freshness.engine.versions import PYTHONS, SNAKEMAKES
from tests.support.rooms import ROOT, replaced

HOOK: Final = ROOT / "docs" / "hook.md"
NEXT: Final = ROOT / "docs" / "deployment.md"
README: Final = ROOT / "README.md"
DOCUMENTS: Final = (HOOK, NEXT, README)
SCENARIO: Final = ROOT / "tests" / "e2e" / "test_snakemake_versions.py"


def table(seams: Iterable[Seam] = SEAMS) -> str:
    """Every name, what is done with it and why, since when it is there, and what is done without it."""
    rows = [f"| `{one.name}` | {one.use} | {one.why} | {one.since} | {one.without} |" for one in seams]
    return "\n".join(["| name | | why | since | without it |", "|---|---|---|---|---|", *rows])


def matrix() -> str:
    """Which versions have run the scenario, and its steps."""
    tree = ast.parse(SCENARIO.read_text(encoding="utf-8"))
    told = [ast.get_docstring(node) for node in tree.body if isinstance(node, ast.FunctionDef)]
    steps = [text.partition(": ") for text in told if text and ": " in text]
    return "\n".join(
        [
            f"* Snakemake {', '.join(SNAKEMAKES)}. The oldest has the lowest allowed version of each dependency,",
            "  the others have the newest.",
            f"* Python {', '.join(PYTHONS)}.",
            "",
            "| step | what holds |",
            "|---|---|",
            *(f"| {name} | {what} |" for name, _, what in steps),
        ]
    )


def written(path: Path) -> str:
    """What the document at `path` has to say now."""
    text = re.sub(r"\b9\.\d+ to 9\.\d+", KNOWN_VERSIONS, path.read_text(encoding="utf-8"))
    if path == NEXT:
        return replaced(text, "seams", table(NEXT_SEAMS))
    return replaced(replaced(text, "seams", table()), "matrix", matrix()) if path == HOOK else text


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(written(document), encoding="utf-8")
        sys.stdout.write(f"{document.relative_to(ROOT)} is current\n")
