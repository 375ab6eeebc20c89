"""The reader of our own formats: what is wrong is refused, and its place is named."""

import json
import time
from enum import StrEnum

import pytest

from snakemake_apptainer_freshness.common import tables
from snakemake_apptainer_freshness.common.tables import Damaged, NewerVersion, Table, read_json, read_toml
from snakemake_apptainer_freshness.errors import InvalidDigest
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.settings import RECORDS

A = "sha256:" + "a" * 64


class Word(StrEnum):
    ONE = "one"
    TWO = "two"


def table(**values):
    return Table(values, frozenset(values))


def test_a_table_within_a_list_within_a_table_is_named_by_its_place():
    outer = table(image=[{"platforms": {}}, {"platforms": {}}, {"platforms": 1}])
    rows = outer.children("image", frozenset({"platforms"}))

    with pytest.raises(Damaged, match=r"^image\[3\]\.platforms must be a table$"):
        rows[2].child("platforms", frozenset())
    with pytest.raises(Damaged, match=r"^image\[3\]\.platforms must be a table$"):
        rows[2].mapping("platforms")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "it must be a table"),
        ([], "it must be a table"),
        ({"a": 1}, "it lacks b"),
        ({"a": 1, "b": 2, "c": 3}, "it has an unknown key 'c'; its keys are a, b"),
        ({"a": 1, "b": 2, "x" * 1000: 3}, "it has an unknown key '" + "x" * 40 + "';"),
    ],
)
def test_a_table_has_its_keys_and_no_other(value, problem):
    with pytest.raises(Damaged) as caught:
        Table(value, frozenset("ab"))

    assert str(caught.value).startswith(problem)


def test_what_is_optional_may_be_absent():
    found = Table({"a": "x"}, frozenset("abcd"), optional="bcd")

    assert (found.text("a"), found.text("b"), found.number("c"), found.truth("d")) == ("x", "", 0, None)
    assert (found.flag("b"), found.children("c", frozenset()), dict(found.mapping("d"))) == (False, [], {})


BAD = [
    ("text", 1, "must be a text"),
    ("text", "x" * (RECORDS.text + 1), "must have at most"),
    ("words", "", "must be a text that is not empty"),
    ("words", " ", "must be a text that is not empty"),
    ("words", A + "\n", "must be a text that is not empty, on one line"),
    ("words", "\x1b[2J", "without control characters"),
    ("texts", "x", "must be a list of texts"),
    ("texts", ["x", 1], "must be a list of texts"),
    ("mapping", {"x": 1}, "x must be a text"),
    ("number", -1, "must be a whole number"),
    ("number", True, "must be a whole number"),
    ("number", 1.0, "must be a whole number"),
    ("number", 2**63, "must be a whole number"),
    ("integer", True, "must be a whole number"),
    ("seconds", "1", "must be a number"),
    ("seconds", False, "must be a number"),
    ("truth", 1, "must be true, false or null"),
    ("yes_or_no", None, "must be true or false"),
    ("flag", False, "can only be true"),
    ("time", "2026-01-01", "must be a time"),
    ("day", "2026-01-01", "must be a day"),
    ("name", "../x", "must be the name of a run"),
    ("hex", "a" * 63, "must be a SHA-256"),
    ("digest", "sha256:a", "must be a digest"),
]


@pytest.mark.parametrize(("method", "value", "problem"), BAD)
def test_a_value_of_another_form_is_refused_by_its_place(method, value, problem):
    found = Table({"key": value}, frozenset({"key"}), at="row[2]")

    with pytest.raises(Damaged) as caught:
        getattr(found, method)("key")

    assert str(caught.value).startswith("row[2].key")
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_word_that_is_none_is_told_with_those_that_are():
    with pytest.raises(Damaged, match=r"^a cannot be 'three'; it is one of one, two$"):
        table(a="three").member("a", Word)
    assert table(a="two").member("a", Word) is Word.TWO


def test_a_text_is_read_as_the_value_that_it_spells():
    assert table(a=A).parsed("a", Digest.parse) == Digest.parse(A)
    assert table(a=None).parsed_or_none("a", Digest.parse) is None
    with pytest.raises(Damaged, match=r"^a is wrong: "):
        table(a="sha256:x").parsed("a", Digest.parse)
    with pytest.raises(InvalidDigest):
        Digest.parse("sha256:x")  # which is no error of a reader


