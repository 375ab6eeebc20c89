"""Values of a table that somebody else perhaps wrote: each of its type, of its form and of a bounded size. Pure."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from snakemake_apptainer_freshness.common.times import RUN, TIME
from snakemake_apptainer_freshness.settings import RECORDS

_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
_LARGEST: Final = 2**63


class Damaged(ValueError):
    """What is no head or event of a record; the text is the reason."""


class Checked:
    """A table with exactly the keys that it should have, and their values by type.

    Whatever is wrong raises :class:`Damaged`, which names it.
    """

    __slots__ = ("table",)

    def __init__(self, table: object, keys: frozenset[str], *, optional: frozenset[str] = frozenset()) -> None:
        if not isinstance(table, dict):
            raise Damaged("it is not an object")
        if unknown := table.keys() - keys:
            raise Damaged(f"it has an unknown key {min(unknown)[:40]!r}")
        if len(table) < len(keys) and (missing := keys - optional - table.keys()):
            raise Damaged(f"it lacks {min(missing)}")
        self.table: dict[str, Any] = table

    def text(self, key: str) -> str:
        """Return a text; empty where it is absent."""
        value = self.table.get(key, "")
        if type(value) is not str or len(value) > RECORDS.text:
            raise Damaged(f"{key} must be a text of at most {RECORDS.text} characters")
        return value

    def texts(self, key: str) -> list[str]:
        """Return a list of texts."""
        value = self.table[key]
        if type(value) is not list or not all(type(item) is str and len(item) <= RECORDS.text for item in value):
            raise Damaged(f"{key} must be a list of texts")
        return value

    def mapping(self, key: str) -> Mapping[str, str]:
        """Return a table of texts; empty where it is absent."""
        value = self.table.get(key, {})
        if type(value) is not dict or not all(
            type(item) is str and len(name) <= RECORDS.text and len(item) <= RECORDS.text
            for name, item in value.items()
        ):
            raise Damaged(f"{key} must be a table of texts")
        return value

    def number(self, key: str) -> int:
        """Return a whole number that is not negative; 0 where it is absent."""
        value = self.table.get(key, 0)
        if type(value) is not int or not 0 <= value < _LARGEST:
            raise Damaged(f"{key} must be a whole number")
        return value

    def truth(self, key: str) -> bool | None:
        """Return True, false, or None for null and for nothing."""
        value = self.table.get(key)
        if value is not None and type(value) is not bool:
            raise Damaged(f"{key} must be true, false or null")
        return value

    def flag(self, key: str) -> bool:
        """Return whether it is there, which it is only as true."""
        if key in self.table and self.table[key] is not True:
            raise Damaged(f"{key} can only be true")
        return key in self.table

    def time(self, key: str) -> str:
        """Return a time."""
        value = self.text(key)
        if TIME.fullmatch(value) is None:
            raise Damaged(f"{key} must be a time")
        return value

    def name(self, key: str) -> str:
        """Return the name of a run."""
        value = self.text(key)
        if RUN.fullmatch(value) is None:
            raise Damaged(f"{key} must be the name of a run")
        return value

    def hex(self, key: str) -> str:
        """Return a SHA-256, or an empty text."""
        value = self.text(key)
        if value and _HEX.fullmatch(value) is None:
            raise Damaged(f"{key} must be a SHA-256")
        return value

    def word(self, key: str, words: Mapping[str, Any]) -> Any:
        """Return one of `words`, as the value that it stands for."""
        value = self.text(key)
        if value not in words:
            raise Damaged(f"{key} cannot be {value[:40]!r}")
        return words[value]

    def state(self, key: str, states: type[StrEnum]) -> str:
        """Return the text of a state that may be absent."""
        value = self.text(key)
        if key in self.table and value not in states.__members__.values():
            raise Damaged(f"{key} cannot be {value[:40]!r}")
        return value

    def digest(self, key: str) -> str:
        """Return a digest, or an empty text."""
        value = self.text(key)
        if value and _DIGEST.fullmatch(value) is None:
            raise Damaged(f"{key} must be a digest")
        return value
