"""Records, metadata and the files on disk, put together: exactly what happened is found, and nothing else."""

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.record import journal
from snakemake_apptainer_freshness.record.run import Ending, JobResult
from tests.support import audits, pins, records
from tests.support.audits import kinds, verdicts


def test_a_sound_run_has_nothing_to_report(work):
    work.simple("a.txt", "b.txt")

    found = work.audit()

    assert verdicts(found) == {"a.txt": "proven", "b.txt": "proven"}
    assert found.findings == ()
    assert found.notes == ()
    assert found.answer == "All 2 outputs were made by a proven image."


def test_nothing_is_written(work):
    image = work.simple("a.txt")
    pins.record(Path(image.path), pins.pin())  # without a stat key: a check that may write looks at the clock for one
    before = {path: path.stat().st_mtime_ns for path in work.folder.rglob("*")}

    work.audit()

    assert {path: path.stat().st_mtime_ns for path in work.folder.rglob("*")} == before


def test_an_output_that_was_edited_is_named_alone(work):
    work.simple("a.txt", "b.txt")
    (work.folder / "b.txt").write_text("B.txt")

    found = work.audit()

    assert verdicts(found) == {"a.txt": "proven", "b.txt": "changed"}
    assert kinds(found) == {"output-changed": 1}


def test_an_output_that_was_only_touched_is_hashed_and_the_same(work):
    work.simple("a.txt")
    os.utime(work.folder / "a.txt")

    assert verdicts(work.audit()) == {"a.txt": "proven"}


def test_a_damaged_image_file_is_found_and_everything_it_made(work):
    image = work.simple("a.txt")
    path = records.image_path(work.folder / ".snakemake" / "singularity", image.pinned)
    pins.flip_seven_bytes(path)

    found = work.audit()

    assert verdicts(found) == {"a.txt": "bad image"}
    assert [(one.kind, one.subjects) for one in found.findings] == [("bad-image", ("a.txt",))]
    assert found.images[0].now == "altered"


def test_an_image_that_was_fetched_again_is_another_file_and_as_good(work):
    first = work.image()
    a, b = work.output("a"), work.output("b")
    older = replace(first, sha256="77" * 32)
    work.write(
        work.run(1, records.job(1, "count", a, ran=older), images=(older,)),
        work.run(2, records.job(1, "count", b, ran=first), images=(first,)),
    )

    assert verdicts(work.audit()) == {"a": "proven", "b": "proven"}


def test_without_our_ledger_the_runs_own_record_tells_whether_the_file_is_the_same(work):
    image = work.image(recorded=False)
    work.write(work.run(1, records.job(1, "count", work.output("a"), ran=image), images=(image,)))
    path = records.image_path(work.folder / ".snakemake" / "singularity", image.pinned)
    assert verdicts(work.audit()) == {"a": "proven"}

    pins.flip_seven_bytes(path)

    found = work.audit()
    assert verdicts(found) == {"a": "bad image"}
    assert "not the one that the run recorded" in found.findings[0].text


def test_the_last_job_that_finished_made_it(work):
    image = work.image()
    bad = replace(image, disk="corrupt")
    old, new = work.output("a", b"old"), work.output("a", b"new")
    work.write(
        work.run(1, records.job(1, "count", old, ran=bad), images=(bad,)),
        work.run(2, records.job(1, "count", new, ran=image), images=(image,)),
    )

    assert verdicts(work.audit()) == {"a": "proven"}


def test_what_was_made_again_without_us_is_no_longer_ours(work):
    image = work.simple("a.txt", "b.txt")
    file = work.folder / "a.txt"
    file.write_text("made again")
    work.metadata("a.txt", container_img_url="docker://quay.io/team/tool:1.0", starttime=file.stat().st_mtime - 5,
                  endtime=file.stat().st_mtime)  # fmt: skip

    found = work.audit()

    assert verdicts(found) == {"a.txt": "unattributable", "b.txt": "proven"}
    assert kinds(found) == {"unattributable": 1}
    assert image.pinned


def test_jobs_that_ran_without_us_are_known_by_snakemakes_word(work):
    work.simple("ours")
    for path, container in (("plain", None), ("tag", "docker://busybox"), ("pin", "docker://b@sha256:" + "ab" * 32)):
        work.output(path)
        work.metadata(path, rule=path, container_img_url=container)

    found = work.audit()

    assert verdicts(found) == {"ours": "proven", "plain": "no record", "tag": "unattributable", "pin": "unproven"}
    assert kinds(found) == {"no-record": 1, "unattributable": 1, "unproven": 1}


def test_an_output_that_is_gone_is_missed_and_a_temporary_one_is_not(work):
    image = work.simple("kept", "gone")
    left = replace(work.output("temporary"), temporary=True)
    work.write(work.run(2, records.job(1, "count", left, ran=image), images=(image,)), chained=False)
    (work.folder / "gone").unlink()
    (work.folder / "temporary").unlink()

    found = work.audit()

    assert {one.path: one.exists for one in found.outputs} == {"kept": True, "gone": False, "temporary": False}
    missed = [one for one in found.findings if one.kind == "output-missing"]
    assert [one.subjects for one in missed] == [("gone",)]


