"""``apptainer-freshness export``: the pinned references of the lock for other tools."""

import re
from pathlib import Path
from typing import Final

import click

from snakemake_apptainer_freshness.cli import output
from snakemake_apptainer_freshness.cli.common import lockfile_option, need_lock
from snakemake_apptainer_freshness.errors import LocalIOError, UsageError

_FORMS: Final = ("list", "skopeo", "regsync", "cyclonedx", "nextflow", "galaxy")
_TARGET: Final = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[a-z0-9._-]+)*/?")
_HELP: Final = """\
Write the pinned references of the lock in the format of another tool.

\b
  list       one pinned reference a line
  skopeo     a file for: skopeo sync --scoped --all --src yaml --dest docker FILE REGISTRY
  regsync    a file for: regsync once --config FILE   (with --to)
  cyclonedx  a bill of materials, CycloneDX 1.6: each container with its digest
  nextflow   a nextflow.config with a map from the workflow's references to the pinned ones
  galaxy     a container resolver of type mapping; the tools' identifiers in it are yours to correct

No registry is asked. References that the other tool cannot express are left out, and named on standard error.

Exit status: 0 where it is written, 2 wrong use or bad input, 3 where a file could not be read or written.
"""


@click.command("export", help=_HELP, short_help="Write the pinned references for other tools.")
@lockfile_option
@click.option("--as", "form", type=click.Choice(_FORMS), default="list", show_default=True, help="The form to write.")
@click.option(
    "--to", "target", metavar="REGISTRY", default="", help="Where regsync copies to, as in mirror.example/lab."
)
@click.option(
    "--output",
    "file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write.  [default: standard output]",
)
def command(lockfile: Path | None, form: str, target: str, file: Path | None) -> int:
    """Write the pinned references of the lock in the format of another tool."""
    from snakemake_apptainer_freshness.actions.export import export
    from snakemake_apptainer_freshness.common.files import write_atomically

    if (form == "regsync") != bool(target):
        raise UsageError(
            "--to says where regsync copies to", hint="give --to with --as regsync, and with no other form"
        )
    if target and not _TARGET.fullmatch(target):
        raise UsageError(f"--to cannot be {target!r}", hint="write a registry, as in mirror.example:5000/lab")
    path, lock = need_lock(lockfile, hint="make one with: apptainer-freshness lock")
    if file is not None and file.resolve() == path.resolve():
        raise UsageError(f"cannot export into {file}: that is the lock", hint="name another file")
    made = export(lock, form, target=target)
    if file is None:
        click.echo(made.text, nl=False)
    else:
        try:
            write_atomically(file, made.text.encode())
        except OSError as error:
            raise LocalIOError(
                f"cannot write {file}: {error.strerror}", hint="name a file that can be written"
            ) from error
    for reference, why in made.left_out.items():
        output.note(f"left out: {reference}: {why}")
    return 0
