"""The page of an audit by way of Snakemake: ``snakemake --report audit.html --reporter apptainer-freshness``.

Snakemake's command line takes its own reporter wherever ``--report`` stands, whatever ``--reporter`` says
(``snakemake/cli.py``, ``args_to_api``); a plugin's own path option, ``--report-apptainer-freshness-path``, is what it
would let through. Both work here: the workflow's ``create_report`` looks at what the command line said, by Snakemake's
own parser, so that profiles count, and puts our reporter in.

What is audited is the folder that Snakemake works in, with no registry asked.
"""

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness.engine.messages import Line, as_workflow_errors, log_line
from snakemake_apptainer_freshness.errors import LocalIOError, UsageError

NAME: Final = "apptainer-freshness"
OWN: Final = "html"
"""Snakemake's own reporter."""


def create(create_report: Callable[..., Any], report_plugin: Any, report_settings: Any, *rest: Any, **more: Any) -> Any:
    """Create the report: ours, where the command line asks for ours and Snakemake chose its own."""
    if getattr(report_plugin, "name", "") == OWN and _asked_for(sys.argv[1:]):
        from snakemake_interface_report_plugins.registry import ReportPluginRegistry

        report_plugin = ReportPluginRegistry().get_plugin(NAME)
        report_settings = report_plugin.settings_cls(path=report_settings.path)
    return create_report(report_plugin, report_settings, *rest, **more)


def _asked_for(arguments: list[str]) -> bool:
    """Return whether the command line, or a profile that it names, asks for our reporter.

    Snakemake's API can be used by any program: arguments that Snakemake does not understand ask for nothing.
    """
    from snakemake.cli import parse_args

    silence = io.StringIO()
    try:
        with contextlib.redirect_stderr(silence), contextlib.redirect_stdout(silence):
            _, parsed = parse_args(arguments)
    except (Exception, SystemExit):  # noqa: BLE001  whatever it is, it is another program's command line
        return False
    return getattr(parsed, "reporter", None) == NAME


def render(path: Path) -> None:
    """Write the page for the current folder to `path`; errors are Snakemake's."""
    from snakemake_apptainer_freshness.audit.judge import audit
    from snakemake_apptainer_freshness.audit.render.page.document import render as page_of
    from snakemake_apptainer_freshness.common.files import write_atomically
    from snakemake_apptainer_freshness.engine.persistence import read

    with as_workflow_errors():
        if path.suffix != ".html":
            raise UsageError(f"cannot write the audit to {path}: it is one HTML page", hint="name a file *.html")
        answer = audit([Path.cwd()], read_metadata=read)
        try:
            write_atomically(path, page_of(answer).encode())
        except OSError as error:
            raise LocalIOError(
                f"cannot write the page of the audit to {path}: {error.strerror}", hint="name another file"
            ) from error
    log_line(Line(text=f"{NAME}: {answer.answer}"))
