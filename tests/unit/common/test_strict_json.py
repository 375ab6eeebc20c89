"""JSON of strangers: one meaning, or none."""

import json

import pytest

from snakemake_apptainer_freshness.common import strict_json
from snakemake_apptainer_freshness.errors import DamagedAnswer


class TwiceError(Exception):
    pass


def refuse():
    raise TwiceError


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "c": 2, "a": 3}}]'])
def test_a_key_that_an_object_has_twice_is_refused_at_any_depth(text):
    with pytest.raises(TwiceError):
        json.loads(text, object_pairs_hook=strict_json.refusing_equal_keys(refuse))
    with pytest.raises(DamagedAnswer, match="the same key twice"):
        strict_json.load(text.encode())


def test_keys_that_differ_are_kept():
    assert json.loads('{"a": 1, "A": {"a": 2}}', object_pairs_hook=strict_json.refusing_equal_keys(refuse)) == {
        "a": 1,
        "A": {"a": 2},
    }
