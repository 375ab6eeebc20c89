"""An audit as one HTML page for people; :mod:`.page` makes it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.audit.render import FormatOption, More, check_file, write_lines
from snakemake_apptainer_freshness.audit.results import Audit

OPTION: Final = FormatOption(flag="--html", metavar="FILE", help="Write the answer as one HTML page.")
MORE: Final[Sequence[FormatOption]] = ()


def check(audit: Audit, target: Path | None, more: More) -> None:  # noqa: ARG001  as every format has it
    """Refuse a page that cannot be written."""
    check_file(target, "page")


def write(audit: Audit, target: Path | None, more: More) -> None:  # noqa: ARG001
    """Write the page."""
    from snakemake_apptainer_freshness.audit.render.page.document import render

    write_lines([render(audit)], target, "page")
