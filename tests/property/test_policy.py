"""Whatever is written as a policy is a policy or our own error."""

import contextlib
from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness import policy
from snakemake_apptainer_freshness.errors import InvalidPolicy

TODAY = date(2026, 1, 1)
KEYS = st.sampled_from([*(rule.value for rule in policy.Rule), "level", "other"])
INNER = st.sampled_from(["allow", "refuse", "require", "required", "at_most", "level", "x"])
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.text(max_size=20), max_size=3)
TABLES = st.dictionaries(KEYS, LEAVES | st.dictionaries(INNER, LEAVES, max_size=3), max_size=4)


@given(LEAVES | TABLES)
def test_any_table_is_a_policy_or_our_own_error(value):
    try:
        found = policy.parse_policy(value, source="test")
    except InvalidPolicy:
        return
    for reference in ("docker://busybox", "https://example.org/x.sif", "images/x.sif"):
        broken = [*policy.check_name(found, reference), *policy.check_pin(found, reference, None, today=TODAY)]
        assert all(one.reference == reference and one.text for one in broken)


@given(st.text(max_size=200))
def test_any_text_is_a_sites_policy_or_our_own_error(text):
    with contextlib.suppress(InvalidPolicy):
        policy.load_site_policy(text)
