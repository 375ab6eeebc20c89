"""The index of a folder's records: never wrong, only incomplete."""

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
from snakemake_apptainer_freshness.store import index, records
from snakemake_apptainer_freshness.store.prefix import INDEX, image_path
from tests.support.pins import DIGEST, REPOSITORY, flip_seven_bytes, pin, put, record, settle

PINS = [pin(replace(DIGEST, hex=f"{number:064x}")) for number in range(5)]


@pytest.fixture
def prefix(tmp_path, monkeypatch):
    """Recorded and settled images, and an index of them."""
    monkeypatch.setattr(checking, "DISK", DISK._replace(index_from=3))
    real = records.clock_of
    monkeypatch.setattr(records, "clock_of", lambda folder: real(folder) + 60_000_000_000)
    for each in PINS:
        image = put(tmp_path, each)
        record(image, each)
        settle(image)
    check(PINS, tmp_path)
    assert (tmp_path / INDEX).exists()
    return tmp_path


def vouched(prefix, pins=PINS) -> list[str]:
    return [each.url for each in index.vouched(prefix, pins)]


def test_a_check_with_an_index_opens_nothing_else(prefix, monkeypatch):
    opened: list[str] = []
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda path, *args, **more: (opened.append(Path(path).name), real(path, *args, **more))[1]
    )
    monkeypatch.setattr(builtins, "open", _only_descriptors)
    facts = check(PINS, prefix)
    assert {fact.state for fact in facts.values()} == {"verified"}
    assert opened == [INDEX]


_open = open


def _only_descriptors(file, *args, **more):
    assert isinstance(file, int), f"{file} was opened"
    return _open(file, *args, **more)


def test_it_says_what_the_records_say(prefix):
    by_index = check(PINS, prefix)
    (prefix / INDEX).unlink()
    assert check(PINS, prefix, remember=False) == by_index


def test_a_changed_image_is_not_vouched_for(prefix):
    flip_seven_bytes(image_path(prefix, PINS[2].url))
    assert vouched(prefix) == [each.url for each in (*PINS[:2], *PINS[3:])]
    assert check(PINS, prefix)[PINS[2].url].state == "altered"


def test_an_image_whose_record_changed_is_not_vouched_for(prefix):
    image = image_path(prefix, PINS[2].url)
    records.path_of(image).write_bytes(b"{}")
    assert PINS[2].url not in vouched(prefix)
    records.path_of(image).unlink()
    assert PINS[2].url not in vouched(prefix)
    assert check(PINS, prefix)[PINS[2].url].state == "bound"


def test_a_world_writable_image_is_not_vouched_for(prefix):
    image = image_path(prefix, PINS[0].url)
    image.chmod(0o777)
    settle(image)
    check(PINS, prefix)
    assert PINS[0].url not in vouched(prefix)


def test_a_world_writable_index_or_record_says_nothing(prefix):
    records.path_of(image_path(prefix, PINS[0].url)).chmod(0o666)
    assert vouched(prefix) == [each.url for each in PINS[1:]]
    (prefix / INDEX).chmod(0o666)
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
        b'{"version": 2, "images": {}}',
        b'{"version": 1, "images": []}',
        b'{"version": 1}',
    ],
)
def test_a_damaged_index_says_nothing(prefix, content):
    (prefix / INDEX).write_bytes(content)
    assert vouched(prefix) == []
    assert {fact.state for fact in check(PINS, prefix, remember=False).values()} == {"verified"}


@pytest.mark.parametrize("row", [None, 1, [], ["x"] * 5, [[], "", "", True, []], [["h", 1, 2, 3, 4, "5"]] * 5, {}])
def test_a_damaged_row_says_nothing(prefix, row):
    table = json.loads((prefix / INDEX).read_bytes())
    table["images"][image_path(prefix, PINS[0].url).name] = row
    (prefix / INDEX).write_text(json.dumps(table))
    assert vouched(prefix) == [each.url for each in PINS[1:]]


def test_a_folder_of_few_images_has_no_index(tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "DISK", DISK._replace(index_from=6))
    for each in PINS:
        settle_image = put(tmp_path, each)
        record(settle_image, each)
        settle(settle_image)
    check(PINS, tmp_path)
    assert not (tmp_path / INDEX).exists()


def test_a_check_that_must_not_write_makes_no_index(prefix):
    (prefix / INDEX).unlink()
    check(PINS, prefix, remember=False)
    assert not (prefix / INDEX).exists()


def test_what_is_gone_leaves_the_index_when_it_is_made_anew(prefix):
    image_path(prefix, PINS[0].url).unlink()
    index.build(prefix, PINS[1:])
    assert len(json.loads((prefix / INDEX).read_bytes())["images"]) == 4


def test_a_record_that_is_too_young_to_be_known_by_its_times_is_left_out(tmp_path):
    image = put(tmp_path, pin())
    record(image, pin())
    settle(image)
    index.build(tmp_path, [pin()])
    assert vouched(tmp_path, [pin()]) == []
    assert REPOSITORY in pin().url
