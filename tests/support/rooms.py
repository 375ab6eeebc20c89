"""The generated parts of docs/architecture.md: which room imports which, and what each module is for.

``python -m tests.support.rooms`` writes them anew; a test compares them with the code.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "snakemake_apptainer_freshness"
DOCUMENT: Final = ROOT / "docs" / "architecture.md"
FLOORS: Final = (  # from the top down; rooms of one floor do not know each other
    ("cli",),
    ("engine",),
    ("audit",),
    ("actions",),
    ("store",),
    ("apptainer", "record", "registry"),
    ("freshness", "mirrors", "pin", "policy"),
    ("lockfile",),
    ("image",),
    ("common",),
    ("settings", "errors", "schemas"),
)
"""The rooms of the package; imports go downwards only. On the lowest floor settings imports errors."""


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below it; the plugin packages are not of it."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] != "plugin":
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imports(path: Path) -> Iterator[str]:
    """Every name of this package that the file at `path` imports, below the package, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE.name:
            below = node.module.removeprefix(PACKAGE.name).lstrip(".")
            yield from (f"{below}.{alias.name}".lstrip(".") for alias in node.names)


def graph() -> dict[str, set[str]]:
    """For each module the modules that it imports."""
    known = modules()
    found: dict[str, set[str]] = {}
    for name, path in known.items():
        targets = {target if target in known else target.rpartition(".")[0] for target in imports(path)}
        found[name] = {target for target in targets if target in known and target != name}
    return found


def purpose(path: Path) -> str:
    """The first line of the docstring of the module at `path`."""
    documented = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return documented.split("\n", 1)[0]


def drawing() -> str:
    """Each floor with its rooms, how many modules they have, and the rooms that they import."""
    arrows: dict[str, set[str]] = defaultdict(set)
    for name, targets in graph().items():
        arrows[_room(name)] |= {_room(target) for target in targets}
    order = [room for floor in FLOORS for room in floor]
    lines = []
    for floor in FLOORS:
        for room in floor:
            count = sum(_room(name) == room for name in modules())
            below = " ".join(other for other in order if other in arrows[room] and other != room)
            lines.append(f"{room:<10}{count:>3} modules   {'→ ' + below if below else ''}".rstrip())
        lines.append("")
    return "```text\n" + "\n".join(lines).rstrip() + "\n```"


def listing() -> str:
    """Every module with the first line of its docstring, by room."""
    lines = []
    for floor in FLOORS:
        for room in floor:
            lines += ["", f"### {room}", "", "| module | what it is for |", "|---|---|"]
            lines += [
                f"| `{name}` | {purpose(path).replace('|', chr(92) + '|')} |"
                for name, path in modules().items()
                if _room(name) == room
            ]
    return "\n".join(lines).strip()


def written(text: str) -> str:
    """The document `text` with its generated parts as they are now."""
    return replaced(replaced(text, "drawing", drawing()), "listing", listing())


def replaced(text: str, name: str, content: str) -> str:
    """`text` with `content` as the generated part `name`."""
    begin, end = f"<!-- generated: {name} -->\n", f"<!-- end: {name} -->"
    before, _, rest = text.partition(begin)
    return before + begin + content + "\n" + end + rest.partition(end)[2]


def _room(name: str) -> str:
    return name.partition(".")[0]


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{DOCUMENT.relative_to(ROOT)} is current\n")
