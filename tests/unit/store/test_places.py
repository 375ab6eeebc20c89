"""What the file at a path hashed to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.common.files import StatKey
from snakemake_apptainer_freshness.store import facts, places
from snakemake_apptainer_freshness.store.places import PlaceFact
from tests.support.pins import OTHER, fact_of, pin, put

KEY = StatKey(host="here", device=1, inode=2, size=3, mtime_ns=10_000_000_000, ctime_ns=20_000_000_000)
FACT = fact_of(b"image", pin())


@pytest.fixture
def image(tmp_path):
    return put(tmp_path / "images", pin())


def test_what_is_kept_is_loaded_by_whatever_path(image, tmp_path):
    place = PlaceFact.of(FACT, stat=KEY, writable_by_all=True)
    places.keep(image, place)
    assert places.load(image) == place
    (tmp_path / "link").symlink_to("images")
    assert places.load(tmp_path / "link" / image.name) == place


def test_nothing_is_written_beside_the_image(image):
    places.keep(image, PlaceFact.of(FACT))
    assert list(image.parent.iterdir()) == [image]


def test_of_a_copy_of_the_folder_nothing_is_known(image, tmp_path):
    places.keep(image, PlaceFact.of(FACT))
    image.parent.rename(tmp_path / "copied")
    assert places.load(tmp_path / "copied" / image.name) is None


def test_it_leads_to_the_fact_of_content(image):
    places.keep(image, PlaceFact.of(FACT))
    assert places.load(image).content is None
    facts.keep(FACT)
    assert places.load(image).content == FACT


def test_what_is_forgotten_is_not_known(image):
    places.keep(image, PlaceFact.of(FACT))
    places.forget(image)
    places.forget(image)
    assert places.load(image) is None


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"version": 1}', b"[" * 60_000])
def test_a_damaged_fact_says_nothing(image, content):
    places.keep(image, PlaceFact.of(replace(FACT, digest=OTHER)))
    places.path_of(image).write_bytes(content)
    assert places.load(image) is None
