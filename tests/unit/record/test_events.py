"""Values become tables, and tables values; what does not fit is damage that says where."""

import json
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.common.tables import Damaged, NewerVersion
from snakemake_apptainer_freshness.record import events
from snakemake_apptainer_freshness.record.events import RecordReader
from snakemake_apptainer_freshness.record.run import Ending, JobResult, OutputRecord
from tests.support.journals import DEAD, IMAGE, JOB, RUN, tables


def begun(run=RUN, **changes):
    return RecordReader.of({"version": 1, "run": {**events.head(run, DEAD), **changes}})


def read(*events_of_a_run, run=RUN):
    reader = begun(run)
    for table in events_of_a_run:
        reader.add(json.loads(json.dumps(table)))  # as it comes from a file
    return reader.done()


def test_a_run_goes_through_tables_and_back():
    assert read(*tables(RUN)) == RUN


def test_what_is_empty_is_left_out():
    table = events.image(replace(IMAGE, proof="", size=0))
    assert not {"proof", "size", "manifest"} & set(table)
    assert read(table).images == (replace(IMAGE, proof="", size=0),)


def test_a_job_that_did_not_finish_leaves_no_outputs():
    failed = replace(JOB, result=JobResult.FAILED)
    assert "outputs" not in events.job_ended(failed)
    [job] = read(events.job_started(JOB), events.job_ended(failed)).jobs
    assert job.outputs == (OutputRecord(path="a.txt"), OutputRecord(path="b.txt"))


def test_the_jobs_own_host_says_when_it_began():
    [job] = read(events.job_started(JOB), events.job_ended(JOB, ran="2026-01-01T00:00:01.500Z")).jobs
    assert job.started == "2026-01-01T00:00:01.500Z"


def test_two_attempts_of_one_job_are_two_records():
    first, second = replace(JOB, result=JobResult.FAILED), replace(JOB, attempt=2)
    run = read(*(make(job) for job in (first, second) for make in (events.job_started, events.job_ended)))
    assert [(job.attempt, job.result) for job in run.jobs] == [(1, JobResult.FAILED), (2, JobResult.FINISHED)]


def test_nothing_comes_after_the_end():
    with pytest.raises(Damaged, match="after the run's end"):
        read(events.run_ended(Ending.FINISHED, RUN.ended), events.image(IMAGE))


def test_a_newer_version_is_named():
    with pytest.raises(NewerVersion, match="2"):
        RecordReader.of({"version": 2, "run": {}})


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ("no table", "no event is called 'None'"),
        ({"event": "later"}, "no event is called 'later'"),
        ({"event": ["image"]}, "no event is called"),
        (events.job_ended(JOB), "ended without having started"),
        ({**events.image(IMAGE), "disk": "excellent"}, "disk"),
        ({**events.image(IMAGE), "digest": "sha256:1"}, "digest"),
        ({**events.image(IMAGE), "size": -1}, "size"),
        ({**events.image(IMAGE), "colour": "red"}, "colour"),
        ({**events.image(IMAGE), "signatures": {}}, "signatures must be a list"),
        ({**events.image(IMAGE), "signatures": [{"by": "x"}]}, "lacks digest"),
        ({**events.image(IMAGE), "signatures": [{"by": "x", "digest": "sha256:1"}]}, "digest must be"),
        ({**events.image(IMAGE), "signatures": [{"by": "x", "digest": "", "note": "good"}]}, "note"),
        ({**events.image(IMAGE), "signatures": [{"by": "x", "digest": ""}] * 33}, "at most 32"),
        ({**events.run_ended(Ending.FINISHED, RUN.ended), "ending": "running"}, "ending"),
        (events.repository(replace(RUN.source, commit="main"), lock_committed=None), "commit"),
    ],
)
def test_what_does_not_fit_is_damage(event, why):
    with pytest.raises(Damaged, match=why):
        read(event)


@pytest.mark.parametrize(
    "key", ["id", "started", "process", "versions", "command", "options", "lock", "previous", "mode", "host"]
)
def test_a_head_that_lacks_a_key_or_has_it_wrong_is_no_head(key):
    table = dict(events.head(RUN, DEAD))
    del table[key]
    with pytest.raises(Damaged, match=key):
        RecordReader.of({"version": 1, "run": table})
    with pytest.raises(Damaged):
        begun(**{key: 7})


def test_as_many_outputs_as_the_job_has_must_end():
    ended = {**events.job_ended(JOB), "outputs": []}
    with pytest.raises(Damaged, match="not as many outputs as its job"):
        read(events.job_started(JOB), ended)
