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


def now() -> str:
    """Return the time."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
