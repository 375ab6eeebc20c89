"""Failures of a pull: their causes, read from Apptainer's output, with what the user can do and what we do.

A failure is worth another attempt where it was the network's, or one of the races that Apptainer's cache is known
for (it has no lock, ``blob/index.json`` is rewritten in place); never where the registry has refused, or a disk is
full.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from snakemake_apptainer_freshness.errors import PullFailed, redact

_WORDS_SHOWN: Final = 12


class Again(Enum):
    """Whether the attempt that failed may succeed if it is made once more."""

    NEVER = "never"
    SOON = "soon"
    """Two pulls met in Apptainer's cache, for some milliseconds."""
    LATER = "later"
    """The network failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a message in Apptainer's output means."""

    pattern: re.Pattern[str]
    meaning: str
    hint: str
    again: Again = Again.NEVER


def _failure(pattern: str, meaning: str, hint: str, *, again: Again = Again.NEVER) -> Failure:
    return Failure(pattern=re.compile(pattern, re.IGNORECASE), meaning=meaning, hint=hint, again=again)


_FAILURES: Final = (
    _failure(
        r"no space left on device",
        "the disk is full",
        "make room, or set APPTAINER_TMPDIR and the prefix to a larger disk",
    ),
    _failure(
        r"disk quota exceeded",
        "the disk quota is used up",
        "make room, or choose another prefix and APPTAINER_TMPDIR",
    ),
    _failure(
        r"read-only file system",
        "a folder is read-only",
        "choose another prefix, APPTAINER_TMPDIR or APPTAINER_CACHEDIR",
    ),
    _failure(
        r"toomanyrequests|\b429\b",
        "the registry has had too many requests",
        "log in, or wait for the limit to pass",
        again=Again.LATER,
    ),
    _failure(
        r"unexpected end of JSON input|could not finalize cached file|index\.json",
        "two pulls met in Apptainer's cache",
        "run again",
        again=Again.SOON,
    ),
    _failure(
        r"manifest[ _]unknown|name[ _]unknown|\b404\b",
        "the registry no longer has it",
        "keep every copy of the image that you have",
    ),
    _failure(
        r"unauthorized|authentication required|\b401\b",
        "the registry wants a login",
        "log in with: apptainer registry login",
    ),
    _failure(
        r"(?<!permission )denied\b|forbidden|\b403\b",
        "the registry refuses to serve it",
        "check the repository's name and your login",
    ),
    _failure(
        r"server gave HTTP response to HTTPS client",
        "the registry speaks plain http",
        "set APPTAINER_NOHTTPS=1 if you trust the network",
    ),
    _failure(
        r"x509|certificate|tls: ",
        "the registry's certificate is not trusted",
        "add its authority to the system's certificates",
    ),
    _failure(
        r"timeout|connection (?:refused|reset)|no such host|temporary failure|unexpected EOF|broken pipe"
        r"|network is unreachable|\b50[0234]\b|stream error|: EOF\b",
        "the registry could not be reached",
        "check the network; what was pulled so far is kept",
        again=Again.LATER,
    ),
)


class AttemptFailed(PullFailed):
    """One attempt to pull failed.

    `again` says whether the same may succeed later; `final` that no other way to pull would, either.
    """

    def __init__(self, message: str, *, hint: str = "", again: Again = Again.NEVER, final: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.again = again
        self.final = final


def explain(url: str, status: int, output: str) -> AttemptFailed:
    """Return what a failed pull of `url` means, from the program's exit `status` and the end of its `output`."""
    known = next((failure for failure in _FAILURES if failure.pattern.search(output)), None)
    reason = (
        known.meaning
        if known
        else (f"it was killed by signal {-status}" if status < 0 else f"it ended with status {status}")
    )
    words = "\n".join(f"  {line}" for line in redact(output).strip().splitlines()[-_WORDS_SHOWN:])
    message = f"cannot pull {url}: {reason}" + (f"\n{words}" if words else "")
    if known is None:
        return AttemptFailed(message)
    return AttemptFailed(message, hint=known.hint, again=known.again, final=known.again is Again.NEVER)