def test_a_table_of_any_keys_names_the_one_that_is_wrong():
    assert table(a={"x": A}).pairs("a", str, Digest.parse) == {"x": Digest.parse(A)}
    with pytest.raises(Damaged, match=r"^a\.y is wrong: "):
        table(a={"x": A, "y": "sha256:y"}).pairs("a", str, Digest.parse)


def test_a_list_has_at_most_so_many_tables():
    with pytest.raises(Damaged, match=r"^a must be a list of at most 2 tables$"):
        table(a=[{}, {}, {}]).children("a", frozenset(), most=2)


@pytest.mark.parametrize(
    ("document", "error", "problem"),
    [
        ({"x": ""}, Damaged, "it has no version"),
        ({"version": True, "x": ""}, Damaged, "it has no version"),
        ({"version": 1.0, "x": ""}, Damaged, "it has no version"),
        ({"version": 0, "x": ""}, Damaged, "version 0 never existed"),
        ({"version": 3, "y": ""}, NewerVersion, "it has version 3; this program knows version 2"),
        ([], Damaged, "it must be a table"),
    ],
)
def test_a_version_is_read_before_anything_else(document, error, problem):
    with pytest.raises(error) as caught:
        Table.versioned(document, 2, frozenset("x"))

    assert str(caught.value) == problem
    assert (type(caught.value) is NewerVersion) == (error is NewerVersion)


def test_an_older_version_is_read():
    assert Table.versioned({"version": 1, "x": "y"}, 2, frozenset("x")).text("x") == "y"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[" * 100_000, b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": 1, "a": 2}', b"1" * 5000],
)
def test_what_could_be_read_in_two_ways_or_not_at_all_is_damaged(content):
    with pytest.raises(Damaged):
        read_json(content)


def test_a_key_twice_is_refused_however_deep_it_stands():
    with pytest.raises(Damaged, match="same key twice"):
        read_json(b'[{"a": [{"b": {"c": 1, "\\u0063": 1}}]}]')


@pytest.mark.parametrize("text", ["x", "a = 1\na = 2", "a = " + "9" * 5000, "a = " + "[" * 100_000])
def test_toml_that_is_none_is_damaged(text):
    with pytest.raises(Damaged, match=r"^not valid TOML: "):
        read_toml(text)


@pytest.mark.parametrize(
    "key", [".".join("a" * 30_000), '"a" . ' * 30_000 + "a", "'a'." * 30_000 + "a", f"[{'.'.join('a' * 30_000)}]#"]
)
@pytest.mark.parametrize("before", ["", "# it's\n", "a = '''\n''\n'''\n", 'a = """\n\\"""\n"""\n', "a = [1.5, 'x']\n"])
def test_a_key_of_countless_parts_is_damaged_at_once(before, key):
    started = time.monotonic()
    with pytest.raises(Damaged, match=r"^not valid TOML: a key has more than 32 parts$"):
        read_toml(f"{before}{key} = 1\n")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "text",
    [
        f"a = 1 # {'.' * 100}\n",
        f"a = '{'.' * 100}'\n",
        f'a = "\\"{"." * 100}"\n',
        f'a = """\n\\"{"." * 100}\n"""\n',
        f"a = '''\n'{'.' * 100}\n'''\n",
        f"a = [{'1.5, ' * 100}]\n",
        f"a = {{{', '.join(f'b.c{number} = 1' for number in range(100))}}}\n",
    ],
)
def test_dots_that_part_no_key_may_be_many(text):
    assert read_toml(text).keys() == {"a"}


@pytest.mark.parametrize("text", ["\\ud800", "a\\uDFFF", "\\ud83d\\ud83d", "\\udc00\\ud83d"])
def test_half_of_a_surrogate_pair_is_damaged_as_a_value_and_as_a_key(text):
    for content in (f'{{"a": ["{text}"]}}', f'{{"{text}": 1}}'):
        with pytest.raises(Damaged, match=r"^a text has half of a surrogate pair$"):
            read_json(content.encode())


@pytest.mark.parametrize("text", ["\N{GRINNING FACE}", "caf\udce9", "\ufffd"])
def test_whole_pairs_and_bytes_of_names_that_are_not_utf_8_are_read(text):
    assert read_json(json.dumps([text]).encode()) == [text]


def test_loading_the_reader_reads_no_toml():
    assert not hasattr(tables, "tomllib")
    assert json.loads(json.dumps(read_json(b'{"a": [1, null]}'))) == {"a": [1, None]}
