"""What a registry says of its limits: any text at all."""

from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.registry.retry import Allowance, limit_in_words, read

FIELDS = st.text() | st.from_regex(r"[0-9]{1,12}(;w=[0-9]{1,12})?", fullmatch=True)
HEADERS = st.dictionaries(st.sampled_from([f"ratelimit-{name}" for name in ("limit", "remaining", "reset")]), FIELDS)


@given(HEADERS)
def test_any_headers_are_an_allowance_or_nothing(headers):
    told = read(headers)
    assert told is None or (told.left >= 0 and told.reset >= 0)
    assert limit_in_words(headers).isascii()


@given(st.lists(HEADERS))
def test_a_request_starts_now_or_after_a_time_that_is_told(answers):
    allowance = Allowance()
    for headers in answers:
        allowance.hear(headers)
        if (wait := allowance.take(0.1)) == 0:
            allowance.give_back()
        assert wait >= 0
