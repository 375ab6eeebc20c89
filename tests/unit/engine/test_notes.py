"""What the process of a job leaves reaches the main process, or nothing does."""

import json
import os
import types

import pytest

from snakemake_apptainer_freshness.engine.notes import Note, NoteWriter, take
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState

URL = "docker://q.io/tool@sha256:" + "d" * 64


class Job:
    def __init__(self, rule="a", url=None, attempt=1, **wildcards):
        self.rule = types.SimpleNamespace(name=rule)
        self.wildcards_dict = wildcards
        self.container_img_url = url
        self.attempt = attempt

    def is_group(self):
        return False


class Group(list):
    def is_group(self):
        return True


@pytest.fixture
def started(tmp_path):
    """Starts jobs in a process that leaves notes in the folder `tmp_path`; gives what watches its images."""

    def start(*jobs, folder=tmp_path):
        registered = []
        workflow = types.SimpleNamespace(dag=types.SimpleNamespace(register_running=registered.append))
        leaving = NoteWriter(workflow, folder, {URL})
        workflow.dag.register_running(list(jobs))
        assert registered == [list(jobs)]
        return leaving

    return start


def test_a_note_says_where_and_when_a_job_began_and_is_taken_once(tmp_path, started):
    started(Job(name="x"), Group([Job("b"), Job("c")]))
    notes = [take(tmp_path, job, 1) for job in (Job(name="x"), Job("b"), Job("c"))]

    assert {(note.host, note.disk) for note in notes} == {(os.uname().nodename, "")}
    assert all(note.began for note in notes)
    assert take(tmp_path, Job("b"), 1) == Note()
    assert list(tmp_path.iterdir()) == []


def test_a_job_with_an_image_says_what_it_found(tmp_path, started):
    leaving = started(Job(url=URL))
    assert take(tmp_path, Job(), 1) == Note()

    leaving.note_image(URL, DiskFact(state=DiskState.ALTERED))
    assert take(tmp_path, Job(), 1).disk == "altered"


def test_each_attempt_and_each_job_has_a_note_of_its_own(tmp_path, started):
    started(Job(name="x", attempt=2))

    assert take(tmp_path, Job(name="x"), 1) == Note()
    assert take(tmp_path, Job(name="y"), 2) == Note()
    assert take(tmp_path, Job(name="x"), 2).host


def test_without_a_shared_folder_nothing_is_left(tmp_path, started):
    started(Job(), folder=tmp_path / "not" / "there")

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_stops_no_job(tmp_path, started, monkeypatch):
    monkeypatch.setattr("pathlib.Path.write_bytes", lambda *_: (_ for _ in ()).throw(OSError("full")))
    started(Job())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"[" * 4000,
        b"{" + b" " * 5000 + b"}",
        json.dumps({"host": "a\n\x1b[1m", "began": "2026-01-01T00:00:00Z", "disk": ""}).encode(),
        json.dumps({"host": "a", "began": "now", "disk": ""}).encode(),
        json.dumps({"host": "a", "began": 1, "disk": ""}).encode(),
        json.dumps({"host": "a", "began": "2026-01-01T00:00:00Z", "disk": "proven"}).encode(),
        json.dumps({"host": "a", "began": "2026-01-01T00:00:00Z", "disk": []}).encode(),
    ],
    ids=range(9),
)
def test_a_damaged_note_says_nothing(tmp_path, started, content):
    started(Job())
    (place,) = tmp_path.iterdir()
    place.write_bytes(content)

    assert take(tmp_path, Job(), 1) == Note()
