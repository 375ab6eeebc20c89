"""What a command prints: a table for a person at a terminal, plain lines for a pipe, one JSON document for a program.

* **A terminal** gets a table that fits its width, with colour unless ``NO_COLOR`` is set or the terminal is a dumb one.
* **A pipe** gets one line a row, its fields separated by tabs, whole and without colour: for grep, cut and people who
  read the log of a job.
* **JSON** is one document with a ``version``; keys and words are those of the lock file. It is ASCII, so that a name
  from another user's disk can neither break a reader nor move a terminal's cursor.

What is printed on standard output is the answer; what is said on the way goes to standard error. Text from outside is
always cleaned: on one line, without control characters and secrets.
"""

import itertools
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, TextIO

import click

from snakemake_apptainer_freshness.common.text import counted as counted  # noqa: PLC0414  told to type checkers as ours
from snakemake_apptainer_freshness.common.text import size as size  # noqa: PLC0414
from snakemake_apptainer_freshness.errors import FreshnessError, one_line

VERSION: Final = 1
"""Of the JSON documents; raised where a key goes or changes its meaning, not where one is added."""

_STYLES: Final = {
    "verified": "green",
    "bound": "cyan",
    "unbound": "yellow",
    "absent": "yellow",
    "stale": "bold red",
    "altered": "bold red",
    "corrupt": "bold red",
    "pulled": "green",
    "copied": "green",
    "kept": "cyan",
    "failed": "bold red",
    "added": "green",
    "updated": "yellow",
    "removed": "red",
    "missing": "bold red",
    "orphan": "yellow",
    "same platform": "cyan",
    "problem": "bold red",
    "space": "yellow",
    "bad image": "bold red",
    "changed": "bold red",
    "unattributable": "yellow",
    "no record": "yellow",
    "unproven": "yellow",
    "proven": "green",
    "other": "bold red",
    "unlocked": "yellow",
    "error": "bold red",
    "warning": "yellow",
    "note": "cyan",
}
"""The colour of a word, wherever it stands alone in a cell."""

_DIGEST: Final = re.compile(r"sha(?:256|512):[0-9a-f]{8}")
_NARROW: Final = 20
"""So wide a column without digests has to be at least, to be read."""
_GAP: Final = 2  # spaces between two columns


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print `rows`, whose cells stand under `titles` at a terminal; there a cell may have several lines."""
    cells = list(rows)
    if cells and at_terminal(sys.stdout):
        _draw(titles, cells)
        return
    for cell in cells:
        row(cell)


def row(cells: Sequence[str]) -> None:
    """Print one row at once, as it goes into a pipe."""
    click.echo("\t".join(clean(cell) for cell in cells))


def _draw(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours: Any = "auto" if colourful(sys.stdout) else None
    console = Console(file=sys.stdout, highlight=False, color_system=colours)
    texts = [[Text(_lines(cell), style=_STYLES.get(cell, "")) for cell in row] for row in cells]
    widths = _widths(titles, cells, console.width)
    if widths is None:
        for first, *others in texts:  # the terminal itself wraps: what is copied from it is whole
            console.print(first, soft_wrap=True)
            for text in others:
                console.print(Text("\n").join(Text("  ") + part for part in text.split("\n")), soft_wrap=True)
        return
    drawn = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for title, width in zip(titles, widths, strict=True):
        drawn.add_column(title, overflow="fold", width=width, no_wrap=title == titles[0])
    for row in texts:
        drawn.add_row(*row)
    console.print(drawn)


def _widths(titles: Sequence[str], cells: Sequence[Sequence[str]], available: int) -> list[int | None] | None:
    """Return the widths of columns that have digests in them, so that none is broken; None where there is no room."""
    columns = list(itertools.zip_longest(titles, *cells, fillvalue=""))
    natural = [max(len(line) for cell in column for line in cell.split("\n")) for column in columns]
    gaps = _GAP * len(columns)
    if sum(natural) + gaps <= available:
        return [None for _ in columns]
    share = (available - natural[0] - gaps) // max(1, len(columns) - 1)
    widths: list[int | None] = [None]
    for column, wanted in zip(columns[1:], natural[1:], strict=True):
        digests = [len(word) for cell in column for word in cell.split() if _DIGEST.search(word)]
        widths.append(max(*digests, min(wanted, share)) if digests else None)
    least = sum(min(_NARROW, wanted) if width is None else width for width, wanted in zip(widths, natural, strict=True))
    return widths if least + gaps <= available else None


def _lines(cell: str) -> str:
    return "\n".join(clean(part) for part in cell.split("\n"))


def heading(text: str) -> None:
    """Print the title of a part of the answer."""
    click.echo(click.style(text, bold=True) if colourful(sys.stdout) else text)


def line(text: str = "") -> None:
    """Print one line of the answer."""
    click.echo(clean(text))


def line_at(indent: int, text: str) -> None:
    """Print one line of the answer, `indent` spaces in."""
    click.echo(" " * indent + clean(text))


def note(text: str) -> None:
    """Print a note on standard error."""
    click.echo(clean(text), err=True)


def document(**content: Any) -> None:
    """Print `content` as one JSON document: a line a key, and a line an item of a list."""
    lines = [f"{json.dumps(key)}: {_value(value)}" for key, value in {"version": VERSION, **content}.items()]
    click.echo("{\n  " + ",\n  ".join(lines) + "\n}")


def _value(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return json.dumps(value)
    return "[\n    " + ",\n    ".join(map(json.dumps, value)) + "\n  ]"


def error_of(error: FreshnessError, reference: str = "") -> dict[str, str]:
    """Return `error` as it stands in a JSON document."""
    return {
        "reference": reference,
        "error": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
    }


def at_terminal(stream: TextIO) -> bool:
    """Return whether a person watches `stream`."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def colourful(stream: TextIO) -> bool:
    """Return whether `stream` may have colour (no-color.org)."""
    return at_terminal(stream) and not os.environ.get("NO_COLOR")


def clean(text: str) -> str:
    """Return `text` on one line, without what could move a cursor or give a secret away."""
    return one_line(text)
