"""What was measured at several sizes, the line through it, and how such figures stand in a page."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BEGIN, END = "<!-- generated: {} -->", "<!-- end: {} -->"


Points = list[tuple[int, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure: `points` of (size, value); `what` it is, `per` what, in which `unit`; and the `target` size."""

    topic: str
    what: str
    per: str
    unit: str
    target: int
    points: Sequence[tuple[int, float]]

    @property
    def slope(self) -> float:
        """What one more costs."""
        sizes, values = zip(*self.points, strict=True)
        return max(0.0, statistics.linear_regression(sizes, values).slope)  # noise may tilt a flat line

    @property
    def at_target(self) -> float:
        """What the target costs: as it was measured, or along the line from the largest size that was."""
        size, value = self.points[-1]
        return value if size == self.target else value + self.slope * (self.target - size)

    @property
    def is_measured(self) -> bool:
        """Whether the target itself was measured."""
        return self.points[-1][0] == self.target


def shown(value: float, unit: str) -> str:
    """Return a figure for a person."""
    if unit == "requests":
        return f"{value:,.0f}"
    steps = (
        (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)) if unit == "s" else (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))
    )
    if unit == "s" and value >= 120:
        return f"{value / 60:.0f} min"
    name, step = next(((name, step) for name, step in steps if value >= step), steps[-1])
    return f"{value / step:.3g} {name}"


def table(figures: Sequence[Figure], topic: str) -> str:
    """Return the table of one `topic` as Markdown."""
    rows = [("what", "measured at", "gave", "one more", "at the size asked about")]
    for one in figures:
        if one.topic == topic:
            slope = f"{one.slope:.2g} requests" if one.unit == "requests" else shown(one.slope, one.unit)
            target = shown(one.at_target, one.unit)
            rows.append(
                (
                    one.what,
                    ", ".join(f"{size:,}" for size, _ in one.points) + f" {one.per}s",
                    ", ".join(shown(value, one.unit) for _, value in one.points),
                    slope,
                    f"{target} for {one.target:,} {one.per}s{'' if one.is_measured else ', along the line'}",
                )
            )
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def filled(text: str, measured: str, figures: Sequence[Figure]) -> str:
    """Return the page `text` with its generated parts as the written figures have them."""
    parts: Mapping[str, str] = {"measured": measured} | {
        topic: table(figures, topic) for topic in dict.fromkeys(one.topic for one in figures)
    }
    for name, content in parts.items():
        before, begin, rest = text.partition(BEGIN.format(name))
        _, end, after = rest.partition(END.format(name))
        if not (begin and end):
            raise ValueError(f"the page has no place for {name}")
        text = f"{before}{begin}\n{content}\n{end}{after}"
    return text
