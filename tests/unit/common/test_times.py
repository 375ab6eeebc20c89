"""Times: what is written is what is read."""

import pytest

from snakemake_apptainer_freshness.common.times import RUN, TIME, now


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
