"""The story of docs/cache.md, with the real Apptainer: a cache whose entries are not what their keys say."""

from __future__ import annotations

from dataclasses import replace

from snakemake_apptainer_freshness.actions.fetch import fetch
from snakemake_apptainer_freshness.errors import PullFailed
from snakemake_apptainer_freshness.image.reference import parse
from tests.support.homes import bare_image
from tests.support.images import tiny_image
from tests.support.liar import LyingRegistry


def test_a_cache_poisoned_by_a_tag_that_moved_between_two_requests(home, repository):
    """The story of docs/cache.md: what Apptainer alone runs for a pinned digest, and what we run."""
    there = repository("tool")
    honest = there.pin(tiny_image("what the digest names"))
    evil = there.pin(tiny_image("something else"))

    # Another user runs the tag once, through a registry or a mirror where it moves at the wrong moment.
    with LyingRegistry(there.registry.host, "1.0", head=str(honest.digest), get=str(evil.digest)) as liar:
        home.apptainer("pull", "image.sif", f"docker://{liar.host}/{there.name}:1.0")

    # Apptainer alone, asked for the digest, from the honest registry:
    assert home.run(honest.url) == "something else"
    home.apptainer("pull", "alone.sif", honest.url)
    assert home.run("alone.sif") == "something else"

    # With us:
    image = home.fetched(honest)
    assert home.run(image) == "what the digest names"
    # And Apptainer's own cache is mended on the way.
    assert home.run(honest.url) == "what the digest names"


def test_a_registry_that_lies_about_a_digest(home, repository):
    there = repository("tool")
    honest, evil = there.pin(bare_image("honest")), there.pin(bare_image("evil"))
    with LyingRegistry(there.registry.host, str(honest.digest), head=str(honest.digest), get=str(evil.digest)) as liar:
        lied_to = replace(honest, pinned=parse(f"docker://{liar.host}/{there.name}@{honest.digest}"))
        (result,) = fetch([lied_to], home.prefix, environment=home.environment)
    assert result.outcome == "failed"
    assert isinstance(result.error, PullFailed)
    assert list(home.prefix.iterdir()) == []
