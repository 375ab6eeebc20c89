"""The table of Snakemake's names in docs/hook.md, out of the code.

``python -m tests.support.seams`` writes it anew; a test compares it with the code.
"""

import sys
from typing import Final

from snakemake_apptainer_freshness.engine.seams import SEAMS
from tests.support.rooms import ROOT, replaced

DOCUMENT: Final = ROOT / "docs" / "hook.md"


def table() -> str:
    """Every name, what is done with it and why, since when it is there, and what is done without it."""
    rows = [f"| `{one.name}` | {one.use} | {one.why} | {one.since} | {one.without} |" for one in SEAMS]
    return "\n".join(["| name | | why | since | without it |", "|---|---|---|---|---|", *rows])


def written(text: str) -> str:
    """The document `text` with the table as it is now."""
    return replaced(text, "seams", table())


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{DOCUMENT.relative_to(ROOT)} is current\n")
