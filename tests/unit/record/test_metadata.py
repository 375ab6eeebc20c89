"""Snakemake's metadata as values: unknown ones are marked, and what was read cannot be changed."""

from dataclasses import FrozenInstanceError

import pytest

from snakemake_apptainer_freshness.engine.persistence import read
from snakemake_apptainer_freshness.record.metadata import NOTHING, MadeBy, Metadata
from tests.support import records


def test_nothing_of_snakemakes_is_told_from_a_folder_in_which_nothing_was_made(tmp_path):
    assert read(tmp_path) == NOTHING
    assert (NOTHING.found, Metadata().found) == (False, True)
    assert (dict(NOTHING.outputs), NOTHING.incomplete, NOTHING.unreadable) == ({}, frozenset(), ())


def test_what_is_not_known_of_an_output_is_empty():
    assert MadeBy(rule="count") == MadeBy(rule="count", container="", software="", started=0.0, ended=0.0, inputs=())


def test_what_was_read_is_a_value_that_stays_as_it_is(tmp_path):
    records.metadata(tmp_path, "a", input=["x", "y"], container_img_url="docker://q.io/tool:1")
    first, again = read(tmp_path), read(tmp_path)
    assert first == again
    assert first.outputs["a"] == MadeBy(
        rule="count",
        container="docker://q.io/tool:1",
        software="d41d8cd9",
        started=1_772_438_405.0,
        ended=1_772_438_681.0,
        inputs=("x", "y"),
    )
    with pytest.raises(FrozenInstanceError):
        first.outputs["a"].rule = "other"
