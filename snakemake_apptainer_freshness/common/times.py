"""Times, as records have them: UTC, ISO 8601, milliseconds; and what runs are called, which is when they began.

Loads nothing else, for the processes of jobs use it.
"""

import re
from datetime import UTC, datetime
from typing import Final

TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z", re.ASCII)
"""What is read as a time."""

RUN: Final = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z", re.ASCII)
"""What a run is called; the names sort by time."""

_MINUTE: Final = 60
_HOUR: Final = 3600


def now() -> str:
    """Return the time."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def age(moment: str) -> float:
    """Return the seconds since `moment`; less than 0 where it is to come. Raises ValueError where it is no time."""
    if TIME.fullmatch(moment) is None:
        raise ValueError("no time")
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()


def ago(seconds: float) -> str:
    """Return a time that is `seconds` back for a person, as in ``3 min ago``."""
    if seconds < _MINUTE:
        return f"{max(int(seconds), 0)} s ago"
    return f"{int(seconds / _MINUTE)} min ago" if seconds < _HOUR else f"{seconds / _HOUR:.1f} h ago"
