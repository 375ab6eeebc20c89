"""Whose records lie in a work directory: its own, or those of another that somebody copied there.

A record is a folder's own where it was made there, and where the chain links it to one that is, because a folder may
have been moved between two runs. Where no record was made there at all, the whole folder was moved, as long as
anything that the records name is there.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from snakemake_apptainer_freshness.audit.metadata import Metadata
from snakemake_apptainer_freshness.audit.record import Run
from snakemake_apptainer_freshness.errors import UsageError


def whose(folder: Path, runs: Sequence[Run], metadata: Metadata) -> tuple[list[Run], list[Run]]:
    """The runs of this folder, and those of others.

    Raises
    ------
    UsageError
        where all are of another workflow.
    """
    named = [run.workdir for run in runs if run.workdir]
    at_home = {workdir for workdir in set(named) if same(workdir, folder)}
    folders = {"", *(at_home or named[-1:])}
    by_hash = {run.sha256: run for run in runs}
    links = {frozenset((run.workdir, by_hash[run.previous].workdir)) for run in runs if run.previous in by_hash}
    while linked := {one for link in links if link & (folders - {""}) for one in link} - folders:
        folders |= linked
    own = [run for run in runs if run.workdir in folders]
    if named and not at_home and not _anything_here(folder, own, metadata):
        raise UsageError(
            f"the records in {folder} are of another workflow: {own[-1].source.snakefile} in {own[-1].workdir}",
            hint="no output that they name is here; audit the folder that they were made in",
        )
    return own, [run for run in runs if run.workdir not in folders]


def same(one: str, other: Path) -> bool:
    """Whether the recorded folder `one` is `other`, by whatever links it was reached."""
    return one == str(other) or os.path.realpath(one) == os.path.realpath(other)


def _anything_here(folder: Path, runs: Sequence[Run], metadata: Metadata) -> bool:
    paths = {left.path for run in runs for job in run.jobs for left in job.outputs}
    return not paths or any(path in metadata.outputs or (folder / path).exists() for path in paths)
