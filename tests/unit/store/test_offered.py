"""For which platforms images are there, as it was hashed."""

import json

import pytest

from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.store import facts, offered, state
from tests.support.pins import DIGEST, OTHER

AMD, ARM = map(Platform.parse, ("linux/amd64", "linux/arm/v7"))


def test_all_platforms_are_kept_with_their_variants():
    offered.keep(DIGEST, [ARM, AMD])
    assert offered.platforms_of(DIGEST) == {AMD, ARM}
    assert offered.platforms_of(OTHER) is None


def test_that_there_are_none_is_known_too():
    offered.keep(DIGEST, [])
    assert offered.platforms_of(DIGEST) == frozenset()


def test_one_platform_that_was_asked_for_is_not_all_there_are():
    facts.keep_index(DIGEST, {AMD: OTHER})
    assert offered.platforms_of(DIGEST) is None


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
def test_what_is_no_fact_is_none(content):
    offered.keep(DIGEST, [AMD])
    [path] = (state.folder() / "offered").rglob("*.json")
    path.write_text(content)
    path.chmod(0o600)
    assert offered.platforms_of(DIGEST) is None


def test_a_fact_that_others_may_write_is_none():
    offered.keep(DIGEST, [AMD])
    [path] = (state.folder() / "offered").rglob("*.json")
    path.chmod(0o622)
    assert offered.platforms_of(DIGEST) is None
