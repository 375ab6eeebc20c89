"""Tests of the clock of an image folder."""

import time

from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import clock


def test_the_clock_is_the_file_systems_own(tmp_path):
    now = clock.time_in(tmp_path)
    (tmp_path / "later").touch()
    assert now <= (tmp_path / "later").stat().st_mtime_ns
    assert [path.name for path in tmp_path.iterdir()] == ["later"]


def test_where_it_cannot_be_told_the_time_is_one_that_is_past_there(tmp_path):
    before = time.time_ns()
    told = clock.time_or_past(tmp_path / "none")

    assert before - DISK.clock_doubt * 1e9 - 1e9 <= told <= time.time_ns() - DISK.clock_doubt * 1e9


def test_nothing_is_written_into_a_folder_that_is_read_only_to_us(tmp_path):
    changed = tmp_path.stat().st_mtime_ns
    told = clock.time_or_past(tmp_path, read_only=True)

    assert tmp_path.stat().st_mtime_ns == changed
    assert told <= time.time_ns() - DISK.clock_doubt * 1e9
