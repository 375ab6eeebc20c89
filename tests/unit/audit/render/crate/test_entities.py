"""Entities of a crate are made once, and take whatever a record says."""

from pathlib import Path

import pytest
from rocrate.rocrate import ROCrate

from snakemake_apptainer_freshness.audit.render.crate import entities


def test_an_entity_is_made_once_and_keeps_its_first_words():
    crate = ROCrate()

    first = entities.entity(crate, "Person", "#ada", name="Ada")

    assert entities.entity(crate, "Person", "#ada", name="Another") is first
    assert first["name"] == "Ada"


def test_a_name_that_is_no_text_becomes_one():
    made = entities.entity(ROCrate(), "Person", "#x", name="caf\udce9")

    made["name"].encode()
    entities.address(Path("/data/caf\udce9/\ud800")).encode()


@pytest.mark.parametrize(
    ("reference", "named"),
    [
        ("docker://quay.io/a/b:1", {"name": "a/b", "registry": "quay.io", "tag": "1"}),
        ("/images/a.sif", {"name": "/images/a.sif", "registry": "this machine"}),
        ("docker://<no reference>", {"name": "docker://<no reference>", "registry": "unknown"}),
    ],
)
def test_an_image_is_named_as_far_as_its_reference_can_be_read(reference, named):
    assert entities.named(reference) == named


def test_only_times_that_are_known_are_told():
    assert entities.times("2026-03-02T08:00:00Z", "") == {"startTime": "2026-03-02T08:00:00+00:00"}


def test_one_entity_stands_by_itself_and_several_as_a_list():
    crate = ROCrate()
    one, two = (entities.entity(crate, "Person", f"#{name}") for name in "ab")

    assert entities.unique([one, one]) is one
    assert entities.unique([one, two, one]) == [one, two]
