"""When images were made, as their configurations proved it."""

import json

import pytest

from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.store import made, state
from tests.support.pins import DIGEST, OTHER

AMD, ARM = map(Platform.parse, ("linux/amd64", "linux/arm64"))


def test_a_day_is_kept_for_each_platform():
    made.keep(DIGEST, AMD, "2026-01-02")
    made.keep(DIGEST, ARM, "")
    assert (made.day_of(DIGEST, AMD), made.day_of(DIGEST, ARM), made.day_of(OTHER, AMD)) == ("2026-01-02", "", None)


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
def test_what_is_no_fact_is_none(content):
    made.keep(DIGEST, AMD, "2026-01-02")
    [path] = (state.folder() / "made").rglob("*.json")
    path.write_text(content)
    path.chmod(0o600)
    assert made.day_of(DIGEST, AMD) is None


def test_a_fact_that_others_may_write_is_none():
    made.keep(DIGEST, AMD, "2026-01-02")
    [path] = (state.folder() / "made").rglob("*.json")
    path.chmod(0o622)
    assert made.day_of(DIGEST, AMD) is None
