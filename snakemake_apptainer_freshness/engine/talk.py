"""Talking to the user through Snakemake: its logger for lines, its error type for errors."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError

from snakemake_apptainer_freshness.engine.report import Line
from snakemake_apptainer_freshness.errors import FreshnessError


def tell(line: Line) -> None:
    """Log `line`; any ``--quiet`` silences information, ``--quiet all`` also problems."""
    from snakemake.logging import logger
    from snakemake.settings.enums import Quietness

    if line.problem:
        logger.warning(line.text)
    else:
        logger.info(line.text, extra={"quietness": Quietness.PROGRESS})


def wants_progress(workflow: Any) -> bool:
    """Whether the user of `workflow` has not silenced progress."""
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
        """What unwinds the stack may set it."""


def workflow_error(message: str, rule: Any = None) -> ContainerFreshnessError:
    """The error with `message`; `rule` gives its place."""
    return ContainerFreshnessError(message, rule=rule)


@contextlib.contextmanager
def errors_told(explain: Callable[[FreshnessError], str] = str) -> Iterator[None]:
    """Turn our errors into Snakemake's; `explain` gives the text."""
    try:
        yield
    except FreshnessError as error:
        raise workflow_error(explain(error)) from None
