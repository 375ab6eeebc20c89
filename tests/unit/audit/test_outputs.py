"""Who made an output, and what is not judged: each by the records alone, or with the files of a work directory."""

from dataclasses import replace

from snakemake_apptainer_freshness.audit.outputs import OutputJudge, doubted, makers_of
from snakemake_apptainer_freshness.audit.results import OutputVerdict
from snakemake_apptainer_freshness.audit.selection import EVERYTHING
from snakemake_apptainer_freshness.record.metadata import NOTHING, MadeBy, Metadata
from snakemake_apptainer_freshness.record.pruning import Break
from snakemake_apptainer_freshness.record.run import Ending, JobResult
from tests.support import audits, records


def judged(work, *runs, metadata=NOTHING):
    """The judge, and its verdicts by path."""
    judge = OutputJudge(folder=work.folder, runs=runs, metadata=metadata, selection=EVERYTHING)
    return judge, {one.path: one for one in judge.outputs()}


def test_the_last_job_that_finished_an_output_made_it():
    first, second = (audits.run(number, audits.job(number, "count", "a")) for number in (1, 2))
    makers, open_jobs = makers_of([first, second])
    assert (makers["a"].run, makers["a"].left.path) == (second, "a")
    assert open_jobs == {}


def test_a_later_job_that_did_not_finish_is_open_until_one_finishes():
    failed = audits.run(2, audits.job(1, "count", "a", result=JobResult.FAILED))
    runs = [audits.run(1, audits.job(1, "count", "a")), failed]
    makers, open_jobs = makers_of(runs)
    assert makers["a"].run.id == runs[0].id
    assert open_jobs["a"] == (failed, failed.jobs[0])
    assert makers_of([*runs, audits.run(3, audits.job(1, "count", "a"))])[1] == {}


def test_whom_another_run_vouches_for_is_not_doubted():
    first, second, third = (audits.run(number, sha256=f"{number}" * 64) for number in (1, 2, 3))
    broken = [Break(run=second.id, text="")]

    assert doubted([first, second, third], broken) == {first.id}
    assert doubted([first, second, replace(third, previous=first.sha256)], broken) == frozenset()


def test_what_a_proven_image_made_is_proven_and_a_file_that_changed_since_is_told(work):
    image = work.image()
    whole, changed = work.output("whole"), work.output("changed")
    run = work.run(1, records.job(1, "count", whole, changed, ran=image), images=(image,))
    (work.folder / "changed").write_bytes(b"other")
    judge, found = judged(work, run)
    assert found["whole"].verdict is OutputVerdict.PROVEN
    assert found["changed"].verdict is OutputVerdict.CHANGED
    assert list(judge.changed) == ["changed"]
    assert (found["whole"].run, found["whole"].sif_sha256) == (run.id, image.sha256)


def test_a_doubted_run_proves_nothing(work):
    image = work.image()
    run = work.run(1, records.job(1, "count", work.output("a"), ran=image), images=(image,))
    judge = OutputJudge(
        folder=work.folder, runs=[run], metadata=NOTHING, selection=EVERYTHING, disowned=frozenset({run.id})
    )
    [found] = judge.outputs()
    assert found.verdict is not OutputVerdict.PROVEN


def test_what_is_just_being_made_is_left_out_and_counted(work):
    work.output("a")
    run = work.run(1, audits.job(1, "count", "a", result=JobResult.RUNNING, ended=""), ended="", ending=Ending.RUNNING)
    judge, found = judged(work, run)
    assert found == {}
    assert f"1 output is being made in {work.folder}: left out" in judge.notes()


def test_what_a_failed_job_left_has_no_record(work):
    work.output("a")
    _, found = judged(work, work.run(1, audits.job(1, "count", "a", result=JobResult.FAILED)))
    assert found["a"].verdict is OutputVerdict.NO_RECORD
    assert "failed: nothing says what this file is" in found["a"].why


def test_a_file_that_a_failed_job_did_not_touch_is_still_what_the_earlier_one_made(work):
    image = work.image()
    first = work.run(1, records.job(1, "count", work.output("a"), ran=image), images=(image,))
    second = work.run(2, audits.job(1, "count", "a", result=JobResult.FAILED))
    assert judged(work, first, second)[1]["a"].verdict is OutputVerdict.PROVEN


def test_what_ran_without_us_is_known_by_snakemakes_word_and_shows_no_secret(work):
    work.output("a")
    work.output("b")
    made = MadeBy(rule="count", container="https://host.example/x.sif?token=hunter2", ended=1_772_438_681.0)
    metadata = Metadata(outputs={"a": made, "b": MadeBy(rule="count")}, incomplete=frozenset({"b"}))
    _, found = judged(work, metadata=metadata)
    assert found["a"].verdict is OutputVerdict.UNATTRIBUTABLE
    assert found["a"].made_at == "2026-03-02T08:04:41Z"
    assert "hunter2" not in repr(found["a"])
    assert "Snakemake does not know that it ended" in found["b"].why


def test_what_could_not_be_looked_at_is_noted(work):
    run = work.run(1, audits.job(1, "count", "a"))
    run = replace(run, lock=replace(run.lock, committed=None))
    judge, _ = judged(work, run, metadata=replace(NOTHING, unreadable=("x: no JSON",)))
    assert judge.notes() == [
        f"Snakemake's own metadata is not there in {work.folder}: what ran without us is not seen",
        f"1 record of Snakemake's metadata cannot be read in {work.folder}, such as x: no JSON",
        f"whether the lock was committed is not known of 1 run in {work.folder}",
    ]
