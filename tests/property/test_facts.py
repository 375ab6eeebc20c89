"""Whatever the bytes of a fact: it is read, or says nothing."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.common.files import StatKey
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.store.facts import ContentFact, ProvenBy
from snakemake_apptainer_freshness.store.places import PlaceFact
from snakemake_apptainer_freshness.store.records import DamagedRecord, Record

TEXT = st.text(st.characters(codec="utf-8"), max_size=50)
NUMBER = st.integers(-(2**63), 2**63 - 1)
HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
DIGEST = st.builds(Digest, algorithm=st.just("sha256"), hex=HEX)
PLATFORM = st.sampled_from(["linux/amd64", "linux/arm64/v8"]).map(Platform.parse)
KEY = st.builds(StatKey, host=TEXT, device=NUMBER, inode=NUMBER, size=NUMBER, mtime_ns=NUMBER, ctime_ns=NUMBER)
CONTENT = st.builds(
    ContentFact,
    sha256=HEX,
    size=st.integers(0, 2**63 - 1),
    digest=DIGEST,
    platform=PLATFORM,
    manifest=st.none() | DIGEST,
    pinned=TEXT,
    reference=TEXT,
    proven_by=st.sampled_from(ProvenBy),
    proven_at=TEXT,
    apptainer=TEXT,
    refuted=TEXT,
)
PLACE = st.builds(
    PlaceFact,
    sha256=HEX,
    digest=DIGEST,
    platform=PLATFORM,
    stat=st.none() | KEY,
    writable_by_all=st.booleans(),
)
FACT = CONTENT | PLACE
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
)


def load_or_refuse(kind, content: bytes) -> None:
    try:
        kind.loads(content)
    except ValueError as error:
        assert str(error)  # noqa: PT017  any refusal is right, if it says why


@given(FACT)
def test_writing_and_reading_is_the_identity(fact):
    assert type(fact).loads(fact.dumps()) == fact


@given(st.binary(max_size=500), st.sampled_from([ContentFact, PlaceFact]))
def test_any_bytes(content, kind):
    load_or_refuse(kind, content)


@given(FACT, st.data())
def test_a_fact_with_any_value_in_any_field(fact, data):
    table = json.loads(fact.dumps())
    table[data.draw(st.sampled_from(sorted(table)))] = data.draw(JSON)
    load_or_refuse(type(fact), json.dumps(table).encode())


@given(FACT, st.data())
def test_a_fact_cut_anywhere(fact, data):
    content = fact.dumps()
    load_or_refuse(type(fact), content[: data.draw(st.integers(0, len(content)))])


@given(st.binary(max_size=500))
def test_any_bytes_of_a_hint(content):
    try:
        Record.loads(content)
    except DamagedRecord as error:
        assert str(error)  # noqa: PT017  any refusal is right, if it says why
