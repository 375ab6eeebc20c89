"""Each check of the strict reader is what stops a file of a stranger: without it, something bad is read.

The checks are found in the reader's own source, so that a new one without a case is seen.
"""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from types import ModuleType
from typing import Any

import pytest

from snakemake_apptainer_freshness.common import tables
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.settings import RECORDS
from tests.support.mutants import mutant, unchecked

LONG = "x" * (RECORDS.text + 1)
KEYS = frozenset({"key"})
WITH_OTHERS = frozenset({"key", "other", "more"})


class Word(StrEnum):
    ONE = "one"


class Case:
    """Something bad, and the method of a table that is asked to read it."""

    def __init__(self, method: str, value: object, *more: Any, **options: Any) -> None:
        self.method, self.value, self.more, self.options = method, value, more, options

    def __str__(self) -> str:
        return f"{self.method} {str(self.value)[:20]}"

    def read(self, module: ModuleType) -> object:
        table = module.Table({"key": self.value}, KEYS)
        found = getattr(table, self.method)("key", *self.more, **self.options)
        return list(found) if self.method == "rows" else found


class WholeCase(Case):
    """Something bad that is no table's value, and the function that is asked to read it."""

    def read(self, module: ModuleType) -> object:
        function = module
        for name in self.method.split("."):
            function = getattr(function, name)
        return function(self.value, *self.more, **self.options)


def no_words(_text: str) -> str:
    raise FreshnessError("it spells nothing")


CASES = [
    WholeCase("read_json", b"{"),
    WholeCase("read_json", b"\xff"),
    WholeCase("read_json", b"[" * 100_000),
    WholeCase("read_json", b"[NaN]"),
    WholeCase("read_json", b'["\\ud800"]'),
    WholeCase("read_json", b'{"a": 1, "a": 2}'),
    WholeCase("read_toml", "a = " + "[" * 100_000),
    WholeCase("read_toml", "a = 1\na = 2"),
    WholeCase("read_toml", ".".join("a" * 40) + " = 1"),
    WholeCase("version_of", {}),
    WholeCase("version_of", {"version": True}),
    WholeCase("version_of", {"version": 0}),
    WholeCase("Table", [], frozenset()),
    WholeCase("Table", {"key": 1, "other": 2}, KEYS),
    WholeCase("Table", {"key": 1}, WITH_OTHERS, optional=["other"]),
    WholeCase("Table.versioned", [], 1, KEYS),
    WholeCase("Table.versioned", {"version": 2, "key": 1}, 1, KEYS),
    Case("child", None, KEYS),
    Case("rows", {}),
    Case("rows", [{}, {}], most=1),
    Case("pairs", {"a": "b"}, str, no_words),
    Case("text", 1),
    Case("text", LONG),
    Case("words", "long", longest=3),
    Case("words", " "),
    Case("words", "a\x1b[2J"),
    Case("texts", "text"),
    Case("texts", [1]),
    Case("texts", [LONG]),
    Case("mapping", []),
    Case("mapping", {"a": 1}),
    Case("mapping", {LONG: "a"}),
    Case("mapping", {"a": LONG}),
    Case("number", True),
    Case("number", -1),
    Case("number", 2**63),
    Case("integer", True),
    Case("seconds", False),
    Case("seconds", "1"),
    Case("truth", 0),
    Case("yes_or_no", None),
    Case("flag", False),
    Case("flag", 1),
    Case("time", "yesterday"),
    Case("time", "2026-01-01T00:00:00Z\n"),
    Case("day", "2026-01-01"),
    Case("day", datetime(2026, 1, 1)),  # noqa: DTZ001  as TOML has it
    Case("name", "../x"),
    Case("name", "20260101T000000.000000Z/../x"),
    Case("hex", "a" * 63),
    Case("hex", "a" * 64 + "\n"),
    Case("hex", "", may_be_empty=False),
    Case("word", "two", {"one": 1}),
    Case("member", "two", Word),
    Case("state", "two", Word),
    Case("state", "", Word),
    Case("digest", "sha256:a"),
    Case("digest", f"sha256:{'a' * 64}/../x"),
    Case("parsed", "x", no_words),
    Case("parsed_or_none", "x", no_words),
]
GOOD = [
    WholeCase("read_json", b'{"a": [1, null]}'),
    WholeCase("Table", {"key": 1, "more": 2}, WITH_OTHERS, optional=["other"]),
    WholeCase("Table.versioned", {"version": 1, "key": 1}, 1, KEYS),
    Case("rows", [{}], most=1),
    Case("words", "long", longest=4),
    Case("number", 2**63 - 1),
    Case("day", date(2026, 1, 1)),
    Case("time", "2026-01-01T00:00:00.123Z"),
    Case("name", "20260101T000000.000000Z"),
    Case("hex", ""),
    Case("hex", "a" * 64, may_be_empty=False),
    Case("member", "one", Word),
    Case("digest", f"sha256:{'a' * 64}"),
]
MUTANTS = unchecked(tables) | {
    f"{old} → {new}": mutant(tables, old, new)
    for old, new in [
        ("parse_constant=_refuse_constant, ", ""),
        ("object_pairs_hook=refusing_equal_keys(_refuse_equal_keys)", ""),
        ("type(version) is not int", "not isinstance(version, int)"),
        ("type(value) is not int or not 0 <= value", "not isinstance(value, int) or not 0 <= value"),
        ("not 0 <= value < _LARGEST", "not value < _LARGEST"),
        ("not 0 <= value < _LARGEST", "not 0 <= value"),
        ("type(value) not in (int, float)", "not isinstance(value, (int, float))"),
        ("all(type(item) is str and len(item) <= RECORDS.text ", "all(type(item) is str "),
        ("self.values[key] is not True", "self.values[key] != True"),
        ("TIME.fullmatch(", "TIME.match("),
        ("RUN.fullmatch(", "RUN.match("),
        ("_HEX.fullmatch(", "_HEX.match("),
        ("_DIGEST.fullmatch(", "_DIGEST.match("),
        ("if key in self.values and value not in states", "if value and value not in states"),
        ("if not (may_be_empty and not value) and _HEX", "if value and _HEX"),
    ]
}


def said(case: Case, module: ModuleType) -> str:
    """What the reader says is wrong; nothing where it read it, or failed with another error, as no reader may."""
    try:
        case.read(module)
    except module.Damaged as error:
        return str(error)
    except Exception:  # noqa: BLE001  whatever it is
        return ""
    return ""


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_bad_is_refused(case):
    assert said(case, tables)


@pytest.mark.parametrize("case", GOOD, ids=str)
def test_what_is_good_is_read(case):
    case.read(tables)


@pytest.mark.parametrize("broken", MUTANTS)
def test_without_its_check_something_bad_is_read(broken):
    assert any(said(case, MUTANTS[broken]) != said(case, tables) for case in CASES)


def test_checks_are_found_in_the_source_of_the_reader():
    assert {"Table.text: type(value) is not str", "Table.parsed: except FreshnessError"} <= set(unchecked(tables))
