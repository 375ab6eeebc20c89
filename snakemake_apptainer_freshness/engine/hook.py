"""Which role this process has for a workflow with the flag: main process, job, or none.

The main process of a run pins (:class:`.main.MainSession`). The process of a job (every ``exec_mode`` but the default
one) takes the pins that the main process handed over (:class:`.engine.handover.JobPins`); it asks no registry and
writes no lock. Each loads only what it needs.
"""

from collections.abc import Callable
from typing import Any

from snakemake_apptainer_freshness.engine import config, containers
from snakemake_apptainer_freshness.engine.messages import Line, as_workflow_errors, log_line
from snakemake_apptainer_freshness.engine.session import Session
from snakemake_apptainer_freshness.errors import UsageError
from snakemake_apptainer_freshness.settings import Mode, Options


def build_dag(workflow: Any, asked: config.CommandLineFlag, build: Callable[[], Any]) -> Any:
    """Build the DAG of `workflow` with `build`, its containers pinned; `asked` is what the command line said."""
    from snakemake_interface_executor_plugins.settings import ExecMode

    with as_workflow_errors():
        if workflow.exec_mode == ExecMode.DEFAULT:
            session = _for_main_process(workflow, config.options(workflow, asked))
        else:
            session = _for_job(workflow, asked)
    return build() if session is None else session.build_dag(build)


def _for_main_process(workflow: Any, options: Options) -> Session | None:
    from snakemake_apptainer_freshness.engine import handover

    if options.mode is Mode.OFF:
        handover.hand_over(workflow.config_settings, config.PINS_OFF)
        return None
    of_workflow = containers.of(workflow)
    if not of_workflow.are_run:
        without = f"without --sdm {of_workflow.method} Snakemake ignores containers"
        log_line(Line(text=f"apptainer-freshness: nothing to do: {without}"))
        if workflow.executor_plugin is None:
            from snakemake_apptainer_freshness.engine import cleanup

            cleanup.protect(workflow)  # a clean-up of images would then take all of them
        return None
    from snakemake_apptainer_freshness.engine.main import MainSession

    return MainSession(workflow, of_workflow.options(options))


def _for_job(workflow: Any, asked: config.CommandLineFlag) -> Session | None:
    if asked.pins == config.PINS_OFF or not containers.of(workflow).are_run:
        return None
    if asked.pins is not None:
        from snakemake_apptainer_freshness.engine import handover, pins_file
        from snakemake_apptainer_freshness.engine.handover import JobPins, leave_reruns_to_main
        from snakemake_apptainer_freshness.engine.images import Images

        handed_over = handover.decode(asked.pins, pins_file.read)
        leave_reruns_to_main(workflow)
        options = Options(mode=handed_over.mode, on_unverified=handed_over.on_unverified, images=handed_over.images)
        images = Images(workflow, options, main=False, hashes=handed_over.hashes)
        if handed_over.run:
            from snakemake_apptainer_freshness.engine import notes
            from snakemake_apptainer_freshness.engine.far_notes import far_notes

            folder, far = notes.folder_for(workflow, handed_over.run), far_notes(workflow, handed_over.run)
            images.watcher = notes.NoteWriter(workflow, folder, images.guarded, far).note_image
        return Session(workflow, JobPins(handed_over.pins), images)
    if config.options(workflow, asked).mode is Mode.OFF:
        return None
    raise UsageError(
        "the process of this job got no pins from the main process that started it",
        hint="start the workflow with a Snakemake that has this plugin installed, too",
    )
