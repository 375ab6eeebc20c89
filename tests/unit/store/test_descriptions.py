"""When images were made, and for which platforms there are any, as it was hashed."""

import json

import pytest

from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.store import descriptions, facts, state
from tests.support.pins import DIGEST, OTHER

AMD, ARM = map(Platform.parse, ("linux/amd64", "linux/arm/v7"))


def test_a_day_is_kept_for_each_platform():
    descriptions.keep_day(DIGEST, AMD, "2026-01-02")
    descriptions.keep_day(DIGEST, ARM, "")
    assert (descriptions.day_of(DIGEST, AMD), descriptions.day_of(DIGEST, ARM), descriptions.day_of(OTHER, AMD)) == (
        "2026-01-02",
        "",
        None,
    )


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[" * 100_000,
        json.dumps({"version": 2, "days": {"linux/amd64": "2026-01-02"}}),
        json.dumps({"version": 1, "days": ["linux/amd64"]}),
        json.dumps({"version": 1, "days": {"linux/amd64": "tomorrow"}}),
        json.dumps({"version": 1, "days": {"linux/amd64": 1}}),
        json.dumps({"version": 1, "days": {"linux/amd64": "2026-01-02"}, "more": 1}),
        '{"version": 1, "days": {"linux/amd64": "2026-01-02", "linux/amd64": "2026-01-02"}}',
    ],
)
def test_what_is_no_fact_of_a_day_is_none(content):
    descriptions.keep_day(DIGEST, AMD, "2026-01-02")
    [path] = (state.folder() / "made").rglob("*.json")
    path.write_text(content)
    path.chmod(0o600)
    assert descriptions.day_of(DIGEST, AMD) is None


def test_a_fact_of_a_day_that_others_may_write_is_none():
    descriptions.keep_day(DIGEST, AMD, "2026-01-02")
    [path] = (state.folder() / "made").rglob("*.json")
    path.chmod(0o622)
    assert descriptions.day_of(DIGEST, AMD) is None


def test_all_platforms_are_kept_with_their_variants():
    descriptions.keep_platforms(DIGEST, [ARM, AMD])
    assert descriptions.platforms_of(DIGEST) == {AMD, ARM}
    assert descriptions.platforms_of(OTHER) is None


def test_that_there_are_none_is_known_too():
    descriptions.keep_platforms(DIGEST, [])
    assert descriptions.platforms_of(DIGEST) == frozenset()


def test_one_platform_that_was_asked_for_is_not_all_there_are():
    facts.keep_index(DIGEST, {AMD: OTHER})
    assert descriptions.platforms_of(DIGEST) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[" * 100_000,
        json.dumps({"version": 2, "platforms": ["linux/amd64"]}),
        json.dumps({"version": 1, "platforms": {"linux/amd64": "x"}}),
        json.dumps({"version": 1, "platforms": ["amd64"]}),
        json.dumps({"version": 1, "platforms": [1]}),
        json.dumps({"version": 1, "platforms": ["linux/amd64"], "more": 1}),
    ],
)
def test_what_is_no_fact_of_platforms_is_none(content):
    descriptions.keep_platforms(DIGEST, [AMD])
    [path] = (state.folder() / "offered").rglob("*.json")
    path.write_text(content)
    path.chmod(0o600)
    assert descriptions.platforms_of(DIGEST) is None


def test_a_fact_of_platforms_that_others_may_write_is_none():
    descriptions.keep_platforms(DIGEST, [AMD])
    [path] = (state.folder() / "offered").rglob("*.json")
    path.chmod(0o622)
    assert descriptions.platforms_of(DIGEST) is None
