"""What is written down of removed records, and the chain that goes on from there."""

import json
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.common.tables import Damaged
from snakemake_apptainer_freshness.record.pruning import Cut, Removal, chain, edges_of
from tests.support import audits

FIRST, SECOND, THIRD = (audits.run(number) for number in (1, 2, 3))
LATER = audits.run(4, previous=THIRD.sha256)
BESIDE = audits.run(5, previous=SECOND.sha256, started=SECOND.ended)
"""A run that began while the third went on."""
RUNS = [FIRST, SECOND, THIRD, LATER]


def removal(removed, left, before=None):
    return Removal(
        at="2026-03-04T00:00:00Z",
        user="ada",
        host="node1",
        workdir="/work",
        count=len(removed),
        last=removed[-1].id,
        newest=left[-1].id,
        newest_sha256=left[-1].sha256,
        edges=edges_of(removed, left, before),
    )


def test_the_chain_of_these_runs_holds():
    assert chain(RUNS) == []


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_chain_of_what_is_left_holds(count):
    left = RUNS[count:]
    assert chain(left, removal(RUNS[:count], left)) == []
    assert chain(left) != []


def test_the_chain_holds_while_records_are_being_removed():
    made = removal(RUNS[:2], RUNS[2:])
    for start in range(3):
        assert chain(RUNS[start:], made) == []


def test_removing_again_goes_on_from_what_was_removed_before():
    first = removal(RUNS[:1], RUNS[1:])
    second = removal(RUNS[1:3], RUNS[3:], first)
    assert chain(RUNS[3:], second) == []
    assert [edge.id for edge in second.edges] == [THIRD.id]


def test_runs_at_the_same_time_leave_as_many_edges_as_they_name():
    runs = [FIRST, SECOND, replace(THIRD, ended="2099-01-01T00:00:00Z"), BESIDE]
    left = [BESIDE]
    made = removal(runs[:3], left)
    assert [edge.id for edge in made.edges] == [SECOND.id, THIRD.id]
    assert chain(left, made) == []


def test_it_is_read_as_it_was_written():
    made = removal(RUNS[:2], RUNS[2:])
    assert Removal.loads(made.dumps()) == made


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"version": 1}', b"[" * 60_000])
def test_what_is_damaged_is_none(content):
    with pytest.raises(ValueError, match=r"."):
        Removal.loads(content)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"more": 1},
        {"user": 5},
        {"user": "a\nb"},
        {"count": 0},
        {"count": True},
        {"count": 1.5},
        {"last": "../x"},
        {"newest": ""},
        {"newest_sha256": "A" * 64},
        {"at": "now"},
        {"at": "2026-03-04T00:00:00Z\n"},
        {"edges": None},
        {"edges": [{"id": FIRST.id, "sha256": "0" * 64, "ended": "", "more": 1}]},
        {"edges": [{"id": FIRST.id, "sha256": "", "ended": ""}]},
        {"newest_sha256": ""},
        {"edges": [{"id": "x"}]},
        {"edges": [{"id": FIRST.id, "sha256": "short", "ended": ""}]},
        {"edges": [{"id": FIRST.id, "sha256": "0" * 64, "ended": "later"}]},
    ],
)
def test_what_has_a_wrong_value_is_none(change):
    table = json.loads(removal(RUNS[:2], RUNS[2:]).dumps()) | change
    with pytest.raises(ValueError, match=r"."):
        Removal.loads(json.dumps(table).encode())


def test_a_key_that_stands_twice_is_refused():
    content = removal(RUNS[:2], RUNS[2:]).dumps()
    with pytest.raises(Damaged, match="same key twice"):
        Removal.loads(content.replace(b'"count": 2,', b'"count": 2, "count": 3,'))


def test_an_edge_of_a_run_without_an_end_has_none():
    killed = replace(THIRD, ended="")
    assert edges_of([killed], [LATER], None) == (Cut(id=THIRD.id, sha256=THIRD.sha256, ended=""),)
