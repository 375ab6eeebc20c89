"""Whatever a table holds: each value is what was asked for, or it is refused, and nothing else is ever raised."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.common.tables import Damaged, Table, read_json, read_toml
from snakemake_apptainer_freshness.image.digest import Digest

KEY = st.text(max_size=8)
VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.from_regex("sha256:[0-9a-f]{62,65}"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEY, inner, max_size=4),
)
METHODS = {
    "text": str,
    "words": str,
    "number": int,
    "integer": int,
    "seconds": float,
    "yes_or_no": bool,
    "time": str,
    "hex": str,
    "digest": str,
    "texts": list,
    "mapping": dict,
}


@pytest.mark.parametrize("method", METHODS)
@given(value=VALUE)
def test_a_value_is_of_its_type_or_refused(method, value):
    table = Table({"key": value}, frozenset({"key"}))
    try:
        found = getattr(table, method)("key")
    except Damaged as error:
        assert str(error).startswith("key")  # noqa: PT017  any refusal is right, if it names the place
    else:
        assert type(found) is METHODS[method]
        assert found == value or value != value  # noqa: PLR0124  not a number is a number of seconds


@given(VALUE)
def test_a_digest_is_one_or_refused(value):
    try:
        found = Table({"key": value}, frozenset({"key"})).parsed("key", Digest.parse)
    except Damaged:
        return
    assert str(found) == value


@given(VALUE, st.sets(KEY, max_size=4), st.sets(KEY, max_size=4))
def test_a_table_has_all_its_keys_and_no_other_or_is_refused(value, required, optional):
    keys = frozenset(required | optional)
    try:
        table = Table(value, keys, optional=optional)
    except Damaged:
        return
    assert (required - optional) <= table.values.keys() <= keys


@given(VALUE)
def test_json_is_read_as_it_was_written(value):
    text = json.dumps(value)
    if "NaN" in text or "Infinity" in text:
        return
    assert read_json(text.encode()) == json.loads(text)


@given(st.binary(max_size=300))
def test_any_bytes_are_json_or_damaged(content):
    with contextlib.suppress(Damaged):
        read_json(content)


@given(st.text(max_size=300))
def test_any_text_is_toml_or_damaged(text):
    with contextlib.suppress(Damaged):
        read_toml(text)
