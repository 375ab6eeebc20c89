"""Talking to the user through Snakemake: its logger for lines, its error type for errors.

Problems are warnings, which ``--quiet all`` alone silences; the rest is told at Snakemake's progress level, which any
``--quiet`` silences. The processes of jobs import this, too: what only the start of a run says is in :mod:`.summary`.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from snakemake_interface_common.exceptions import WorkflowError

from snakemake_apptainer_freshness.errors import FreshnessError, redact

_NAMED: Final = 3
"""So many references of one reason are named; `apptainer-freshness lock --check` names all."""


class Line(NamedTuple):
    """A line of output; `problem` tells a warning from information."""

    text: str
    problem: bool = False


def group_by_reason(reasons: Mapping[str, str]) -> Iterator[tuple[list[str], str]]:
    """Yield each reason of `reasons` once, with the references that share it: a host that is down is one line."""
    by_reason: dict[str, list[str]] = {}
    for text, why in reasons.items():
        by_reason.setdefault(" ".join(why.split()), []).append(text)
    for why, named in by_reason.items():
        yield named, why


def list_first(named: Sequence[str]) -> str:
    """Return the first of `named`, and how many more there are."""
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more


def log_line(line: Line) -> None:
    """Log `line`, cleaned; any ``--quiet`` silences information, ``--quiet all`` also problems.

    It may have names in it that other users of a shared folder gave to files, or that a registry gave.
    """
    from snakemake.logging import logger
    from snakemake.settings.enums import Quietness

    text = redact(line.text)
    if line.problem:
        logger.warning(text)
    else:
        logger.info(text, extra={"quietness": Quietness.PROGRESS})


def log_waiting(text: str) -> None:
    """Log what is waited for, where no progress can be drawn."""
    log_line(Line(text=f"apptainer-freshness: {text}"))


def wants_progress(workflow: Any) -> bool:
    """Return whether the user of `workflow` has not silenced progress."""
    from snakemake.settings.enums import Quietness

    return not {Quietness.PROGRESS, Quietness.ALL} & set(workflow.output_settings.quiet or ())


class ContainerFreshnessError(WorkflowError):
    """One of our errors, as Snakemake prints it: its name, the place of its rule where there is one, and its message.

    Snakemake prints the frames of code that is not its own below an error's message. These would tell a user nothing,
    so this error shows none.
    """

    @property
    def __traceback__(self) -> None:
        """No frames."""

    @__traceback__.setter
    def __traceback__(self, frames: object) -> None:
        """Set what unwinding the stack may set."""


def workflow_error(message: str, rule: Any = None) -> ContainerFreshnessError:
    """Return the error with `message`; `rule` gives its place."""
    return ContainerFreshnessError(message, rule=rule)


@contextlib.contextmanager
def as_workflow_errors(explain: Callable[[FreshnessError], str] = str) -> Iterator[None]:
    """Raise our errors of the block as Snakemake's, which it prints without a traceback; `explain` gives the text."""
    try:
        yield
    except FreshnessError as error:
        raise workflow_error(explain(error)) from None
