"""Whatever a claim's bytes: it is read, or refused with a reason."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.common.tables import Damaged
from snakemake_apptainer_freshness.store.claims import Claim

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50)
URLS = st.lists(TEXT, max_size=5).map(tuple)
CLAIM = st.builds(
    Claim,
    lockfile=TEXT,
    host=TEXT,
    folder=st.integers(0, 2**63),
    locked=URLS,
    unpinned=URLS,
    missing_since=st.none() | st.just("2026-01-02T03:04:05Z"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
)


def load_or_refuse(content: bytes) -> None:
    try:
        Claim.loads(content)
    except Damaged as error:
        assert str(error)  # noqa: PT017  any refusal is right, if it says why


@given(CLAIM)
def test_writing_and_reading_is_the_identity(claim):
    assert Claim.loads(claim.dumps()) == claim


@given(st.binary(max_size=500))
def test_any_bytes(content):
    load_or_refuse(content)


@given(CLAIM, st.data())
def test_a_claim_with_any_value_in_any_field(claim, data):
    table = json.loads(claim.dumps())
    table[data.draw(st.sampled_from(sorted(table)))] = data.draw(JSON)
    load_or_refuse(json.dumps(table).encode())
