"""Times: what is written is what is read."""

import pytest

from snakemake_apptainer_freshness.common.times import RUN, TIME, age, ago, now


def test_the_time_that_is_written_is_read_as_one():
    assert TIME.fullmatch(now())


@pytest.mark.parametrize(
    "text",
    ["2026-11-25", "2026-11-25T10:00:00", "2026-11-25 10:00:00Z", "\N{DEVANAGARI DIGIT TWO}026-11-25T10:00:00Z", ""],
)
def test_what_is_no_utc_time_is_not_read(text):
    assert TIME.fullmatch(text) is None


@pytest.mark.parametrize("name", ["../20261125T100000.000000Z", "20261125T100000.000000Z/x", "20261125T100000Z"])
def test_the_name_of_a_run_is_no_path(name):
    assert RUN.fullmatch(name) is None


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-3, "0 s ago"),
        (0.4, "0 s ago"),
        (59.9, "59 s ago"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (5400, "1.5 h ago"),
    ],
)
def test_a_time_that_is_back_is_told_in_the_unit_that_fits(seconds, told):
    assert ago(seconds) == told


def test_the_age_of_a_moment_is_less_than_nothing_where_it_is_to_come():
    assert 0 <= age(now()) < 5
    assert age("2999-01-01T00:00:00Z") < 0


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00+00:00", "2026-01-01"])
def test_what_is_no_moment_has_no_age(text):
    with pytest.raises(ValueError, match=r"."):
        age(text)
