"""The page of an audit: how long it takes to make, how large it is, and when a browser shows something of it.

Pages of 1,000 and of 10,000 outputs are made and opened in turn, each opening in a fresh context of the real browser.
*Searched* is from a key that is pressed to the rows that are left, without the page's own wait for the next key.
"""

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_apptainer_freshness.audit.render.page.document import render
from tests.bench.timing import table
from tests.support.audits import large
from tests.support.browser import chromium, opened

SIZES = (1_000, 10_000)
ROUNDS = 7
WANTED = {"made": 3.0, "megabytes": 10.0, "first paint": 2.0}
"""For 10,000 outputs; seconds but for the size."""

PAINTED = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
SEARCHED = """() => new Promise((done) => {
  const [find, shown, began] = [document.getElementById("q"), document.getElementById("shown"), performance.now()];
  new MutationObserver(() => requestAnimationFrame(() => done(performance.now() - began - 120)))
    .observe(shown, { childList: true });
  find.value = "sample000123/part2";
  find.dispatchEvent(new Event("input", { bubbles: true }));
})"""


@dataclass(slots=True, kw_only=True)
class Measured:
    """The figures of one page: seconds, and megabytes."""

    megabytes: float = 0.0
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, what: str, seconds: float) -> None:
        """One more figure."""
        self.seconds.setdefault(what, []).append(seconds)

    def median(self, what: str) -> float:
        """The median of what was measured."""
        return statistics.median(self.seconds[what])


def measure(folder: Path) -> Mapping[int, Measured]:
    """Make and open each page in turn."""
    audits = {size: large(size) for size in SIZES}
    found = {size: Measured() for size in SIZES}
    with chromium() as browser:
        for number in range(ROUNDS):
            for size in SIZES if number % 2 else reversed(SIZES):
                began, began_working = time.perf_counter(), time.process_time()
                page = render(audits[size]).encode()
                found[size].add("made", time.perf_counter() - began)
                found[size].add("made, of which CPU", time.process_time() - began_working)
                found[size].megabytes = len(page) / 1e6
                file = folder / f"{size}.html"
                file.write_bytes(page)
                _open(browser, file, found[size])
    return found


def _open(browser: Any, file: Path, found: Measured) -> None:
    with opened(browser, file) as watched:
        watched.page.wait_for_function(PAINTED)
        found.add("first paint", watched.page.evaluate(PAINTED) / 1000)
        found.add("searched", watched.page.evaluate(SEARCHED) / 1000)
        if watched.problems or watched.requests:
            raise SystemExit(f"the page did what it should not: {watched.problems} {watched.requests}")


def _row(what: str, figures: Sequence[str], wanted: str = "") -> Sequence[str]:
    return (what, *figures, wanted)


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="freshness-bench-") as folder:
        found = measure(Path(folder))
    rows = [_row("page", [f"{size:,} outputs" for size in SIZES], "wanted")]
    for what in ("made", "made, of which CPU", "first paint", "searched"):
        wanted = f"{WANTED[what]:.0f} s" if what in WANTED else ""
        rows.append(_row(what, [f"{found[size].median(what):.2f} s" for size in SIZES], wanted))
    rows.append(_row("size", [f"{found[size].megabytes:.1f} MB" for size in SIZES], f"{WANTED['megabytes']:.0f} MB"))
    table(f"The page of an audit: {ROUNDS} rounds in turn, medians", rows)


if __name__ == "__main__":
    main()
