"""Which tags are newer, by their own scheme."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.image.tag_versions import newer, parse


@pytest.mark.parametrize(
    ("tag", "tags", "found"),
    [
        ("1.9", ["1.8", "1.9", "1.10", "1.2"], ["1.10"]),
        ("v1.9", ["1.10", "v1.10", "V2.0"], ["v1.10"]),
        ("3.11-slim", ["3.12", "3.12-slim", "3.13-slim", "3.13-alpine"], ["3.13-slim", "3.12-slim"]),
        ("24.04", ["24.10", "24", "24.04.1", "25.04"], ["25.04", "24.10"]),
        ("1.10.2--hecf_0", ["1.10.3--h45f_4", "1.10.3--h45f_11", "1.10.2--h7e5_9"], ["1.10.3--h45f_11"]),
        ("1.9--0", ["1.10.1--pyhdfd78af_0", "1.10--1"], ["1.10.1--pyhdfd78af_0", "1.10--1"]),
        ("1.9--0", ["1.10", "1.10-slim"], []),
        ("20240101", ["20230101", "20250101"], ["20250101"]),
        ("1.0", ["1.1rc1", "2.0.0-rc.1", "1.1a", "2.0-beta", "latest"], []),
        ("latest", ["1.0", "2.0"], []),
        ("main", [], []),
        ("1.09", ["1.10", "1.9"], ["1.10"]),
    ],
)  # fmt: skip
def test_tags_of_the_same_scheme_with_a_newer_version_the_newest_first(tag, tags, found):
    assert newer(tag, tags) == found


@pytest.mark.parametrize("tag", ["latest", "stable", "1.0rc1", "r1.0", "", "9" * 128, "1.2.3.4.5.6.7.8.9", "\uff11.0"])
def test_what_is_no_version_is_none(tag):
    assert parse(tag) is None


TAGS = st.from_regex(r"\A[vV]?[0-9]{1,3}(\.[0-9]{1,3}){0,3}(--h[a-z0-9]{3}_[0-9]|-slim)?\Z")


@given(TAGS, st.lists(TAGS))
def test_what_is_newer_is_newer_than_what_is_named_and_in_order(tag, tags):
    found = newer(tag, tags)

    assert set(found) <= set(tags)
    numbers = [parse(one).numbers for one in found]
    assert numbers == sorted(set(numbers), reverse=True)
    assert all(one > parse(tag).numbers for one in numbers)
    assert all(tag not in newer(one, [tag]) or one not in found for one in found)


@given(st.text())
def test_any_text_is_read_without_an_error(text):
    newer(text, [text, "1.0", text + "1"])
