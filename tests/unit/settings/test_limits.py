"""The limits agree with each other, and waiting longer for a host never shortens what else is waited for."""

from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.settings import DISK, LIMITS, TREE

SECONDS = st.floats(min_value=0.001, max_value=100_000)


def test_without_a_time_to_wait_the_limits_stay():
    assert LIMITS.waiting(None) is LIMITS


@given(SECONDS)
def test_a_host_gets_so_long_to_answer_and_no_other_time_becomes_shorter(seconds):
    waiting = LIMITS.waiting(seconds)

    assert (waiting.connect_timeout, waiting.read_timeout) == (seconds, seconds)
    assert waiting.stall_timeout == max(seconds, LIMITS.stall_timeout)
    assert waiting.answer_timeout == max(seconds, LIMITS.answer_timeout)


@given(SECONDS)
def test_nothing_but_times_changes(seconds):
    changed = {name for name, value in LIMITS.waiting(seconds)._asdict().items() if value != LIMITS._asdict()[name]}

    assert changed <= {"connect_timeout", "read_timeout", "stall_timeout", "answer_timeout"}


def test_every_limit_is_something():
    for table in (LIMITS, DISK, TREE):
        assert all(value > 0 for value in table._asdict().values() if isinstance(value, int | float))
