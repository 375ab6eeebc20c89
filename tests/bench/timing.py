"""Whole processes, timed in turn (A B A B ...), so that a machine whose speed drifts treats both alike."""

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One finished process: seconds of wall time and of CPU time, and its peak memory in MiB."""

    wall: float
    cpu: float
    memory: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command to time."""

    arguments: Sequence[str]
    folder: Path
    environment: Mapping[str, str]

    def run(self) -> Run:
        """Run it once; it has to succeed."""
        begun = time.perf_counter()
        process = subprocess.Popen(
            [*map(str, self.arguments)],
            cwd=self.folder,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(map(str, self.arguments))} failed in {self.folder}")
        return Run(wall=wall, cpu=usage.ru_utime + usage.ru_stime, memory=usage.ru_maxrss / 1024)


def in_turn(
    first: Callable[[], Run], second: Callable[[], Run], *, rounds: int, warm_up: int = 1
) -> tuple[list[Run], list[Run]]:
    """The runs of both, taken in turn; the order of a pair changes from round to round."""
    for _ in range(warm_up):
        first()
        second()
    ones: list[Run] = []
    others: list[Run] = []
    for number in range(rounds):
        pair = [(first, ones), (second, others)]
        for run, kept in pair if number % 2 == 0 else reversed(pair):
            kept.append(run())
    return ones, others


def median(runs: Sequence[Run], field: str) -> float:
    """The median of one field."""
    return statistics.median(getattr(run, field) for run in runs)


def ratio(first: Sequence[Run], second: Sequence[Run], field: str) -> float:
    """The median of the ratios of the pairs, first over second."""
    return statistics.median(
        getattr(one, field) / getattr(other, field) for one, other in zip(first, second, strict=True)
    )


def table(title: str, rows: Sequence[Sequence[str]]) -> None:
    """Print `rows`, the first of which names the columns, as a Markdown table."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print(f"\n{title}\n")
    for number, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
