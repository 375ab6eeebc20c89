"""Reading a workflow: which references it names, by asking Snakemake itself.

Snakemake's own command line parser and its own API are used, in this process, so that profiles, configuration files,
modules, functions, wildcards and ``--directory`` mean what they mean in a run. It is asked as ``--summary`` asks: the
DAG is built once, no job is run, no lock is taken and a running Snakemake is not disturbed. Where the workflow has the
flag on, its DAG is the one of a run, whose containers are pinned by the lock as it is, without a network.

References that can be read off a rule are read off all rules, whatever the targets; they are there even where the DAG
cannot be built. Those that only wildcards or a function make are read off the jobs of the DAG. A rule whose references
may be more than what was seen is named, with the reason.

Keeping Snakemake quiet while it is asked about a workflow.

What Snakemake, its plugins and a Snakefile print (``print``, ``shell``, a program that the Snakefile starts) is part of
no answer of the command line: on standard output it would break a JSON document. It goes into a temporary file without
a name, from Python and from programs alike; the caller may read there why Snakemake ended the process.
"""

import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TextIO

from snakemake import cli
from snakemake.api import SNAKEFILE_CHOICES, SnakemakeApi, resolve_snakefile
from snakemake.exceptions import MissingRuleException, format_exception_to_string

from snakemake_apptainer_freshness import install
from snakemake_apptainer_freshness.actions.workflow import ExistingOutput, RuleUse, Unseen, Workflow
from snakemake_apptainer_freshness.common.progress import ProgressBars
from snakemake_apptainer_freshness.engine import config, containers
from snakemake_apptainer_freshness.engine.directives import (
    container_of,
    directive_of,
    given_references,
    job_references,
    static_references,
    wildcards_of,
)
from snakemake_apptainer_freshness.engine.next_seams import MANAGER
from snakemake_apptainer_freshness.engine.seams import COLLECT_IMAGES
from snakemake_apptainer_freshness.errors import FreshnessError, UsageError
from snakemake_apptainer_freshness.settings import Mode, Options
from snakemake_apptainer_freshness.store import prefix

_STANDARD: Final = (1, 2)


@contextlib.contextmanager
def silenced() -> Iterator[TextIO]:
    """Provide a temporary file that takes all that is printed within the block."""
    with contextlib.ExitStack() as stack:
        printed = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace"))
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # closed by the program that started us
                stream.flush()
        for descriptor in _STANDARD:
            stack.enter_context(_diverted(descriptor, printed.fileno()))
        stack.enter_context(contextlib.redirect_stdout(printed))
        stack.enter_context(contextlib.redirect_stderr(printed))
        yield printed


def last_lines(printed: TextIO, count: int) -> str:
    """Return the last `count` lines of what was said, without empty ones."""
    printed.flush()
    printed.seek(0)
    return "\n".join([line.rstrip() for line in printed if line.strip()][-count:])


@contextlib.contextmanager
def _diverted(descriptor: int, target: int) -> Iterator[None]:
    try:
        kept = os.dup(descriptor)
    except OSError:  # it is closed: nothing can be printed there
        yield
        return
    os.dup2(target, descriptor)
    try:
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


_BAR: Final = "reading the workflow"
_NOT_A_QUESTION: Final = ("lint", "list_rules", "list_target_rules", "print_compilation", "deploy_sources")
"""Options of Snakemake that make it do something else before it comes to a DAG."""
_UNUSED: Final = ("report", "reporter", "report_after_run", "wait_for_files", "wait_for_files_file", "runtime_profile")
_REFUSED: Final = ": error: "
"""Stands before what argparse has to say."""


def read(
    arguments: Sequence[str], *, with_outputs: bool = False, wildcards: Mapping[str, Sequence[str]] | None = None
) -> Workflow:
    """Return what the workflow says that Snakemake finds with `arguments`, its own.

    None are its defaults in this folder.

    `with_outputs` asks Snakemake's metadata what existing outputs were made with; else `outputs` is empty. `wildcards`
    has values of wildcards by name: a container that depends on these alone is seen without a job.

    Raises
    ------
    UsageError
        where there is no Snakefile, Snakemake does not take the arguments, or cannot parse the Snakefile: with
        Snakemake's own message; where nothing makes a target; where no container depends on a wildcard that was given.
    InvalidSettings
        where our part of the workflow's configuration is wrong.
    """
    with contextlib.chdir(Path.cwd()), _bar(), silenced() as printed:
        try:
            return _ask(arguments, _Asked(with_outputs=with_outputs, wildcards=wildcards or {}))
        except FreshnessError:
            raise
        except SystemExit as end:
            raise _exit_error(end, last_lines(printed, 1)) from None
        except Exception as error:  # noqa: BLE001  whatever a Snakefile raises is told as Snakemake tells it
            raise UsageError(_unreadable(error)) from None


@contextlib.contextmanager
def _bar() -> Iterator[None]:
    """Provide a bar for as long as it takes, past the silence; on a terminal alone."""
    if not sys.stderr.isatty():
        yield
        return
    with open(os.dup(sys.stderr.fileno()), "w") as stream, ProgressBars(stream=stream) as bars:  # noqa: PTH123  a descriptor
        bars.begin(_BAR)
        yield


