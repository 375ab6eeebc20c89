"""A workflow as the command line sees it: plain values, read by :mod:`.engine.query`.

The verbs of the command line and their actions need to know which references a workflow names, where its lock and its
images are, and what its finished outputs were made with. Reading that needs Snakemake; using it does not.
What could not be seen is part of the answer: a reference that only a job which is not in the DAG would have named is
neither an orphan of the lock nor missing from it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from snakemake_apptainer_freshness.settings import Options


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleUse:
    """One rule that names a reference, and where its Snakefile says so; `line` is 0 where that is not known."""

    rule: str
    snakefile: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """A rule whose containers could not be determined, and why; `rule` is empty where it is the DAG itself."""

    rule: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExistingOutput:
    """An existing output of a job in the DAG whose rule has a container.

    `path` is as Snakemake names it. `reference` is what the workflow says now; `recorded_url` is what Snakemake's own
    metadata says of the container that made the file, and empty where nothing is recorded; `started` is when the job
    started by the same metadata, in seconds since the epoch.
    """

    path: str
    rule: str
    reference: str
    recorded_url: str
    started: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """The containers of a workflow: its references, its lock, its image folder and its outputs.

    `uses` has the rules that name each reference, by the reference as the workflow says it, sorted. `prefix` is
    Snakemake's image folder for this workflow. `options` are the defaults where the workflow does not have the flag on.
    All paths are absolute; none of them need be there but the Snakefile and the working directory. `snakefile` is None
    where references were named without a workflow.
    """

    snakefile: Path | None
    workdir: Path
    lockfile: Path
    options: Options
    prefix: Path
    uses: Mapping[str, tuple[RuleUse, ...]]
    unseen: tuple[Unseen, ...]
    outputs: tuple[ExistingOutput, ...]


def of_references(references: Iterable[str], *, locked: Iterable[str], lockfile: Path, prefix: Path) -> Workflow:
    """Return a workflow that names `references` and what is `locked` already, in no rule."""
    return Workflow(
        snakefile=None,
        workdir=Path.cwd(),
        lockfile=lockfile.absolute(),
        options=Options(),
        prefix=prefix.absolute(),
        uses=dict.fromkeys(sorted({*references, *locked}), ()),
        unseen=(),
        outputs=(),
    )
