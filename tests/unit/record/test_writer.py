"""An event is added by one write; a write that fails leaves the record as it was."""

import errno
import json
import os
import threading
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.errors import LocalIOError
from snakemake_apptainer_freshness.record import events, writer
from snakemake_apptainer_freshness.record.journal import folder_of, read
from snakemake_apptainer_freshness.record.run import Ending
from tests.support import journals
from tests.support.journals import DEAD, JOB, RUN, numbered, write


def test_the_record_is_json_and_readable_after_every_event(tmp_path):
    path = folder_of(tmp_path) / f"{RUN.id}.json"
    journal = writer.Journal(path, events.head(RUN, DEAD))
    for table in journals.tables(RUN):
        assert json.loads(path.read_bytes())["version"] == 1
        assert (read(path).ending, read(path).problem) == (Ending.UNKNOWN, "")
        journal.append([table])
    journal.close()

    assert read(path).ending is Ending.FINISHED


def test_a_write_that_fails_leaves_the_record_as_it_was(tmp_path, monkeypatch):
    journal = writer.Journal(folder_of(tmp_path) / f"{RUN.id}.json", events.head(RUN, DEAD))
    journal.append([events.job_started(JOB)])
    before = journal.path.read_bytes()
    write_some = os.pwrite

    def full(file, content, offset):
        return write_some(file, content[:10], offset) if len(content) > 10 else write_some(file, content, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left") as error:
            journal.append([events.job_ended(JOB)])
    assert error.value.errno == errno.ENOSPC
    assert journal.path.read_bytes() == before

    journal.append([events.job_ended(JOB)])
    journal.close()
    assert read(journal.path).jobs == (JOB,)


def test_a_record_that_cannot_be_begun_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / ".snakemake").write_text("")

    with pytest.raises(LocalIOError, match="cannot write the record of this run"):
        write(tmp_path)


def test_a_new_run_is_later_than_all_records_whatever_the_clock_says(tmp_path):
    newest = write(tmp_path, replace(RUN, id="29991231T235959.999999Z"))

    assert writer.new_id(newest.parent) == "30000101T000000.000000Z"


def test_events_of_many_threads_do_not_mix(tmp_path):
    journal = writer.Journal(folder_of(tmp_path) / f"{RUN.id}.json", events.head(RUN, DEAD))
    jobs = [replace(JOB, id=number) for number in range(40)]
    threads = [threading.Thread(target=journal.append, args=([events.job_started(job)],)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()

    run = read(journal.path)
    assert (sorted(job.id for job in run.jobs), run.problem) == (list(range(40)), "")


def test_nothing_to_add_writes_nothing(tmp_path):
    journal = writer.Journal(folder_of(tmp_path) / f"{RUN.id}.json", events.head(RUN, DEAD))
    before = journal.path.read_bytes()
    journal.append([])
    journal.close()

    assert journal.path.read_bytes() == before


def test_a_record_that_is_there_is_not_written_over(tmp_path):
    path = write(tmp_path)
    before = path.read_bytes()
    with pytest.raises(LocalIOError, match="File exists"):
        write(tmp_path)

    assert path.read_bytes() == before


def test_the_newest_hash_is_that_of_a_run_that_has_ended(tmp_path):
    assert writer.newest_hash(folder_of(tmp_path)) == ""
    ended = write(tmp_path, numbered(0))
    write(tmp_path, numbered(1, ended=False), alive=True)

    assert writer.newest_hash(folder_of(tmp_path)) == read(ended).sha256


def test_the_start_of_a_run_opens_the_newest_record_alone(tmp_path, monkeypatch):
    for number in range(20):
        newest = write(tmp_path, numbered(number))
    opened, read_so_far = writer.opened, set()

    def counting(path):
        read_so_far.add(path)
        return opened(path)

    monkeypatch.setattr(writer, "opened", counting)
    writer.new_id(folder_of(tmp_path))
    writer.newest_hash(folder_of(tmp_path))

    assert read_so_far == {newest}