class _Answered(BaseException):
    """Ends Snakemake once the answer is there; no Exception, since Snakemake handles each of those itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What :func:`read` is asked for beside what the rules name."""

    with_outputs: bool
    wildcards: Mapping[str, Sequence[str]]


def _ask(arguments: Sequence[str], asked: _Asked) -> Workflow:
    parser, settings = cli.parse_args([*arguments])
    if resolve_snakefile(settings.snakefile, allow_missing=True) is None:
        raise UsageError(
            f"there is no Snakefile here; looked for {', '.join(map(str, SNAKEFILE_CHOICES))}",
            hint="go to the workflow's folder, or name it behind two dashes: -- --snakefile FILE",
        )
    _make_a_question(settings)
    answers: list[Workflow] = []

    def answer(api: Any, **kwargs: Any) -> None:
        answers.append(_read(api, kwargs, asked))
        raise _Answered

    with _replaced(cli, "SnakemakeApi", _api(answer)), contextlib.suppress(_Answered):
        cli.args_to_api(settings, parser)
    if not answers:
        raise UsageError("Snakemake built no DAG with these arguments", hint="give it those of a run")
    return answers[0]


def _make_a_question(settings: Any) -> None:
    """Change Snakemake's parsed arguments so that it writes no log, asks for no cores, and looks at containers."""
    settings.dryrun = True
    containers.choose(settings)
    settings.logger = []
    for name in (*_NOT_A_QUESTION, *_UNUSED):
        setattr(settings, name, None)


def _api(answer: Callable[..., None]) -> type[SnakemakeApi]:
    """Return Snakemake's API, changed to give each workflow to `answer` where it would make a DAG of it."""

    class ReadingApi(SnakemakeApi):
        def workflow(self, *args: Any, **kwargs: Any) -> Any:
            workflow = super().workflow(*args, **kwargs)
            workflow.dag = functools.partial(answer, workflow)
            return workflow

        def print_exception(self, ex: Exception) -> None:
            if isinstance(ex, FreshnessError):
                raise ex
            raise UsageError(_unreadable(ex, getattr(self._parsed, "linemaps", None))) from None

        @property
        def _parsed(self) -> Any:
            return getattr(self._workflow_api, "_workflow_store", None)

        def __exit__(self, *error: object) -> None:
            super().__exit__(*error)
            temporary = self._parsed and self._parsed.sourcecache.runtime_cache
            if temporary:  # Snakemake leaves it to the end of the interpreter, which our command line does not wait for
                temporary.cleanup()

    return ReadingApi


@contextlib.contextmanager
def _replaced(module: Any, name: str, value: object) -> Iterator[None]:
    former = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, former)


def _read(api: Any, dag_settings: Mapping[str, Any], asked: _Asked) -> Workflow:
    """Return what the workflow of `api` says, which builds the DAG that `dag_settings` ask for."""
    install()
    flag = config.take_from_command_line(api.config_settings)
    dag_api = type(api).dag(api, **dag_settings)  # parses the Snakefile
    workflow = api._workflow  # noqa: SLF001  the parsed one, which has no public name
    options = config.options(workflow, flag)
    if options.mode is Mode.OFF:
        options = replace(options, mode=Options().mode)
    met: dict[Any, None] = {}
    problem = _build(workflow, dag_api.summary, met)
    jobs = [] if problem else list(met | dict.fromkeys(workflow.dag.jobs))
    persistence = workflow.persistence
    images = containers.of(workflow).folder if persistence else prefix.folder(api.deployment_settings.apptainer_prefix)
    return Workflow(
        snakefile=Path(workflow.main_snakefile),
        workdir=Path.cwd(),
        lockfile=config.lock_path(workflow, options),
        options=options,
        prefix=images,
        uses=_uses(workflow, jobs, asked.wildcards),
        unseen=tuple(_unseen(workflow, jobs, problem, asked.wildcards)),
        outputs=tuple(_outputs(persistence, jobs)) if asked.with_outputs else (),
    )


def _build(workflow: Any, summarise: Callable[[], Any], met: dict[Any, None]) -> str:
    """Have `summarise` build the DAG of `workflow`, and no more; why it could not, in Snakemake's words, else empty.

    `met` gets the finished checkpoints that leave the DAG again, once it has what they bring: a run asks for what they
    were made with all the same.
    """
    build = workflow._build_dag  # noqa: SLF001  what all commands that need a DAG have in common

    def build_alone() -> None:
        # A dry run's inventory, which a later run may be told to trust, is not ours to write or to drop.
        workflow.persistence.save_iocache = workflow.persistence.drop_iocache = _do_nothing
        dag = workflow.dag

        def collect_and_note(collect: Callable[[], Any]) -> Any:
            met.update(dict.fromkeys(job for job in dag.jobs if job.is_checkpoint))
            return collect()

        if MANAGER.is_in(workflow) or COLLECT_IMAGES.is_in(dag):
            containers.of(workflow).attach(collect_and_note, lambda pull: pull())
        build()
        raise _Answered

    workflow._build_dag = build_alone  # noqa: SLF001
    try:
        summarise()
    except _Answered:
        return ""
    except MissingRuleException as error:  # of an input it would be another one
        raise UsageError(
            f"Snakemake cannot make a target: {_message_of(error, workflow.linemaps).rpartition(chr(10))[2]}",
            hint="name rules or files that rules make; a single image is locked by its reference, with its scheme",
        ) from None
    except Exception as error:  # noqa: BLE001  what can be read off the rules is worth having all the same
        return _message_of(error, workflow.linemaps)
    return "Snakemake built none"


