"""What an earlier version wrote beside images: a hint, where it can be read at all."""

from __future__ import annotations

import json
import os

import pytest

from snakemake_apptainer_freshness.common.files import StatKey
from snakemake_apptainer_freshness.store import records
from snakemake_apptainer_freshness.store.records import DamagedRecord
from tests.support.pins import pin, plant_record, put

KEY = StatKey(host="here", device=1, inode=2, size=3, mtime_ns=10_000_000_000, ctime_ns=20_000_000_000)


@pytest.fixture
def image(tmp_path):
    return put(tmp_path, pin())


def test_a_record_names_the_pin_to_try(image):
    plant_record(image, pin())
    assert records.load(image).pin() == pin()


def test_no_record_is_none(image):
    assert records.load(image) is None


def test_the_name_of_a_record_is_not_that_of_an_image(image):
    plant_record(image, pin())
    assert records.path_of(image).exists()
    assert list(image.parent.glob("*.simg")) == [image]


def rewritten(image, **changes) -> None:
    table = json.loads(records.path_of(image).read_bytes())
    table.update(changes)
    records.path_of(image).write_text(json.dumps({key: value for key, value in table.items() if value is not ...}))


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": "x"},
        {"sha256": "AB" * 32},
        {"sha256": None},
        {"digest": "sha256:1"},
        {"digest": None},
        {"size": "3"},
        {"size": True},
        {"stat": {}},
        {"stat": {"host": "x"}},
        {"stat": 3},
        {"pinned": 4},
        {"pinned": ...},
        {"more": 1},
        {"version": ...},
        {"version": "1"},
        {"version": True},
        {"version": 1.0},
        {"reference": ["x"]},
        {"manifest": 7},
        {"stat": {**KEY.to_dict(), "size": 1.5}},
        {"stat": {**KEY.to_dict(), "host": 1}},
        {"writable_by_all": 1},
    ],
)
def test_a_record_of_another_form_says_nothing(image, changes):
    plant_record(image, pin())
    rewritten(image, **changes)
    with pytest.raises(DamagedRecord):
        records.load(image)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 60_000, b" " * 70_000])
def test_a_damaged_record_says_nothing(image, content):
    records.path_of(image).write_bytes(content)
    with pytest.raises(DamagedRecord):
        records.load(image)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_a_record_that_is_no_file_says_nothing(image, make):
    make(records.path_of(image))
    with pytest.raises(DamagedRecord):
        records.load(image)
