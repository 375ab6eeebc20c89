"""The package that Snakemake discovers.

Snakemake imports every top-level package named ``snakemake_report_plugin_*`` at each start of its command line, in
the main process and in the process of every job; that is this plugin's way in. So importing it costs almost nothing,
and it never breaks a Snakemake that does not use it: where installing fails, the failure is told only to those who
asked for us.
"""

import os
import sys

from snakemake_interface_report_plugins.reporter import ReporterBase


class Reporter(ReporterBase):
    """What ``--reporter apptainer-freshness`` would render."""

    def render(self) -> None:
        """Say that this version renders no report."""
        from snakemake_interface_common.exceptions import WorkflowError

        raise WorkflowError(
            "apptainer-freshness has no report in this version; the images of a run stand in its lock file and in "
            "Snakemake's own report (--reporter html)"
        )


def _install() -> None:
    try:
        from snakemake_apptainer_freshness import install

        install()
    except Exception as error:  # noqa: BLE001  a broken plugin must not break a Snakemake that does not use it
        if os.environ.get("SNAKEMAKE_APPTAINER_FRESHNESS"):
            sys.exit(f"apptainer-freshness cannot be used: {type(error).__name__}: {error}")


_install()
