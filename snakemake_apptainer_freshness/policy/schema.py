"""The tables that a policy is written as: each key known, each value of its kind, or an error that names it. Pure."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from snakemake_apptainer_freshness.errors import InvalidPolicy

_LONGEST_TEXT: Final = 300


class Level(StrEnum):
    """What a violation does."""

    WARN = "warn"
    ERROR = "error"


def level_of(table: Mapping[str, Any], name: str, source: str) -> Level:
    """Return the level of the rule `name`."""
    level = table.get("level", Level.ERROR.value)
    if level not in (Level.WARN.value, Level.ERROR.value):
        raise InvalidPolicy(f"{source}: policy.{name}.level cannot be {level!r}", hint="level is one of warn, error")
    return Level(level)


def table_of(value: object, name: str, source: str, *, allowed: Sequence[str]) -> Mapping[str, Any]:
    """Return the table `name`, which has no key but those `allowed`."""
    if not isinstance(value, Mapping):
        raise InvalidPolicy(f"{source}: {name} must be a table, not {type(value).__name__}")
    for key in value:
        if key not in allowed:
            raise InvalidPolicy(
                f"{source}: {name} has no key {str(key)!r}{nearest(str(key), allowed)}",
                hint=f"its keys are {', '.join(allowed)}",
            )
    return value


def texts_of(value: object, name: str, source: str) -> tuple[str, ...]:
    """Return the list `name` of one text or more."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise InvalidPolicy(f"{source}: {name} must be a list of one text or more")
    return tuple(text_of(item, name, source) for item in value)


def text_of(value: object, name: str, source: str) -> str:
    """Return the text at `name`."""
    if not isinstance(value, str) or not value or len(value) > _LONGEST_TEXT or not value.isprintable():
        raise InvalidPolicy(f"{source}: {name} has {value!r}, which is no short printable text")
    return value


def nearest(text: str, choices: Sequence[str]) -> str:
    """Return the question whether the nearest of `choices` was meant; empty where none is near."""
    import difflib

    close = difflib.get_close_matches(text, choices, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
