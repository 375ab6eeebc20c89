"""The record beside an image."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.common.files import StatKey
from snakemake_apptainer_freshness.store import records
from snakemake_apptainer_freshness.store.records import DamagedRecord, Record
from tests.support.pins import pin, put, record

KEY = StatKey(host="here", device=1, inode=2, size=3, mtime_ns=10_000_000_000, ctime_ns=20_000_000_000)


@pytest.fixture
def image(tmp_path):
    return put(tmp_path, pin())


def test_what_is_stored_is_loaded(image):
    made = replace(record(image, pin()), stat=KEY)
    records.store(image, made)
    assert records.load(image) == made
    assert Record.loads(made.dumps()) == made


def test_no_record_is_none(image):
    assert records.load(image) is None


def test_the_name_of_a_record_is_not_that_of_an_image(image):
    record(image, pin())
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
        {"reference": "x" * 5000},
        {"manifest": 7},
        {"stat": {**KEY.to_dict(), "size": 1.5}},
        {"stat": {**KEY.to_dict(), "host": 1}},
        {"writable_by_all": 1},
    ],
)
def test_a_record_of_another_form_says_nothing(image, changes):
    record(image, pin())
    rewritten(image, **changes)
    with pytest.raises(DamagedRecord):
        records.load(image)


def test_a_record_of_somebody_else_in_the_group_is_replaced(image):
    made = record(image, pin())
    records.path_of(image).chmod(0o444)
    records.store(image, replace(made, apptainer="apptainer 1.5.0"))
    renewed = records.load(image)
    assert renewed is not None
    assert renewed.apptainer == "apptainer 1.5.0"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 60_000, b" " * 70_000])
def test_a_damaged_record_says_nothing(image, content):
    records.path_of(image).write_bytes(content)
    with pytest.raises(DamagedRecord):
        records.load(image)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_a_record_that_is_no_file_says_nothing_and_is_replaced(image, make):
    make(records.path_of(image))
    with pytest.raises(DamagedRecord):
        records.load(image)
    made = record(image, pin())
    assert records.load(image) == made


def test_a_key_is_kept_only_of_a_file_that_was_not_touched_within_two_seconds_of_hashing(image):
    made = record(image, pin())
    assert records.with_stat(made, KEY, hashed_at=22_000_000_000).stat == KEY
    assert records.with_stat(made, KEY, hashed_at=21_999_999_999).stat is None
    touched = replace(KEY, mtime_ns=21_000_000_000)
    assert records.with_stat(made, touched, hashed_at=22_000_000_000).stat is None


def test_the_clock_is_the_file_systems_own(tmp_path):
    now = records.clock_of(tmp_path)
    (tmp_path / "later").touch()
    assert now <= (tmp_path / "later").stat().st_mtime_ns
    assert [path.name for path in tmp_path.iterdir()] == ["later"]
