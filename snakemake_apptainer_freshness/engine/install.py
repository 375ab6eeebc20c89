"""Installing the hook: every workflow that Snakemake's API makes gets one.

Snakemake (9.x) has no start-up hook for plugins. What all its commands have in common is
``WorkflowApi._get_workflow``, which makes the one ``Workflow`` object of a process; it is the only method of a class
that we replace. Where it is missing, only a user who asked for us is told so.
"""

import functools
from collections.abc import Callable
from typing import Any, Final

from snakemake_apptainer_freshness.engine import config
from snakemake_apptainer_freshness.engine.seams import BUILD_DAG, CREATE_REPORT, GET_WORKFLOW, INCLUDE, unsupported

_MARK: Final = "_apptainer_freshness_installed"


def install() -> None:
    """Wrap ``WorkflowApi._get_workflow`` once."""
    from snakemake.api import WorkflowApi

    if getattr(WorkflowApi, _MARK, False):
        return
    setattr(WorkflowApi, _MARK, True)
    if GET_WORKFLOW.is_in(WorkflowApi):
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
        _attach_include(workflow)
        return workflow

    return with_hook


def _attach(workflow: Any, asked: config.CommandLineFlag) -> None:
    """Look for the flag when Snakemake first builds the DAG.

    By then the workflow is parsed, so that the flag may stand in any of its configuration files, and nothing of ours is
    imported for a workflow without it.
    """
    if not BUILD_DAG.is_in(workflow):
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
    """Have ``--report FILE --reporter apptainer-freshness`` make our report; see :mod:`.engine.reporter`."""
    if not CREATE_REPORT.is_in(workflow):
        return
    create_report = workflow.create_report

    def create_report_asked_for(*args: Any, **kwargs: Any) -> Any:
        from snakemake_apptainer_freshness.engine import reporter

        return reporter.create(create_report, *args, **kwargs)

    workflow.create_report = create_report_asked_for


def _attach_include(workflow: Any) -> None:
    """Let the error of a schema that does not know the flag say how it can be given all the same."""
    if not INCLUDE.is_in(workflow):
        return
    include = workflow.include

    def include_with_advice(*args: Any, **kwargs: Any) -> Any:
        try:
            return include(*args, **kwargs)
        except Exception as error:
            config.advise(error)
            raise

    workflow.include = include_with_advice


def _refuse_on_check(workflow: Any, asked: config.CommandLineFlag) -> None:
    check = getattr(workflow, "check", None)

    def refusing_check(*args: Any, **kwargs: Any) -> Any:
        if config.is_wanted(workflow, asked):
            raise unsupported(BUILD_DAG)
        return check(*args, **kwargs) if check else None

    workflow.check = refusing_check


def _refusing(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def refusing_init(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if config.is_visible(self.config_settings):
            raise unsupported(GET_WORKFLOW)

    return refusing_init
