"""Every name of Snakemake that is wrapped, called, read or subclassed here: what for, and what happens without it.

Snakemake has few interfaces that it promises to keep, so each of its names that this package needs stands in one table,
with the first version of Snakemake 9 that has it. What is needed is looked for on the object at hand, never concluded
from a version number: a Snakemake that moves a method away is told by the name of the method, and only to a workflow
that has the flag on. docs/hook.md shows the table; a test compares it with the installed Snakemake.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Any, Final, NamedTuple

from snakemake_apptainer_freshness import CONFIG_KEY
from snakemake_apptainer_freshness.engine.versions import SNAKEMAKES

OLDEST: Final = SNAKEMAKES[0].rpartition(".")[0]
KNOWN_VERSIONS: Final = f"{OLDEST} to {SNAKEMAKES[-1].rpartition('.')[0]}"
"""The versions of Snakemake that the matrix of tests has run."""


class SeamUse(StrEnum):
    """What is done with a name of Snakemake."""

    WRAPPED = "wrapped"
    REPLACED = "replaced"
    CALLED = "called"
    READ = "read"
    SUBCLASSED = "subclassed"


class Seam(NamedTuple):
    """One name of Snakemake."""

    name: str
    """As a person writes it: the class, a dot, the attribute; or a function or class with its module."""
    use: SeamUse
    why: str
    without: str
    """What happens with a Snakemake that lacks it."""
    since: str = OLDEST
    """The first version of Snakemake 9 that has it."""

    @property
    def attribute(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]

    def is_in(self, owner: Any) -> bool:
        """Return whether `owner`, an object or a class, has this attribute."""
        return hasattr(owner, self.attribute)


_STOPS: Final = "a workflow with the flag stops and says so"

GET_WORKFLOW: Final = Seam(
    name="WorkflowApi._get_workflow",
    use=SeamUse.WRAPPED,
    why="the way in: makes the one `Workflow` object of a process; the only method of a class that is replaced",
    without=_STOPS,
)
BUILD_DAG: Final = Seam(
    name="Workflow._build_dag",
    use=SeamUse.WRAPPED,
    why="all commands that need a job graph call it, after the workflow was parsed. The references that rules name are "
    "pinned before it; after it, and before any job, the user is told and the lock is written",
    without=_STOPS,
)
CREATE_REPORT: Final = Seam(
    name="Workflow.create_report",
    use=SeamUse.WRAPPED,
    why="lets `--report FILE --reporter apptainer-freshness` mean what it says: Snakemake takes its own reporter "
    "wherever `--report` stands",
    without="`--report-apptainer-freshness-path` alone chooses our reporter",
)
INCLUDE: Final = Seam(
    name="Workflow.include",
    use=SeamUse.WRAPPED,
    why="parses a Snakefile. The error of a configuration schema that does not know the flag is followed by how to "
    "give it past the schema",
    without="that error stands alone",
)
EXPAND_CONTAINER: Final = Seam(
    name="Rule.expand_container_img",
    use=SeamUse.WRAPPED,
    why="gives the image of a job. Every kind of directive meets here: of a rule, global, `containerized:`, included, "
    "from a module, with wildcards, a function. `container: None` stays what it is",
    without="`Rule.container_img` is replaced: such a Snakemake has no wildcards or functions there",
    since="9.5",
)
CONTAINER: Final = Seam(
    name="Rule.container_img",
    use=SeamUse.READ,
    why="what a rule says; replaced where Snakemake asks no method for it",
    without=_STOPS,
)
COLLECT_IMAGES: Final = Seam(
    name="DAG.update_container_imgs",
    use=SeamUse.WRAPPED,
    why="collects the images of all jobs, at first and after each checkpoint. References that only a job makes are "
    "pinned here, all at once",
    without=_STOPS,
)
PULL_IMAGES: Final = Seam(
    name="DAG.pull_container_imgs",
    use=SeamUse.WRAPPED,
    why="fetches images before the jobs that need them. Ours are fetched and proven; Snakemake finds them there, under "
    "the names that it expects, and fetches the rest",
    without=_STOPS,
)
IMAGES: Final = Seam(
    name="DAG.container_imgs",
    use=SeamUse.REPLACED,
    why="the images of all jobs by url. Those of pinned references become guarded ones; a clean-up is shown those to "
    "keep",
    without=_STOPS,
)
JOBS_START: Final = Seam(
    name="DAG.register_running",
    use=SeamUse.WRAPPED,
    why="says which jobs start, for [the record](records.md); in a job's process for the word that it leaves",
    without=_STOPS,
)
JOB_ENDS: Final = Seam(
    name="DAG.finish",
    use=SeamUse.WRAPPED,
    why="says which job ended well, for the record",
    without=_STOPS,
)
CHECK_OUTPUT: Final = Seam(
    name="DAG.check_and_touch_output",
    use=SeamUse.WRAPPED,
    why="comes after a job and before its outputs are taken: a job whose image was touched while it ran fails here",
    without="an image is looked at before its job alone",
)
LOCAL_EXECUTION: Final = Seam(
    name="Workflow.local_exec",
    use=SeamUse.READ,
    why="whether this process starts the jobs itself. Where others do, it hashes an image that it has just fetched "
    "once more, for all of them",
    without="each job hashes an image that was fetched less than two seconds before the first",
)
HOLD_LOCK: Final = Seam(
    name="Persistence.lock",
    use=SeamUse.WRAPPED,
    why="held from before the first job until after the last, however the run ends: the end of the record",
    without=_STOPS,
)
HANDLE_ERROR: Final = Seam(
    name="JobScheduler._handle_error",
    use=SeamUse.WRAPPED,
    why="tells the record of a job that failed, when it does",
    without="a failed job is recorded with its next attempt, or at the end of the run",
)
EXECUTOR: Final = Seam(
    name="JobScheduler._executor",
    use=SeamUse.READ,
    why="its `cancel` is wrapped: it tells the record that a user stopped the run",
    without="a run that was stopped is recorded as failed",
)
USER_KILL: Final = Seam(
    name="JobScheduler._user_kill",
    use=SeamUse.READ,
    why="tells a run that a user stopped from one that failed",
    without="only what the executor was told counts",
)
FAILED_JOBS: Final = Seam(
    name="JobScheduler.failed",
    use=SeamUse.READ,
    why="the jobs that failed last, for the record",
    without="they are recorded without a result",
)
RUNNING_JOBS: Final = Seam(
    name="JobScheduler.running",
    use=SeamUse.READ,
    why="the jobs whose image was refused, for the record",
    without="they are recorded without a result",
)
SOFTWARE_CHANGED: Final = Seam(
    name="Persistence.software_stack_changed",
    use=SeamUse.WRAPPED,
    why="gives the outputs that were made with other software, whichever backend keeps the metadata. Snakemake takes "
    "the pinned name of an image for other software than its tag; those that the same image made, provably, are taken "
    "out ([old outputs](adopt.md)). In a job's process it gives none: the main process has decided",
    without=f"{_STOPS}, unless `rerun` is `always`",
)
SOFTWARE_HASH: Final = Seam(
    name="Persistence._software_stack_hash",
    use=SeamUse.CALLED,
    why="Snakemake's own hash, with the recorded container in place of the pinned one: where that is not the recorded "
    "hash, conda or modules changed as well, and Snakemake's answer stands",
    without=f"{_STOPS}, unless `rerun` is `always`",
)
METADATA: Final = Seam(
    name="Persistence.metadata",
    use=SeamUse.CALLED,
    why="what an output was made with",
    without=f"{_STOPS}, unless `rerun` is `always`",
)
CONDA_IMAGE: Final = Seam(
    name="snakemake.deployment.conda.Env._container_img",
    use=SeamUse.REPLACED,
    why="the image of a conda environment inside a container, in a copy that the hash is computed of",
    without="such outputs are made again",
)
CONDA_HASH: Final = Seam(
    name="snakemake.deployment.conda.Env._hash",
    use=SeamUse.REPLACED,
    why="the hash of that copy, which Snakemake is to compute anew",
    without="such outputs are made again",
)
CLEAN_UP: Final = Seam(
    name="Persistence.cleanup_containers",
    use=SeamUse.WRAPPED,
    why="deletes images for `--container-cleanup-images`. It is shown what registered locks need as if this workflow "
    "used it, so that it keeps that. Wrapped in commands that run no job alone",
    without="nothing: such a Snakemake deletes no images",
)
IMAGE_FOLDER: Final = Seam(
    name="Persistence.container_img_path",
    use=SeamUse.READ,
    why="where the image files of this workflow lie",
    without=_STOPS,
)
IMAGE: Final = Seam(
    name="snakemake.deployment.singularity.Image",
    use=SeamUse.SUBCLASSED,
    why="the `path` of a pinned image is given out only while the file is what the pin names. It is asked for in the "
    "process that runs the job, right before it runs",
    without=_STOPS,
)
PROGRAM: Final = Seam(
    name="snakemake.deployment.singularity.Singularity",
    use=SeamUse.CALLED,
    why="looks for the program before anything is written; its version, for the record",
    without=_STOPS,
)
JOB_CONFIG: Final = Seam(
    name="ConfigSettings.config_args",
    use=SeamUse.REPLACED,
    why="what Snakemake puts into the command of every job; the pins travel there",
    without=_STOPS,
)
SOURCES: Final = Seam(
    name="DAG.get_sources",
    use=SeamUse.WRAPPED,
    why="the files that Snakemake brings to jobs that share no file system with it; a file of pins, in a run with "
    "hundreds of images, is one of them",
    without="such a job stops and says so",
)
SHARED: Final = Seam(
    name="StorageSettings.shared_fs_usage",
    use=SeamUse.READ,
    why="whether a dry run looks for its images. Its entries are members of an enum, or, by the command line of "
    "Snakemake 9.0, their names",
    without=_STOPS,
)
DEFAULT_STORAGE: Final = Seam(
    name="StorageRegistry.default_storage_provider",
    use=SeamUse.READ,
    why="where jobs share no file system with the main process, their word for the record travels through it, as the "
    "sources of the workflow do",
    without="the record does not say where such a job ran, nor what its process found of its image",
)
PARSE: Final = Seam(
    name="snakemake.cli.parse_args",
    use=SeamUse.CALLED,
    why="`--reporter`, and the command line's own reading of a workflow, as Snakemake and its profiles mean them",
    without="our commands that read a workflow stop; a report is Snakemake's own",
)
ARGUMENTS_TO_API: Final = Seam(
    name="snakemake.cli.args_to_api",
    use=SeamUse.CALLED,
    why="the command line's own reading of a workflow: a subclass of `SnakemakeApi`, which runs nothing, takes its "
    "place meanwhile",
    without="our commands that read a workflow stop",
)
PARSED_WORKFLOW: Final = Seam(
    name="WorkflowApi._workflow",
    use=SeamUse.READ,
    why="the parsed workflow, which has no public name, for the command line's own reading",
    without="our commands that read a workflow stop",
)
WORKFLOW_API: Final = Seam(
    name="SnakemakeApi._workflow_api",
    use=SeamUse.READ,
    why="the way to the workflow whose sources are to be removed, and whose lines an error names",
    without="our commands that read a workflow leave a folder in the temporary folder until they end",
)
WORKFLOW_STORE: Final = Seam(
    name="WorkflowApi._workflow_store",
    use=SeamUse.READ,
    why="the workflow, where it was parsed",
    without="our commands that read a workflow leave a folder in the temporary folder until they end",
)
KEEP_INVENTORY: Final = Seam(
    name="Persistence.save_iocache",
    use=SeamUse.REPLACED,
    why="the inventory of a dry run stays as it is when our commands read a workflow",
    without="nothing: such a Snakemake keeps no inventory",
)
DROP_INVENTORY: Final = Seam(
    name="Persistence.drop_iocache",
    use=SeamUse.REPLACED,
    why="as for `save_iocache`",
    without="nothing: such a Snakemake keeps no inventory",
)
TELL_ERROR: Final = Seam(
    name="snakemake.exceptions.format_exception_to_string",
    use=SeamUse.CALLED,
    why="tells a user why a workflow cannot be read, in Snakemake's words",
    without="our commands that read a workflow stop",
)
NO_RULE: Final = Seam(
    name="snakemake.exceptions.MissingRuleException",
    use=SeamUse.CALLED,
    why="tells a target that nothing makes from input files that are not here, when our commands read a workflow",
    without="our commands that read a workflow stop",
)
RULE_WILDCARDS: Final = Seam(
    name="Rule.wildcard_names",
    use=SeamUse.READ,
    why="which wildcards a container function may ask for, where `lock --wildcard` gives their values",
    without="such values are given in vain, and the command says so",
)
TEXT_WILDCARDS: Final = Seam(
    name="snakemake.io.get_wildcard_names",
    use=SeamUse.CALLED,
    why="which wildcards a container's text has, for the same",
    without="our commands that read a workflow stop",
)

SEAMS: Final = tuple(value for value in [*globals().values()] if isinstance(value, Seam))
"""The table, in its order."""


def missing(owner: Any, *seams: Seam) -> Iterator[Seam]:
    """Give those of `seams` that `owner` lacks."""
    return (seam for seam in seams if not seam.is_in(owner))


def require(owner: Any, *seams: Seam, instead: str = "") -> None:
    """Hold `owner`, one of Snakemake's objects, to having all `seams`.

    Raises
    ------
    WorkflowError
        for the first that is missing; see :func:`unsupported`.
    """
    for seam in missing(owner, *seams):
        raise unsupported(seam, instead=instead)


def names(settings: Iterable[Any]) -> set[str]:
    """Give the names of `settings` in capital letters: of members of an enum, or words of the command line of 9.0."""
    return {getattr(setting, "name", str(setting).replace("-", "_").upper()) for setting in settings}


def when_released(persistence: Any, do: Callable[[], None]) -> None:
    """Have `do` called when the run gives its lock of the working directory back, however it ends.

    Raises
    ------
    WorkflowError
        where this Snakemake holds no such lock.
    """
    require(persistence, HOLD_LOCK)
    lock = persistence.lock

    @contextlib.contextmanager
    def until_released(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with lock(*args, **kwargs) as held:
            try:
                yield held
            finally:
                do()

    persistence.lock = until_released


def unsupported(seam: Seam, *, nor: Seam | None = None, instead: str = "") -> Exception:
    """Return the error for a Snakemake that lacks `seam`, in Snakemake's own type, so that it prints it well.

    `nor` is what it could have in its place, and has not; `instead` what a user can do to go without it.
    """
    from importlib import metadata

    from snakemake_apptainer_freshness.engine.messages import workflow_error
    from snakemake_apptainer_freshness.errors import UnsupportedSnakemake

    error = UnsupportedSnakemake(
        f"apptainer-freshness cannot pin the containers of this workflow: Snakemake {metadata.version('snakemake')} "
        f"has no {seam.name}"
        f"{f', nor {nor.name}' if nor else ''}",
        hint=f"use a Snakemake from {KNOWN_VERSIONS}, upgrade snakemake-apptainer-freshness, "
        f"{instead}{', ' if instead else ''}or turn it off with --config {CONFIG_KEY}=off",
    )
    return workflow_error(str(error))
