"""Reading our own formats: JSON or TOML into tables, whose values are each of its type, form and a bounded size. Pure.

The lock, claims, facts, the memory of old outputs, bundles, notes, run records and the files that people write for us
are read here and nowhere else. Each of them may have been written by a stranger, so there is one rule for all: a key
that is not known, a key that is missing, a key that stands twice, a value of another type, or a number that is none are
:class:`Damaged`, and its text names the place, as in ``image[3].platforms must be a table``. Entries
are counted from 1.

JSON of registries has rules of its own (:mod:`.common.strict_json`).
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final, NoReturn, Self, TypeVar

from snakemake_apptainer_freshness.common.strict_json import refusing_equal_keys, strings
from snakemake_apptainer_freshness.common.text import names_no_bytes
from snakemake_apptainer_freshness.common.times import RUN, TIME
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.settings import RECORDS

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
_LARGEST: Final = 2**63
_ESCAPED: Final = re.compile(rb"\\u[dD][89a-fA-F]")
"""How JSON spells one half of a pair, which UTF-8 cannot."""
_PARTS: Final = 32
"""Parts of a dotted key in TOML; none of ours has more than four."""
_LEXEME: Final = (
    r'"""(?:[^\\]|\\.)*?(?:"""|\Z)'
    r"|'''.*?(?:'''|\Z)"
    r'|"(?:[^"\\\n]|\\.)*+"?+'
    r"|'[^'\n]*+'?+"
    r"|#[^\n]*+"
    r"|[.=,\n\[\]{}]"
)
"""Strings and comments, whose dots part no key; dots; what ends a key."""
_SHOWN: Final = 40
"""Characters of a stranger's text that an error repeats."""


class Damaged(ValueError):
    """The content cannot be read; the text is the reason, and names the place."""


class NewerVersion(Damaged):
    """The content is of a version that this program does not know."""


def read_json(content: bytes) -> object:
    """Return the value that the JSON `content` spells, in which no key stands twice and NaN is no number.

    Half of a surrogate pair, which neither a file can be called nor a terminal be told, is no text, but for those in
    whose place a byte of a name stands that is not UTF-8.
    """
    try:
        value: object = _DECODER.decode(content.decode("utf-8"))
        has_half_pair = bool(_ESCAPED.search(content)) and any(map(names_no_bytes, strings(value)))
    except Damaged:
        raise
    except (ValueError, RecursionError):
        raise Damaged("it is not JSON") from None
    if has_half_pair:
        raise Damaged("a text has half of a surrogate pair")
    return value


def _refuse_equal_keys() -> NoReturn:
    raise Damaged("an object has the same key twice")


def _refuse_constant(name: str) -> NoReturn:
    raise Damaged(f"it is not JSON: it has {name}")


_DECODER: Final = json.JSONDecoder(
    parse_constant=_refuse_constant, object_pairs_hook=refusing_equal_keys(_refuse_equal_keys)
)


def read_toml(text: str) -> dict[str, Any]:
    """Return the table that the TOML `text` spells."""
    import tomllib  # few commands read any

    if _has_endless_key(text):
        raise Damaged(f"not valid TOML: a key has more than {_PARTS} parts")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise Damaged("not valid TOML: it is nested too deeply") from None
    except ValueError as error:  # also a number of more digits than Python reads
        raise Damaged(f"not valid TOML: {error}") from None


def _has_endless_key(text: str) -> bool:
    """Return whether a dotted key in `text` has so many parts that reading it takes memory by their square."""
    if not any(line.count(".") > _PARTS for line in text.splitlines()):
        return False
    parts = 0
    for token in re.finditer(_LEXEME, text, re.DOTALL):
        if token[0] == ".":
            parts += 1
        elif token[0][0] not in "\"'":  # a part of a key may stand in quotes
            parts = 0
        if parts > _PARTS:
            return True
    return False


def version_of(value: object) -> int:
    """Return the version that the table `value` says it is of."""
    version = value.get("version") if isinstance(value, dict) else None
    if type(version) is not int:
        raise Damaged("it has no version")
    if version < 1:
        raise Damaged(f"version {version} never existed")
    return version


class Table:
    """A table with exactly the keys that it should have, and their values by type; `at` is where it stands.

    Whatever is wrong raises :class:`Damaged`, which names it.
    """

    __slots__ = ("at", "values")

    def __init__(self, value: object, keys: frozenset[str], *, optional: Iterable[str] = (), at: str = "") -> None:
        self.at = at
        if not isinstance(value, dict):
            raise Damaged(f"{at or 'it'} must be a table")
        if unknown := value.keys() - keys:
            raise Damaged(f"{at or 'it'} has an unknown key {_shown(min(unknown))}; its keys are {_listed(keys)}")
        if len(value) < len(keys) and (missing := keys - frozenset(optional) - value.keys()):
            raise Damaged(f"{at or 'it'} lacks {min(missing)}")
        self.values: dict[str, Any] = value

    @classmethod
    def versioned(cls, value: object, version: int, keys: frozenset[str], *, optional: Iterable[str] = ()) -> Self:
        """Return the table `value` of at most this `version`, which it says beside `keys`.

        Raises
        ------
        NewerVersion
            where it is of a later version.
        """
        if not isinstance(value, dict):
            raise Damaged("it must be a table")
        if (written := version_of(value)) > version:
            raise NewerVersion(f"it has version {str(written)[:_SHOWN]}; this program knows version {version}")
        return cls({key: item for key, item in value.items() if key != "version"}, keys, optional=optional)

    def place(self, key: str) -> str:
        """Return where the value of `key` stands."""
        return f"{self.at}.{key}" if self.at else key

    def refuse(self, key: str, problem: str) -> NoReturn:
        """Raise the error that the value of `key` has this `problem`."""
        raise Damaged(f"{self.place(key)} {problem}")

    # --- Tables in it ------------------------------------------------------------------------------------------------

    def child(self, key: str, keys: frozenset[str], *, optional: Iterable[str] = ()) -> "Table":
        """Return a table with these `keys`."""
        return Table(self.values.get(key), keys, optional=optional, at=self.place(key))

    def children(
        self, key: str, keys: frozenset[str], *, optional: Iterable[str] = (), most: int | None = None
    ) -> list["Table"]:
        """Return a list of at `most` so many tables with these `keys`; empty where it is absent."""
        return [Table(row, keys, optional=optional, at=place) for place, row in self.rows(key, most=most)]

    def rows(self, key: str, *, most: int | None = None) -> Iterator[tuple[str, object]]:
        """Yield what stands in a list, not yet checked, and where; nothing where it is absent."""
        rows = self.values.get(key, [])
        if type(rows) is not list:
            self.refuse(key, "must be a list of tables")
        if most is not None and len(rows) > most:
            self.refuse(key, f"must be a list of at most {most} tables")
        place = self.place(key)
        yield from ((f"{place}[{number}]", row) for number, row in enumerate(rows, 1))

    def pairs(self, key: str, name: Callable[[str], T], value: Callable[[str], E | Any]) -> dict[T, Any]:
        """Return a table of any keys, each read by `name`, and its text by `value`; empty where it is absent."""
        values: dict[T, Any] = {}
        for text, item in self.mapping(key).items():
            try:
                values[name(text)] = value(item)
            except FreshnessError as error:
                self.refuse(f"{key}.{text[:_SHOWN]}", f"is wrong: {error.message}")
        return values

    # --- Values ------------------------------------------------------------------------------------------------------

    def text(self, key: str) -> str:
        """Return a text; empty where it is absent."""
        value = self.values.get(key, "")
        if type(value) is not str:
            self.refuse(key, "must be a text")
        if len(value) > RECORDS.text:
            self.refuse(key, f"must have at most {RECORDS.text} characters")
        return value

    def words(self, key: str, *, longest: int = RECORDS.text) -> str:
        """Return a text that is not empty and fits on one line of at most `longest` characters."""
        value = self.text(key)
        if len(value) > longest:
            self.refuse(key, f"must have at most {longest} characters")
        if not value.strip() or not value.isprintable():
            self.refuse(key, "must be a text that is not empty, on one line, without control characters")
        return value

    def texts(self, key: str) -> list[str]:
        """Return a list of texts."""
        value = self.values[key]
        if type(value) is not list or not all(type(item) is str and len(item) <= RECORDS.text for item in value):
            self.refuse(key, "must be a list of texts")
        return value

    def mapping(self, key: str) -> Mapping[str, str]:
        """Return a table of texts; empty where it is absent."""
        value = self.values.get(key, {})
        if type(value) is not dict:
            self.refuse(key, "must be a table")
        for name, item in value.items():
            if type(item) is not str or len(name) > RECORDS.text or len(item) > RECORDS.text:
                self.refuse(f"{key}.{name[:_SHOWN]}", "must be a text")
        return value

    def number(self, key: str) -> int:
        """Return a whole number that is not negative; 0 where it is absent."""
        value = self.values.get(key, 0)
        if type(value) is not int or not 0 <= value < _LARGEST:
            self.refuse(key, "must be a whole number")
        return value

    def integer(self, key: str) -> int:
        """Return a whole number of any size and sign, as a kernel gives them."""
        value = self.values[key]
        if type(value) is not int:
            self.refuse(key, "must be a whole number")
        return value

    def seconds(self, key: str) -> float:
        """Return a number of seconds."""
        value = self.values[key]
        if type(value) not in (int, float):
            self.refuse(key, "must be a number")
        return float(value)

    def truth(self, key: str) -> bool | None:
        """Return True, false, or None for null and for nothing."""
        value = self.values.get(key)
        if value is not None and type(value) is not bool:
            self.refuse(key, "must be true, false or null")
        return value

    def yes_or_no(self, key: str) -> bool:
        """Return True or false."""
        value = self.values[key]
        if type(value) is not bool:
            self.refuse(key, "must be true or false")
        return value

    def flag(self, key: str) -> bool:
        """Return whether it is there, which it is only as true."""
        if key in self.values and self.values[key] is not True:
            self.refuse(key, "can only be true")
        return key in self.values

    def time(self, key: str) -> str:
        """Return a time."""
        value = self.text(key)
        if TIME.fullmatch(value) is None:
            self.refuse(key, "must be a time")
        return value

    def day(self, key: str) -> date:
        """Return a day, which TOML writes without quotes."""
        value = self.values[key]
        if not isinstance(value, date) or isinstance(value, datetime):
            self.refuse(key, "must be a day, as in 2027-03-01, without quotes")
        return value

    def name(self, key: str) -> str:
        """Return the name of a run."""
        value = self.text(key)
        if RUN.fullmatch(value) is None:
            self.refuse(key, "must be the name of a run")
        return value

    def hex(self, key: str, *, may_be_empty: bool = True) -> str:
        """Return a SHA-256, or an empty text where that may be."""
        value = self.text(key)
        if not (may_be_empty and not value) and _HEX.fullmatch(value) is None:
            self.refuse(key, "must be a SHA-256")
        return value

    def word(self, key: str, words: Mapping[str, Any]) -> Any:
        """Return one of `words`, as the value that it stands for."""
        value = self.text(key)
        if value not in words:
            self.refuse(key, f"cannot be {_shown(value)}; it is one of {_listed(words)}")
        return words[value]

    def member(self, key: str, words: type[E]) -> E:
        """Return one of the `words` of an enumeration."""
        value: E = self.word(key, {member.value: member for member in words})
        return value

    def state(self, key: str, states: type[StrEnum]) -> str:
        """Return the text of a state that may be absent."""
        value = self.text(key)
        if key in self.values and value not in states.__members__.values():
            self.refuse(key, f"cannot be {_shown(value)}")
        return value

    def digest(self, key: str) -> str:
        """Return a digest, or an empty text."""
        value = self.text(key)
        if value and _DIGEST.fullmatch(value) is None:
            self.refuse(key, "must be a digest")
        return value

    def parsed(self, key: str, parse: Callable[[str], T]) -> T:
        """Return a text as the value that `parse` makes of it."""
        try:
            return parse(self.words(key))
        except FreshnessError as error:
            self.refuse(key, f"is wrong: {error.message}")

    def parsed_or_none(self, key: str, parse: Callable[[str], T]) -> T | None:
        """Return the same, or None for null."""
        return None if self.values[key] is None else self.parsed(key, parse)


def _shown(text: object) -> str:
    return repr(str(text)[:_SHOWN])


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))
