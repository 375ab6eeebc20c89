"""The page about scale has the figures that its benchmark wrote down, and no others."""

import re

import pytest

from tests.bench import figures, scale
from tests.bench.figures import Figure


def test_the_page_has_the_figures_that_the_benchmark_wrote_down():
    text = scale.PAGE.read_text(encoding="utf-8")
    assert figures.filled(text, *scale.load()) == text, "run: python -m tests.bench.scale --page"


def test_no_figure_stands_outside_of_what_is_generated():
    text = scale.PAGE.read_text(encoding="utf-8")
    own = re.sub(r"<!-- generated: (\w+) -->.*?<!-- end: \1 -->", "", text, flags=re.DOTALL)
    assert re.findall(r"\d+(?:\.\d+)? (?:kB|MB|GB|ms|µs|requests)", own) == []


def figure(*points, target=1000, unit="bytes"):
    return Figure(topic="t", what="w", per="image", unit=unit, target=target, points=points)


def test_what_was_not_measured_lies_on_the_line_and_says_so():
    line = figure((10, 120.0), (20, 220.0), (30, 320.0))
    assert line.slope == pytest.approx(10)
    assert line.at_target == pytest.approx(10_020)
    assert "10 kB for 1,000 images, along the line" in figures.table([line], "t")


def test_what_was_measured_is_shown_as_it_was():
    line = figure((10, 120.0), (1000, 5.0))
    assert line.at_target == 5.0
    assert figures.table([line], "t").endswith("| 5 B for 1,000 images |")


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.0, "s", "0 µs"),
        (0.0123, "s", "12.3 ms"),
        (600, "s", "10 min"),
        (1234567, "bytes", "1.23 MB"),
        (20000, "requests", "20,000"),
    ],
)
def test_a_figure_is_shown_for_a_person(value, unit, shown):
    assert figures.shown(value, unit) == shown


def test_a_page_without_a_place_for_a_figure_is_refused():
    with pytest.raises(ValueError, match="no place"):
        figures.filled("nothing", "m", [])
