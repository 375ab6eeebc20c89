"""What is known of contents, wherever they lie."""

from __future__ import annotations

from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.store import facts, state
from tests.support.pins import DIGEST, MANIFEST, OTHER, fact_of, lock_entry, pin

AMD64, ARM64 = Platform.parse("linux/amd64"), Platform.parse("linux/arm64")
FACT = fact_of(b"image", pin())


def test_what_is_kept_is_found_by_its_digest():
    facts.keep(FACT)
    assert facts.about(pin()) == (FACT,)
    assert facts.find(DIGEST, AMD64, FACT.sha256) == FACT
    assert facts.about(pin(OTHER)) == ()
    assert facts.about(pin(platform="linux/arm64")) == ()


def test_a_hashed_manifest_leads_to_the_same_fact():
    fact = replace(FACT, manifest=MANIFEST)
    facts.keep(fact)
    assert facts.about(pin(MANIFEST)) == (fact,)


def test_a_fact_of_a_manifest_proves_an_index_that_was_hashed_and_no_other():
    facts.keep(replace(FACT, digest=MANIFEST))
    assert facts.about(pin()) == ()
    facts.keep_index(DIGEST, {AMD64: MANIFEST})
    assert [fact.sha256 for fact in facts.about(pin())] == [FACT.sha256]
    assert facts.about(pin(platform="linux/arm64")) == ()


def test_what_refutes_takes_the_place_of_what_proved():
    facts.keep(FACT)
    facts.keep(replace(FACT, refuted="it holds other files"))
    assert [fact.refuted for fact in facts.about(pin())] == ["it holds other files"]


def test_a_fact_that_lies_under_another_digest_says_nothing():
    facts.keep(FACT)
    (there,) = (state.folder() / "contents").rglob("*.json")
    planted = state.folder().joinpath(*facts._folder_of(OTHER), there.name)
    planted.parent.mkdir(parents=True)
    there.rename(planted)
    assert facts.about(pin(OTHER)) == ()
    assert facts.find(OTHER, AMD64, FACT.sha256) is None


def test_a_fact_under_another_hash_says_nothing():
    facts.keep(FACT)
    (there,) = (state.folder() / "contents").rglob("*.json")
    there.rename(there.with_name(there.name.replace(FACT.sha256, "0" * 64)))
    assert facts.find(DIGEST, AMD64, "0" * 64) is None


@pytest.mark.parametrize("content", [b"", b"[]", b'{"version": 2}', b"{" * 9000])
def test_a_damaged_fact_says_nothing(content):
    facts.keep(FACT)
    (there,) = (state.folder() / "contents").rglob("*.json")
    there.write_bytes(content)
    assert facts.about(pin()) == ()


def test_the_platforms_of_an_index_are_kept():
    assert facts.manifest_of(DIGEST, AMD64) is None
    facts.learn([lock_entry("docker://quay.io/team/tool:1.0", DIGEST, {"linux/amd64": MANIFEST})])
    assert facts.manifest_of(DIGEST, AMD64) == MANIFEST
    assert facts.manifest_of(DIGEST, ARM64) is None


def test_a_fact_names_the_pin_that_it_is_about():
    assert FACT.pin() == replace(pin(), manifest=None)
    assert FACT.is_about(pin())
    assert not FACT.is_about(pin(OTHER))