def _do_nothing() -> None:
    """Do nothing."""


def _uses(
    workflow: Any, jobs: Sequence[Any], wildcards: Mapping[str, Sequence[str]]
) -> Mapping[str, tuple[RuleUse, ...]]:
    _refuse_unused(workflow, wildcards)
    uses: dict[str, set[tuple[str, str, int]]] = {}
    of_jobs = (*job_references(jobs, container_of), *given_references(workflow.rules, wildcards))
    for reference, rule in (*static_references(workflow.rules), *of_jobs):
        line = workflow.linemaps.get(rule.snakefile, {}).get(rule.lineno, rule.lineno) or 0
        uses.setdefault(str(reference), set()).add((str(rule.name), str(rule.snakefile), line))
    return {
        reference: tuple(RuleUse(rule=rule, snakefile=file, line=line) for rule, file, line in sorted(uses[reference]))
        for reference in sorted(uses)
    }


def _refuse_unused(workflow: Any, wildcards: Mapping[str, Sequence[str]]) -> None:
    known = {name for rule in workflow.rules for name in wildcards_of(rule)} if wildcards else set()
    for name in wildcards:
        if name not in known:
            raise UsageError(
                f"no container of this workflow depends on a wildcard {name}",
                hint=f"those that some depend on: {', '.join(sorted(known)) or 'none'}",
            )


def _unseen(
    workflow: Any, jobs: Sequence[Any], problem: str, wildcards: Mapping[str, Sequence[str]]
) -> Iterator[Unseen]:
    if problem:
        yield Unseen(rule="", why=f"the DAG cannot be built: {problem}")
    seen = {job.rule.name for job in jobs}
    checkpoints = sorted({job.rule.name for job in workflow.dag.checkpoint_jobs}) if jobs else []
    static = {rule.name for _, rule in static_references(workflow.rules)}
    for rule in workflow.rules:
        names = wildcards_of(rule) if wildcards else frozenset()
        if not directive_of(rule) or rule.name in static or (names and names <= wildcards.keys()):
            continue
        if problem:
            yield Unseen(rule=rule.name, why="its container depends on a job, and the DAG cannot be built")
        elif checkpoints:
            why = f"its container depends on a job, and checkpoint {', '.join(checkpoints)} may bring more jobs"
            yield Unseen(rule=rule.name, why=why)
        elif rule.name not in seen:
            yield Unseen(rule=rule.name, why="its container depends on a job, and no job of it is in the DAG")


def _outputs(persistence: Any, jobs: Sequence[Any]) -> Iterator[ExistingOutput]:
    for job in sorted(jobs, key=lambda job: str(job.rule.name)):
        reference = container_of(job.rule, job.wildcards_dict) if directive_of(job.rule) else None
        if not isinstance(reference, str) or not reference:
            continue
        for file in sorted(job.output):
            if os.path.lexists(file):
                record = persistence.metadata(file) or {}
                yield ExistingOutput(
                    path=str(file),
                    rule=str(job.rule.name),
                    reference=str(reference),
                    recorded_url=record.get("container_img_url") or "",
                    started=record.get("starttime") or record.get("endtime"),
                )


def _unreadable(error: Exception, linemaps: Any = None) -> str:
    return f"Snakemake cannot read this workflow:\n{_message_of(error, linemaps)}"


def _message_of(error: Exception, linemaps: Any) -> str:
    """Return `error` as Snakemake tells it, without the frames of its own code."""
    try:
        message = str(format_exception_to_string(error, linemaps)).strip()
    except KeyError:  # Snakemake 9.27 looks a line up that it has not parsed yet
        message = str(format_exception_to_string(error)).strip()
    return f"{type(error).__name__}: {error}" if message.startswith("Traceback (") else message


def _exit_error(end: SystemExit, printed: str) -> UsageError:
    """Return the error for a Snakefile or a command line that made Snakemake end the process."""
    if not end.code:
        return UsageError(
            "Snakemake ended before it read a workflow", hint="leave options such as --help and --version out"
        )
    if _REFUSED in printed:
        return UsageError(f"Snakemake does not take its arguments: {printed.partition(_REFUSED)[2]}")
    why = end.code if isinstance(end.code, str) else printed or f"exit status {end.code}"
    return UsageError(f"Snakemake ended before it read a workflow: {why}")
