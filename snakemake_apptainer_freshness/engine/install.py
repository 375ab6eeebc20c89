"""The way into Snakemake: every workflow that its API makes gets a hook.

Snakemake (9.x) has no start-up hook for plugins. What all its commands have in common is
``WorkflowApi._get_workflow``, which makes the one ``Workflow`` object of a process; it is the only method of a class
that we replace. Where it is missing, a user who asked for us is told so, and nobody else notices.
"""

import functools
from collections.abc import Callable
from typing import Any, Final

from snakemake_apptainer_freshness import CONFIG_KEY
from snakemake_apptainer_freshness.engine import config

KNOWN_VERSIONS: Final = "9.0 to 9.27"
"""The Snakemake versions whose seams this package was read and tested against."""

_MARK: Final = "_apptainer_freshness_installed"


def install() -> None:
    """Wrap ``WorkflowApi._get_workflow`` once."""
    from snakemake.api import WorkflowApi

    if getattr(WorkflowApi, _MARK, False):
        return
    setattr(WorkflowApi, _MARK, True)
    if hasattr(WorkflowApi, "_get_workflow"):
        WorkflowApi._get_workflow = _hooked(WorkflowApi._get_workflow)  # noqa: SLF001  the only way in
    else:
        WorkflowApi.__init__ = _refusing(WorkflowApi.__init__)


def _hooked(get_workflow: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(get_workflow)
    def with_hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        asked = config.take_from_command_line(self.config_settings)
        workflow = get_workflow(self, *args, **kwargs)
        _attach(workflow, asked)
        _attach_report(workflow)
        return workflow

    return with_hook


def _attach(workflow: Any, asked: config.CommandLineFlag) -> None:
    """Make the first thing that needs the DAG look for the flag.

    By then the workflow is parsed, so that the flag may stand in any of its configuration files, and nothing of ours is
    imported for a workflow without it.
    """
    if not hasattr(workflow, "_build_dag"):
        _refuse_on_check(workflow, asked)
        return
    build_dag = workflow._build_dag  # noqa: SLF001  what all commands that need a DAG have in common

    def build_dag_with_pins(*args: Any, **kwargs: Any) -> Any:
        if not config.is_wanted(workflow, asked):
            return build_dag(*args, **kwargs)
        from snakemake_apptainer_freshness.engine import hook

        return hook.build_dag(workflow, asked, functools.partial(build_dag, *args, **kwargs))

    workflow._build_dag = build_dag_with_pins  # noqa: SLF001  of this one object


def _attach_report(workflow: Any) -> None:
    """Let ``--report FILE --reporter apptainer-freshness`` mean what it says; see :mod:`.engine.reporter`."""
    create_report = getattr(workflow, "create_report", None)
    if create_report is None:
        return

    def create_report_asked_for(*args: Any, **kwargs: Any) -> Any:
        from snakemake_apptainer_freshness.engine import reporter

        return reporter.create(create_report, *args, **kwargs)

    workflow.create_report = create_report_asked_for


def _refuse_on_check(workflow: Any, asked: config.CommandLineFlag) -> None:
    check = getattr(workflow, "check", None)

    def refusing_check(*args: Any, **kwargs: Any) -> Any:
        if config.is_wanted(workflow, asked):
            raise unsupported("Workflow._build_dag")
        return check(*args, **kwargs) if check else None

    workflow.check = refusing_check


def _refusing(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def refusing_init(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if config.is_visible(self.config_settings):
            raise unsupported("WorkflowApi._get_workflow")

    return refusing_init


def unsupported(seam: str, *, instead: str = "") -> Exception:
    """The error for a Snakemake that lacks `seam`, in Snakemake's own type, so that it prints it well.

    `instead` is what a user can do to go without it.
    """
    from snakemake.common import __version__

    from snakemake_apptainer_freshness.engine.messages import workflow_error
    from snakemake_apptainer_freshness.errors import UnsupportedSnakemake

    error = UnsupportedSnakemake(
        f"apptainer-freshness cannot pin the containers of this workflow: Snakemake {__version__} has no {seam}",
        hint=f"use a Snakemake from {KNOWN_VERSIONS}, upgrade snakemake-apptainer-freshness, "
        f"{instead}{', ' if instead else ''}or turn it off with --config {CONFIG_KEY}=off",
    )
    return workflow_error(str(error))
