"""Text for people and documents: sizes, counts, digests, times, and names of files that are not Unicode.

Linux names files in bytes; Python has what is not UTF-8 of them as lone surrogates, which no document can hold.
"""

import re
from collections.abc import Sized
from typing import Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP: Final = 1024
_NO_BYTE: Final = "[\ud800-\udc7f\udd00-\udfff]"
"""Surrogates that stand for no byte of a file name: JSON can spell them, and no program writes them."""


def unicode(text: str) -> str:
    """Return `text` as a document can hold it: bytes that are not UTF-8, and lone surrogates, are replaced."""
    text = re.sub(_NO_BYTE, "\N{REPLACEMENT CHARACTER}", text)
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def names_no_bytes(text: str) -> bool:
    """Return whether `text` has surrogates that stand for no byte of a file name."""
    return re.search(_NO_BYTE, text) is not None


def size(count: int) -> str:
    """Return `count` bytes for a person, as in ``1.4 GiB``."""
    value = float(count)
    for unit in _UNITS:
        if value < _STEP or unit == _UNITS[-1]:
            break
        value /= _STEP
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def counted(things: Sized | int, singular: str, many: str = "") -> str:
    """Return how many `things` there are, as in ``1 image`` and ``2,000 images``."""
    count = things if isinstance(things, int) else len(things)
    return f"{count:,} {singular if count == 1 else many or singular + 's'}"


def be(things: Sized | int) -> str:
    """Return ``is`` or ``are``."""
    return "is" if (things if isinstance(things, int) else len(things)) == 1 else "are"


def short(digest: str) -> str:
    """Return the beginning of a `digest`, with its algorithm, for people; never for comparing."""
    algorithm, _, value = digest.partition(":")
    return f"{algorithm}:{value[:12]}"


def duration(seconds: float) -> str:
    """Return `seconds` for a person, as in ``0:07`` and ``1:02:07``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
