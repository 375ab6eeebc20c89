"""A record is whole at every moment, and who reads it believes nothing."""

import hashlib
import os
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.errors import InvalidRecord
from snakemake_apptainer_freshness.record import events, writer
from snakemake_apptainer_freshness.record.journal import folder_of, read, read_all
from snakemake_apptainer_freshness.record.pruning import chain
from snakemake_apptainer_freshness.record.run import Ending, JobResult
from tests.support import journals
from tests.support.journals import DEAD, JOB, RUN, numbered, write, write_chain


def test_what_was_written_is_read(tmp_path):
    path = write(tmp_path)
    (run,) = read_all(tmp_path)

    assert run == replace(RUN, file=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_record_without_an_end_whose_process_lives_is_that_of_a_run_under_way(tmp_path):
    write(tmp_path, numbered(0, ended=False), alive=True)
    write(tmp_path, numbered(1, ended=False))

    assert [run.ending for run in read_all(tmp_path)] == [Ending.RUNNING, Ending.UNKNOWN]


def test_a_process_number_that_was_given_to_somebody_else_is_not_the_run(tmp_path, monkeypatch):
    path = write(tmp_path, numbered(0, ended=False), alive=True)
    head, _, rest = path.read_text().partition('"ticks":')
    path.write_text(f'{head}"ticks":1{rest.lstrip("0123456789")}')

    assert read(path).ending is Ending.UNKNOWN


def test_a_record_cut_anywhere_keeps_its_whole_lines_and_says_so(tmp_path):
    path = write(tmp_path)
    content = path.read_bytes()
    head = content.index(b"\n") + 1
    for length in range(head, len(content) - 1, 7):
        path.write_bytes(content[:length])
        run = read(path)

        assert run.problem == "it is cut short"
        assert len(run.images) == (content[:length].count(b"\n") > 1)
        assert run.id == RUN.id


def test_a_record_without_a_head_is_named_and_does_not_hide_the_others(tmp_path):
    first, second = write_chain(tmp_path, 2)
    first.write_bytes(b'{"version":1,"run":')
    damaged, sound = read_all(tmp_path)

    assert (damaged.id, damaged.problem) == (first.stem, "it cannot be read: it is cut short")
    assert (sound.problem, sound.file) == ("", str(second))
    with pytest.raises(InvalidRecord, match=str(first)):
        read(first)


def test_a_record_of_a_newer_version_is_refused(tmp_path):
    path = write(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'{"version":1', b'{"version":2', 1))

    with pytest.raises(InvalidRecord, match=r"has version 2; this program knows version 1\nupgrade"):
        read_all(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b'"event":"image"', b'"event":"bribe"', "line 2 is damaged: no event is called 'bribe'"),
        (b'"attempt":1,"rule"', b'"attempt":1,"rul3"', "line 3 is damaged: it has an unknown key 'rul3'"),
        (b'"size":3', b'"size":-3', "line 4 is damaged: outputs[1].size must be a whole number"),
        (b'"size":3', b'"size":NaN', "line 4 is damaged: it is not JSON"),
        (b'"size":3', b'"size":' + b"[" * 100_000, "line 4 is damaged: it is not JSON"),
        (b'"result":"finished"', b'"result":"running"', "line 4 is damaged: result cannot be 'running'"),
        (b'"disk":"verified","proof"', b'"disk":"proven","proof"', "line 2 is damaged: disk cannot be 'proven'"),
        (b'"run-ended","at":"2026', b'"run-ended","at":"tomorrow', "line 6 is damaged: at must be a time"),
        (b"\n]}\n", b"\n]}\n{}\n", "something follows its last line"),
        (b'"id":"20260101', b'"id":"20260102', "it says that it is the record of '20260102T000000.000000Z'"),
    ],
)
def test_a_record_that_was_edited_says_where(tmp_path, old, new, problem):
    path = write(tmp_path)
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new, 1))

    assert read_all(tmp_path)[0].problem.startswith(problem)


def test_a_job_that_ends_twice_or_without_a_start_is_damage(tmp_path):
    folder = folder_of(tmp_path)
    journal = writer.Journal(folder / f"{RUN.id}.json", events.head(RUN, DEAD))
    journal.append([events.job_ended(JOB), events.job_started(JOB), events.job_ended(JOB), events.job_ended(JOB)])
    run = read(journal.path)
    journal.close()

    assert run.problem.count("ended without having started") == 2
    assert [job.result for job in run.jobs] == [JobResult.FINISHED]


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.symlink_to("/dev/zero"), os.mkfifo])
def test_what_is_no_file_is_no_record(tmp_path, make):
    path = folder_of(tmp_path) / f"{RUN.id}.json"
    path.parent.mkdir(parents=True)
    make(path)

    (run,) = read_all(tmp_path)
    assert run.problem.startswith("it cannot be read: it is a")
    assert writer.newest_hash(folder_of(tmp_path)) == ""


def test_records_make_a_chain(tmp_path):
    paths = write_chain(tmp_path, 3)
    runs = read_all(tmp_path)

    assert [run.previous for run in runs] == [
        "",
        *(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths[:2]),
    ]
    assert chain(runs) == []


@pytest.mark.parametrize(
    ("harm", "broken", "why"),
    [
        (lambda paths: paths[1].write_bytes(paths[1].read_bytes() + b" "), 2, "was changed, or one in between"),
        (lambda paths: paths[1].unlink(), 2, "was changed, or one in between was removed"),
        (lambda paths: paths[0].unlink(), 1, "is gone"),
        (lambda paths: paths[1].write_bytes(b""), 2, "was changed"),
        (lambda paths: paths[2].write_bytes(paths[0].read_bytes().replace(b":00.", b":02.")), 2, "no record before it"),
    ],
    ids=["changed", "removed", "first removed", "emptied", "replaced"],
)
def test_a_chain_says_where_it_is_broken(tmp_path, harm, broken, why):
    paths = write_chain(tmp_path, 4)[:3]
    name = paths[broken].stem
    harm(paths)
    found = chain(read_all(tmp_path))

    assert found[0].run == name
    assert why in found[0].text


def test_a_record_that_was_put_in_later_breaks_the_chain(tmp_path):
    write_chain(tmp_path, 1)
    write(tmp_path, numbered(2, previous=writer.newest_hash(folder_of(tmp_path))))
    write(tmp_path, numbered(1))

    assert [found.text for found in chain(read_all(tmp_path))] == [
        "it says that there was no record before it, and there is that of 20260101T000000.000000Z",
        "the record of 20260101T000001.000000Z was put in before it later",
    ]


def test_runs_at_the_same_time_do_not_break_the_chain(tmp_path):
    write_chain(tmp_path, 1)
    folder = folder_of(tmp_path)
    before = writer.newest_hash(folder)
    other = writer.Journal(
        folder / "20260101T000001.000000Z.json",
        events.head(numbered(1, previous=before), journals.this_process()),
    )
    assert writer.newest_hash(folder) == before
    write(tmp_path, numbered(2, previous=before))
    other.append([events.run_ended(Ending.FINISHED, "2026-01-01T00:00:09.000Z")])
    other.close()

    assert chain(read_all(tmp_path)) == []
