"""The index of what is known of a folder's images: never wrong, only incomplete."""

from __future__ import annotations

import builtins
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions import check as checking
from snakemake_apptainer_freshness.actions.check import check
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import clock, facts, index
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support.pins import DIGEST, flip_seven_bytes, pin, put, record, settle

PINS = [pin(replace(DIGEST, hex=f"{number:064x}")) for number in range(5)]


@pytest.fixture
def prefix(tmp_path, monkeypatch):
    """Recorded and settled images, and an index of them."""
    monkeypatch.setattr(checking, "DISK", DISK._replace(index_from=3))
    real = clock.time_in
    monkeypatch.setattr(clock, "time_in", lambda folder: real(folder) + 60_000_000_000)
    for each in PINS:
        image = put(tmp_path, each)
        record(image, each)
        settle(image)
    check(PINS, tmp_path)
    assert index.path_of(tmp_path).exists()
    return tmp_path


def vouched(prefix, pins=PINS) -> list[str]:
    return [each.url for each, _ in index.vouched(prefix, pins)]


def test_a_check_with_an_index_opens_nothing_else(prefix, monkeypatch):
    opened: list[str] = []
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda path, *args, **more: (opened.append(Path(path).name), real(path, *args, **more))[1]
    )
    monkeypatch.setattr(builtins, "open", _only_descriptors)
    facts = check(PINS, prefix)
    assert {fact.state for fact in facts.values()} == {"verified"}
    assert opened == [index.path_of(prefix).name]


_open = open


def _only_descriptors(file, *args, **more):
    assert isinstance(file, int), f"{file} was opened"
    return _open(file, *args, **more)


def test_it_says_what_the_facts_say(prefix):
    by_index = check(PINS, prefix)
    index.path_of(prefix).unlink()
    assert check(PINS, prefix, remember=False) == by_index


def test_a_changed_image_is_not_vouched_for(prefix):
    flip_seven_bytes(image_path(prefix, PINS[2].url))
    assert vouched(prefix) == [each.url for each in (*PINS[:2], *PINS[3:])]
    assert check(PINS, prefix)[PINS[2].url].state == "altered"


def test_an_image_that_was_refuted_meanwhile_is_not_vouched_for(prefix):
    image = image_path(prefix, PINS[2].url)
    record(image, PINS[2], refuted="it holds other files")
    index.forget_all()
    assert vouched(prefix) == []
    assert check(PINS, prefix)[PINS[2].url].state == "stale"
    assert vouched(prefix) == [each.url for each in (*PINS[:2], *PINS[3:])]


def test_a_world_writable_image_is_not_vouched_for(prefix):
    image = image_path(prefix, PINS[0].url)
    image.chmod(0o777)
    settle(image)
    check(PINS, prefix)
    assert PINS[0].url not in vouched(prefix)


def test_an_index_that_others_may_write_says_nothing(prefix):
    index.path_of(prefix).chmod(0o620)
    assert vouched(prefix) == []


def test_an_index_beside_the_images_says_nothing(prefix):
    planted = index.path_of(prefix).rename(prefix / ".freshness-index.json")
    assert planted.exists()
    assert vouched(prefix) == []


def test_another_pin_is_not_vouched_for(prefix):
    other = replace(PINS[0], digest=DIGEST)
    assert vouched(prefix, [other]) == []


def test_a_folder_in_the_place_of_an_image_is_not_vouched_for(prefix):
    image = image_path(prefix, PINS[0].url)
    image.unlink()
    image.mkdir()
    assert PINS[0].url not in vouched(prefix)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b'{"version": 3, "images": {}}',
        b'{"version": 2, "images": []}',
        b'{"version": 2}',
    ],
)
def test_a_damaged_index_says_nothing(prefix, content):
    index.path_of(prefix).write_bytes(content)
    assert vouched(prefix) == []
    assert {fact.state for fact in check(PINS, prefix, remember=False).values()} == {"verified"}


@pytest.mark.parametrize("row", [None, 1, [], ["x"] * 4, ["", "", True, []], [["h", 1, 2, 3, 4, "5"]] * 4, {}])
def test_a_damaged_row_says_nothing(prefix, row):
    table = json.loads(index.path_of(prefix).read_bytes())
    table["images"][image_path(prefix, PINS[0].url).name] = row
    index.path_of(prefix).write_text(json.dumps(table))
    assert vouched(prefix) == [each.url for each in PINS[1:]]


def test_a_folder_of_few_images_has_no_index(tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "DISK", DISK._replace(index_from=6))
    for each in PINS:
        settle_image = put(tmp_path, each)
        record(settle_image, each)
        settle(settle_image)
    check(PINS, tmp_path)
    assert not index.path_of(tmp_path).exists()


def test_a_check_that_must_not_write_makes_no_index(prefix):
    index.path_of(prefix).unlink()
    check(PINS, prefix, remember=False)
    assert not index.path_of(prefix).exists()


def test_what_is_gone_leaves_the_index_when_it_is_made_anew(prefix):
    image_path(prefix, PINS[0].url).unlink()
    index.build(prefix, PINS[1:])
    assert len(json.loads(index.path_of(prefix).read_bytes())["images"]) == 4


def test_an_image_that_is_too_young_to_be_known_by_its_times_is_left_out(tmp_path):
    record(put(tmp_path, pin()), pin())
    index.build(tmp_path, [pin()])
    assert vouched(tmp_path, [pin()]) == []
    assert [fact.digest for fact in facts.about(pin())] == [DIGEST]
