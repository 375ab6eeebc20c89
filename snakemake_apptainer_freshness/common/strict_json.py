"""JSON from outside: accepted only where every program reads it alike, else refused.

Go's ``encoding/json`` takes the last of two equal keys, Python another number for one with a thousand digits, and both
take half of a surrogate pair for something else. Who pins what one program reads and pulls what another one reads has
pinned nothing. So equal keys are refused, and NaN, half surrogate pairs, byte order marks and numbers beyond 64 bits.

Nesting, the number of values and of digits are checked before anything is built, so that time and memory stay in
proportion to the bytes, whatever they are; who reads them from the network caps their number.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn

from snakemake_apptainer_freshness.errors import DamagedAnswer

MAX_DEPTH: Final = 32
MAX_TOKENS: Final = 500_000
"""Strings, brackets and commas: 4 MiB of an honest index have fewer than 300,000."""

_MAX_DIGITS: Final = 20  # 2**64 has 20
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+|[\[\]{},]', re.DOTALL)


def load(body: bytes) -> object:
    """Return the value that `body` spells.

    Raises
    ------
    DamagedAnswer
        where it spells none, or could be read in two ways, or costs too much.
    """
    _refuse_unbounded(body)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        refuse("it is not UTF-8")
    if text.startswith("\ufeff"):
        refuse("it starts with a byte order mark")
    try:
        value: object = json.loads(
            text,
            object_pairs_hook=refusing_equal_keys(lambda: refuse("an object has the same key twice")),
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_constant,
        )
    except ValueError as error:
        refuse(f"it is not JSON: {error}")
    for string in strings(value):
        if not string.isascii() and any("\ud800" <= character <= "\udfff" for character in string):
            refuse("a string has half of a surrogate pair")
    return value


def _refuse_unbounded(body: bytes) -> None:
    """Refuse what would cost more than its bytes, before a value is built.

    An unclosed string counts to the end: were it skipped, each quote in it would start a scan of the rest.
    """
    depth = 0
    for count, token in enumerate(_TOKEN.finditer(body)):
        if count >= MAX_TOKENS:
            refuse(f"it has more than {MAX_TOKENS} strings, brackets and commas")
        first = body[token.start()]
        if first in b"[{":
            depth += 1
        elif first in b"]}":
            depth -= 1
        if depth > MAX_DEPTH:
            refuse(f"it is nested more than {MAX_DEPTH} deep")


def refusing_equal_keys(refuse_twice: Callable[[], NoReturn]) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """Return an ``object_pairs_hook`` that calls `refuse_twice`, which raises, where an object has a key twice."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            refuse_twice()
        return table

    return members


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        refuse(f"a number has more than {_MAX_DIGITS} digits")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        refuse("a number is too large")
    return number


def _constant(name: str) -> NoReturn:
    refuse(f"{name} is not JSON")


def strings(value: object) -> Iterator[str]:
    """Yield all keys and strings in `value`, whose nesting is bounded."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, member in value.items():
            yield key
            yield from strings(member)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def refuse(what: str, hint: str = "") -> NoReturn:
    """Raise the error that says `what` is wrong with a manifest."""
    raise DamagedAnswer(
        f"manifest: {what}",
        hint=hint or "the registry's answer cannot be used; push the image again, or tell who runs the registry",
    )
