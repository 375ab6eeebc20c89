"""Names of files in documents that are Unicode.

Linux names files in bytes; Python has what is not UTF-8 of them as lone surrogates, which no document can hold.
"""


def unicode(text: str) -> str:
    """`text` as a document can hold it: bytes that are not UTF-8 are replaced."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
