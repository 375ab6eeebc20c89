"""Progress: one line at the bottom of a terminal for slow work; elsewhere one line of text after a second.

The last line of the terminal is taken out of what scrolls (its scrolling region, DECSTBM, as apt does it), for as long
as there is something to wait for, and is written to by moving the cursor there and back in one write. Whatever else is
printed meanwhile, by another thread, Snakemake's own logger, or another program, scrolls above it and is never torn:
no other code has to cooperate, and nothing is left in the scroll-back. Work that ends within a moment is not shown.

Where the stream is no terminal, what has taken a second is said once, in a line of its own.

What has a total (requests to registries, bytes of layers) shows how much of it is done; no line ever shows a share that
is not known.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, NamedTuple, Self, TextIO

from snakemake_apptainer_freshness.common.text import duration, size
from snakemake_apptainer_freshness.errors import one_line

SAY_AFTER: Final = 1.0
"""Seconds after which something is said where no line can be drawn."""
_SHOW_AFTER: Final = 0.4  # seconds; what is over sooner would only flicker
_PERIOD: Final = 0.25  # seconds between two looks
_FEWEST_ROWS: Final = 5  # a smaller terminal is not divided
_LONGEST_NAME: Final = 60
_BAR: Final = 16
_SPEED_OVER: Final = 5.0  # seconds


class Amount(NamedTuple):
    """How many bytes are there, of how many; the total is None where it is not known."""

    done: int
    total: int | None = None


Measure = Callable[[], Amount]


@dataclass(slots=True, kw_only=True)
class _Task:
    name: str
    since: float
    total: int | None = None
    done: int = 0
    measure: Measure | None = None
    seen: list[tuple[float, int]] = field(default_factory=list)
    """What was measured in the last seconds."""

    def text(self, now: float) -> str:
        """Return how far it is, as a person reads it."""
        parts = [duration(now - self.since)]
        if self.measure is not None:
            parts = [*self._bytes(self.measure(), now), *parts]
        elif self.total is not None:
            parts = [f"{_bar(self.done, self.total)} {self.done} of {self.total}", *parts]
        return f"{_shortened(self.name)}: {', '.join(parts)}"

    def _bytes(self, amount: Amount, now: float) -> list[str]:
        self.seen = [sample for sample in self.seen if sample[0] > now - _SPEED_OVER] + [(now, amount.done)]
        (then, before), passed = self.seen[0], now - self.seen[0][0]
        if amount.total is not None and amount.done >= amount.total:
            return [f"{size(amount.total)} downloaded"]
        if amount.total is not None:
            done = amount.done
            parts = [f"{_bar(done, amount.total)} {size(done)} of {size(amount.total)}"]
        else:
            parts = [size(amount.done)] if amount.done else []
        if passed > 0 and amount.done > before:
            parts.append(f"{size(round((amount.done - before) / (now - then)))}/s")
        return parts


class ProgressBars:
    """Shows on `stream` (default: standard error) within a ``with`` block what is under way; nothing unless `enabled`.

    May be told from any thread. `say` is told the line where the stream is no terminal; by default it goes to the
    stream.
    """

    _shown = threading.Lock()
    """Held by the one that has the bottom line of this process's terminal."""

    def __init__(
        self, *, enabled: bool = True, stream: TextIO | None = None, say: Callable[[str], None] | None = None
    ) -> None:
        self._stream = stream or sys.stderr
        self._enabled = enabled
        self._say = say or self._write_line
        self._tasks: dict[str, _Task] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._line = _BottomLine(self._stream) if enabled and _is_terminal(self._stream) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def begin(self, name: str, total: int | None = None, *, measure: Measure | None = None) -> None:
        """Show `name` from now on, which has `total` steps, or is `measure` in bytes, if that is known."""
        with self._lock:
            if self._enabled and name not in self._tasks:
                self._tasks[name] = _Task(name=name, since=time.monotonic(), total=total, measure=measure)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
                    self._thread.start()

    def advance(self, name: str, steps: int = 1) -> None:
        """Count so many more `steps` of `name` as done."""
        with self._lock:
            if (task := self._tasks.get(name)) is not None:
                task.done += steps

    def end(self, name: str) -> None:
        """Remove `name` from the line: it is done."""
        with self._lock:
            self._tasks.pop(name, None)

    def _run(self) -> None:
        if self._line is None or not ProgressBars._shown.acquire(blocking=False):
            self._say_once()
            return
        try:
            with self._line as line:
                while not self._ended.wait(_PERIOD):
                    line.show(self.text())
        finally:
            ProgressBars._shown.release()

    def _say_once(self) -> None:
        printed: set[str] = set()
        while not self._ended.wait(_PERIOD):
            with self._lock:
                late = [task.name for task in self._tasks.values() if time.monotonic() - task.since >= SAY_AFTER]
            for name in late:
                if name not in printed:
                    printed.add(name)
                    self._say(f"still {one_line(name)}")

    def _write_line(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def text(self) -> str:
        """Return the line as it would be shown now; empty where all that is under way has only begun."""
        now = time.monotonic()
        with self._lock:
            tasks = [task for task in self._tasks.values() if now - task.since >= _SHOW_AFTER]
        return "  ".join(task.text(now) for task in tasks)


class _BottomLine:
    """The last line of the terminal `stream`, within a ``with`` block; taken when there is something to show."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._size: os.terminal_size | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._size is not None:
            self._write(f"\x1b7\x1b[r\x1b[{self._size.lines};1H\x1b[2K\x1b8")

    def show(self, text: str) -> None:
        """Write `text` there, as much of it as there is room for."""
        if not text and self._size is None:
            return
        try:
            now = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return
        if now.lines < _FEWEST_ROWS:
            return
        # a line down and up again makes room: by IND, since a line feed would lose the column of a half printed line
        take = "" if now == self._size else f"\x1bD\x1b[A\x1b7\x1b[1;{now.lines - 1}r\x1b8"
        self._size = now
        shown = text if len(text) < now.columns else text[: max(0, now.columns - 2)] + "…"
        self._write(f"{take}\x1b7\x1b[{now.lines};1H\x1b[2K{shown}\x1b8")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()
            os.write(self._stream.fileno(), text.encode(self._stream.encoding or "utf-8", "replace"))


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _bar(done: int, total: int) -> str:
    filled = _BAR * min(done, total) // total if total else 0
    return "[" + "#" * filled + "-" * (_BAR - filled) + "]"


def _shortened(name: str) -> str:
    """Return `name` on one line, of an image's the last part."""
    name = one_line(name)
    if "://" in name:
        name = name.rpartition("/")[2]
    return name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]
