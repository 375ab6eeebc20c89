"""Whatever a record's bytes: it is read, or says nothing."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.common.files import StatKey
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.store.records import DamagedRecord, Record

TEXT = st.text(st.characters(codec="utf-8"), max_size=50)
NUMBER = st.integers(-(2**63), 2**63 - 1)
HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
DIGEST = st.builds(Digest, algorithm=st.just("sha256"), hex=HEX)
KEY = st.builds(StatKey, host=TEXT, device=NUMBER, inode=NUMBER, size=NUMBER, mtime_ns=NUMBER, ctime_ns=NUMBER)
RECORD = st.builds(
    Record,
    image=TEXT,
    reference=TEXT,
    pinned=TEXT,
    digest=DIGEST,
    platform=TEXT,
    manifest=st.none() | DIGEST,
    sha256=HEX,
    size=NUMBER,
    writable_by_all=st.booleans(),
    stat=st.none() | KEY,
    refuted=TEXT,
    apptainer=TEXT,
    obtained_at=TEXT,
    obtained_by=TEXT,
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
)


def load_or_refuse(content: bytes) -> None:
    try:
        Record.loads(content)
    except DamagedRecord as error:
        assert str(error)  # noqa: PT017  any refusal is right, if it says why


@given(RECORD)
def test_writing_and_reading_is_the_identity(record):
    assert Record.loads(record.dumps()) == record


@given(st.binary(max_size=500))
def test_any_bytes(content):
    load_or_refuse(content)


@given(RECORD, st.data())
def test_a_record_with_any_value_in_any_field(record, data):
    table = json.loads(record.dumps())
    table[data.draw(st.sampled_from(sorted(table)))] = data.draw(JSON)
    load_or_refuse(json.dumps(table).encode())


@given(RECORD, st.data())
def test_a_record_cut_anywhere(record, data):
    content = record.dumps()
    load_or_refuse(content[: data.draw(st.integers(0, len(content)))])
