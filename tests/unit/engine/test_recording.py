"""What a run leaves behind, whatever happens to its jobs, to itself, and to its disk."""

import errno
import hashlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.exceptions import WorkflowError

from snakemake_apptainer_freshness.engine import recording
from snakemake_apptainer_freshness.engine.recording import Recorder
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState
from snakemake_apptainer_freshness.record import journal
from snakemake_apptainer_freshness.record.run import ImageRecord
from snakemake_apptainer_freshness.record.writer import Journal
from snakemake_apptainer_freshness.settings import Options
from tests.support import pins
from tests.support.jobs import Job

TOOL = f"docker://{pins.REPOSITORY}:1.0"
PINNED = f"docker://{pins.REPOSITORY}@{pins.DIGEST}"


@pytest.fixture
def recorder(workflow, tmp_path):
    witnesses = SimpleNamespace(
        record=lambda reference, pinned: ImageRecord(
            reference=reference, pinned=pinned.url, digest=str(pinned.digest), disk="verified"
        )
    )
    made = Recorder(
        workflow,
        options=Options(),
        lock=tmp_path / "containers.lock",
        witnesses=witnesses,
        original=lambda *_: TOOL,
    )
    made.note_pins({TOOL: pins.run_as(TOOL, PINNED, pins.DIGEST)})
    made.attach()
    return made


def start(workflow, *jobs):
    workflow.dag.register_running(list(jobs))


def finish(workflow, job):
    for path in job.output:
        Path(path).write_text("done")
    workflow.dag.finish(job)


def recorded(tmp_path):
    [run] = journal.read_all(tmp_path)
    return run


def test_a_run_that_starts_no_job_leaves_no_record(workflow, recorder, tmp_path):
    with workflow.persistence.lock():
        pass
    assert journal.read_all(tmp_path) == []


def test_a_job_that_finished_is_recorded_with_its_output_and_its_image(workflow, recorder, tmp_path):
    job = Job(1, "a.txt", url=PINNED)
    with workflow.persistence.lock():
        start(workflow, job)
        recorder.note_image(PINNED, DiskFact(state=DiskState.VERIFIED))
        finish(workflow, job)
    run = recorded(tmp_path)
    assert (run.id, run.ending, run.problem, workflow.dag.done) == (recorder.run, "finished", "", ["run", "finish"])
    assert [(image.reference, image.pinned) for image in run.images] == [(TOOL, PINNED)]
    [made] = run.jobs
    assert (made.result, made.reference, made.image, made.disk) == ("finished", TOOL, PINNED, "verified")
    [output] = made.outputs
    assert (output.path, output.size, output.sha256) == ("a.txt", 4, hashlib.sha256(b"done").hexdigest())


def test_an_attempt_that_a_later_one_follows_failed(workflow, recorder, tmp_path):
    with workflow.persistence.lock():
        start(workflow, Job(1, "a.txt"))
        again = Job(1, "a.txt", attempt=2)
        start(workflow, again)
        finish(workflow, again)
    assert [(job.attempt, job.result) for job in recorded(tmp_path).jobs] == [(1, "failed"), (2, "finished")]


@pytest.mark.parametrize(
    ("error", "ending"), [(WorkflowError("a job failed"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_how_a_run_ended_is_recorded_and_its_error_goes_on(workflow, recorder, tmp_path, error, ending):
    def run():
        with workflow.persistence.lock():
            start(workflow, Job(1, "a.txt"), Job(2, "b.txt"))
            workflow.scheduler.failed.add(Job(2, "b.txt"))
            raise error

    with pytest.raises(type(error)):
        run()
    run = recorded(tmp_path)
    assert run.ending == ending
    assert {job.id: str(job.result) for job in run.jobs} == {1: "running", 2: "failed"}


def test_a_job_whose_image_was_refused_failed(workflow, recorder, tmp_path):
    job = Job(1, "a.txt", url=PINNED)

    def run():
        with workflow.persistence.lock():
            start(workflow, job)
            workflow.scheduler.running.add(job)
            recorder.note_image(PINNED, DiskFact(state=DiskState.ALTERED))
            raise WorkflowError("a job failed")

    with pytest.raises(WorkflowError):
        run()
    [made] = recorded(tmp_path).jobs
    assert (made.result, made.disk) == ("failed", "altered")


def test_a_full_disk_is_told_once_and_the_run_goes_on(workflow, recorder, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(recording, "log_line", lambda line: told.append(line.text))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    jobs = [Job(number, f"{number}.txt") for number in (1, 2)]
    with workflow.persistence.lock():
        start(workflow, *jobs)
        monkeypatch.setattr(Journal, "append", full)
        for job in jobs:
            finish(workflow, job)
    assert told == ["apptainer-freshness: no more is recorded of this run: No space left on device"]
    assert workflow.dag.done == ["run", "finish", "finish"]
    assert [str(job.result) for job in recorded(tmp_path).jobs] == ["running", "running"]
    assert recorded(tmp_path).ended == ""


def test_where_no_record_can_be_begun_no_job_starts(workflow, recorder, tmp_path):
    runs = tmp_path / ".snakemake" / "apptainer-freshness"
    assert not runs.exists()
    runs.write_text("in the way")
    with pytest.raises(WorkflowError):
        start(workflow, Job(1, "a.txt"))
    assert workflow.dag.done == []


def test_a_fifo_a_device_or_a_folder_among_the_outputs_is_not_opened(workflow, recorder, tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "_hashed", lambda path: pytest.fail(f"{path} is opened"))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder/of/many").mkdir(parents=True)
    job = Job(1, "pipe", "folder", "/dev/null", "gone")
    with workflow.persistence.lock():
        start(workflow, job)
        workflow.dag.finish(job)
    assert [(one.size, one.sha256) for one in recorded(tmp_path).jobs[0].outputs] == [(0, "")] * 4


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_became_no_file_once_it_was_looked_at_is_not_read(tmp_path, kind):
    path = tmp_path / "output"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/null")
    assert recording._hashed(str(path))[1] == ""


def test_what_was_only_submitted_is_not_called_finished(workflow, recorder, tmp_path):
    workflow.remote_execution_settings.immediate_submit = True
    job = Job(1, "a.txt")
    with workflow.persistence.lock():
        start(workflow, job)
        finish(workflow, job)
    assert recorded(tmp_path).jobs[0].result == "running"
