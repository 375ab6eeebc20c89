"""What runs are called on the page: ``run 2 · 25 Nov 04:40``, with the year where it is not the page's own.

An identifier such as ``20261125T044000.123456Z`` tells a program which run is meant. Where a sentence has one, the page
puts the name in its place.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from snakemake_apptainer_freshness.audit.results import Audit
from snakemake_apptainer_freshness.common.times import RUN

_MENTIONED: Final = re.compile(rf"(?:\bruns? )?({RUN.pattern})", re.ASCII)
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
RunNames = Mapping[tuple[str, str], str]
"""The name of each run, by work directory and identifier."""


def run_names(audit: Audit) -> RunNames:
    """Return the name of each run of `audit`; one without a number is called ``run``."""
    year = audit.made_at[:4]
    names = {}
    for run in audit.runs:
        number = audit.numbers.get((run.workdir, run.id))
        names[run.workdir, run.id] = f"run{f' {number}' if number else ''} · {day_and_time(run.started, year)}"
    return names


def day_and_time(text: str, year: str) -> str:
    """Return an ISO time in UTC as ``25 Nov 04:40``, with its year where that is not `year`; `text` if it is none."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    own = "" if f"{time.year:04}" == year else f" {time.year}"
    return f"{time.day} {_MONTHS[time.month - 1]}{own} {time:%H:%M}"


def with_names(text: str, workdir: str, names: RunNames) -> str:
    """Return `text` with the names of runs of `workdir` in place of their identifiers."""
    return _MENTIONED.sub(lambda match: names.get((workdir, match[1]), match[0]), text)
