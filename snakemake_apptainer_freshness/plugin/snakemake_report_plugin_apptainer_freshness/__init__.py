"""The package that Snakemake discovers.

Snakemake imports every top-level package named ``snakemake_report_plugin_*`` at each start of its command line, in
the main process and in the process of every job; that is this plugin's way in. So importing it costs almost nothing,
and it never breaks a Snakemake that does not use it: where installing fails, the failure is told only to those who
asked for us.
"""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from snakemake_interface_report_plugins.reporter import ReporterBase
from snakemake_interface_report_plugins.settings import ReportSettingsBase


@dataclass
class ReportSettings(ReportSettingsBase):
    """What ``--report-apptainer-freshness-…`` says."""

    path: Optional[Path] = field(  # noqa: UP045  Snakemake makes an option of this spelling alone
        default=None,
        metadata={"help": "Where to write the page of the audit; --report says the same.", "required": True},
    )


class Reporter(ReporterBase):
    """``--reporter apptainer-freshness``: the page of an audit of this work directory."""

    def render(self) -> None:
        """Write the page."""
        from snakemake_apptainer_freshness.engine import reporter

        reporter.render(Path(self.settings.path))


def _install() -> None:
    try:
        from snakemake_apptainer_freshness import install

        install()
    except Exception as error:  # noqa: BLE001  a broken plugin must not break a Snakemake that does not use it
        if os.environ.get("SNAKEMAKE_APPTAINER_FRESHNESS"):
            sys.exit(f"apptainer-freshness cannot be used: {type(error).__name__}: {error}")


_install()
