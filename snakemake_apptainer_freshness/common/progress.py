"""Progress on a terminal: a bar for each thing that takes its time; nothing where nobody watches.

What has a total (requests to registries) fills its bar. An image has none: Apptainer does not say how far it is unless
it talks to a terminal itself. Its bar moves while it is being fetched, and goes when it is there; no bar ever shows a
share that nobody knows. Lines that must be read are not drawn here: whoever reports them has a line for each.
"""

import sys
from types import TracebackType
from typing import Any, Final, Self, TextIO

from snakemake_apptainer_freshness.errors import redact

_WIDTH: Final = 24


class ProgressBars:
    """Bars on `stream` (default: standard error) within a ``with`` block; none unless `enabled` and it is a terminal.

    May be told from any thread. rich is loaded for a terminal alone.
    """

    def __init__(self, *, enabled: bool = True, stream: TextIO | None = None) -> None:
        stream = stream or sys.stderr
        self._tasks: dict[str, Any] = {}
        self._drawn: Any = _drawn(stream) if enabled and stream.isatty() else None

    def __enter__(self) -> Self:
        if self._drawn is not None:
            self._drawn.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn is not None:
            self._drawn.stop()

    def begin(self, name: str, total: int | None = None) -> None:
        """Draw a bar for `name`, which has `total` steps, if that is known."""
        if self._drawn is not None and name not in self._tasks:
            self._tasks[name] = self._drawn.add_task(_text(name), total=total)

    def advance(self, name: str, steps: int = 1) -> None:
        """So many more `steps` of `name` are done."""
        if name in self._tasks:
            self._drawn.advance(self._tasks[name], steps)

    def end(self, name: str) -> None:
        """`name` is done: its bar goes."""
        if name in self._tasks:
            self._drawn.remove_task(self._tasks.pop(name))


def _drawn(stream: TextIO) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(_WIDTH), TimeElapsedColumn())
    return Progress(*columns, console=Console(file=stream), transient=True)


def _text(name: str) -> str:
    from rich.markup import escape

    return escape(redact(name))
