"""Names of files in documents that are Unicode.

Linux names files in bytes; Python has what is not UTF-8 of them as lone surrogates, which no document can hold.
"""

import re
from typing import Final

_NO_BYTE: Final = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Surrogates that stand for no byte of a file name: JSON can spell them, and only somebody's hand writes them."""


def unicode(text: str) -> str:
    """`text` as a document can hold it: bytes that are not UTF-8, and lone surrogates, are replaced."""
    text = _NO_BYTE.sub("\N{REPLACEMENT CHARACTER}", text)
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