def test_a_run_under_way_is_read_and_not_disturbed(work):
    image = work.image()
    done, open_ = work.output("done"), work.output("open")
    here = replace(
        work.run(1, records.job(1, "count", done, ran=image),
                 records.job(2, "count", open_, ran=image, result=JobResult.RUNNING, ended=""),
                 images=(image,), ending=Ending.RUNNING, ended=""),
        host=journal.HOST,
    )  # fmt: skip
    work.write(here, process=journal.this_process())
    work.metadata("open", folder="incomplete")

    found = work.audit()

    assert verdicts(found) == {"done": "proven"}
    assert [(one.kind, one.severity) for one in found.findings] == [("run-under-way", "note")]
    assert any("1 output is being made" in note for note in found.notes)


def test_records_are_read_while_they_are_written(work):
    """However often the record is read, half a job is never seen."""
    image = work.simple(*(f"out{number}" for number in range(20)))
    stop = threading.Event()

    def rewrite():
        while not stop.is_set():
            work.metadata("out1", container_img_url=image.pinned)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        answers = [set(verdicts(work.audit()).values()) for _ in range(10)]
    finally:
        stop.set()
        writer.join()
    assert answers == [{"proven"}] * 10


def test_a_job_that_was_killed_leaves_a_file_that_nothing_is_known_of(work):
    image = work.image()
    left = work.output("half")
    killed = records.job(1, "count", left, ran=image, result=JobResult.RUNNING, ended="")
    work.write(work.run(1, killed, images=(image,), ending=Ending.UNKNOWN, ended=""))

    found = work.audit()

    assert verdicts(found) == {"half": "no record"}
    assert kinds(found) == {"run-unfinished": 1, "no-record": 1}


def test_what_an_earlier_run_made_stays_its_own_though_a_later_job_failed(work):
    image = work.image()
    left = work.output("a")
    failed = records.job(1, "count", left, ran=image, result=JobResult.FAILED)
    work.write(
        work.run(1, records.job(1, "count", left, ran=image), images=(image,)),
        work.run(2, failed, images=(image,), ending=Ending.FAILED),
    )

    assert verdicts(work.audit()) == {"a": "proven"}


@pytest.mark.parametrize(
    "name",
    [audits.QUOTED, audits.SCRIPT, audits.RIGHT_TO_LEFT, audits.LINE_BREAK, audits.BAD_BYTES],
    ids=["quotes", "script", "right to left", "line break", "invalid UTF-8"],
)
def test_a_hostile_name_is_an_output_like_any_other(work, name):
    image = work.image()
    work.write(work.run(1, records.job(1, "count", work.output(name), ran=image), images=(image,)))

    assert verdicts(work.audit()) == {name: "proven"}
    (work.folder / name).write_text("edited")
    assert work.audit().findings[0].subjects == (name,)


def test_thousands_of_runs_are_read(work, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)  # only to have them written fast
    image = work.image()
    left = work.output("a")
    work.write(*(
        replace(work.run(1, images=(image,)), id=f"20260302T080000.{number:06d}Z") for number in range(1999)
    ), work.run(2, records.job(1, "count", left, ran=image), images=(image,)))  # fmt: skip

    found = work.audit()

    assert verdicts(found) == {"a": "proven"}
    assert found.findings == ()
    assert len(found.images[0].sightings) == 2000


def test_the_graph_of_rules_comes_from_the_inputs(work):
    image = work.image()
    a, b = work.output("a"), work.output("b")
    work.write(work.run(1, records.job(1, "first", a, ran=image), records.job(2, "second", b), images=(image,)))
    work.metadata("a", rule="first", input=["raw"])
    work.metadata("b", rule="second", input=["a", "raw"])

    assert [(edge.before, edge.after) for edge in work.audit().edges] == [("first", "second")]


def test_what_lies_in_a_folder_that_a_rule_made_came_from_that_rule(work):
    work.write(work.run(1))
    work.metadata("parts", rule="split", input=["raw"])
    work.metadata("a", rule="count", input=["parts/some/a.txt", "partsof/a.txt", "/raw"])

    assert [(edge.before, edge.after) for edge in work.audit().edges] == [("split", "count")]


def test_metadata_that_cannot_be_read_is_told(work):
    work.simple("a")
    (work.folder / ".snakemake" / "metadata" / "YmFk").write_text(json.dumps([]))

    assert "1 record of Snakemake's metadata cannot be read" in work.audit().notes[0]


def test_a_signed_address_in_snakemakes_metadata_is_shown_without_its_signature(work):
    work.simple("b.txt")
    work.output("a.txt")
    work.metadata("a.txt", container_img_url="https://h.example/x.sif?X-Amz-Signature=CANARY")

    found = work.audit()

    assert "X-Amz-Signature=" in repr(found)
    assert "CANARY" not in repr(found)
