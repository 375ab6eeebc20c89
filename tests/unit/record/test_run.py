"""The values of a record: by themselves they claim nothing, and their words are those that files have."""

from dataclasses import FrozenInstanceError, fields, replace

import pytest

from snakemake_apptainer_freshness.freshness import DiskState, RemoteState
from snakemake_apptainer_freshness.record import journal
from snakemake_apptainer_freshness.record.run import (
    Ending,
    ImageRecord,
    JobRecord,
    JobResult,
    LockUsed,
    Machine,
    OutputRecord,
    OverrideKind,
    Run,
    RuntimeSettings,
    WorkflowSource,
)
from tests.support import journals


def test_the_words_in_files_of_older_versions_stay_the_same():
    assert [word.value for word in JobResult] == ["running", "finished", "failed"]
    assert [word.value for word in Ending] == ["finished", "failed", "interrupted", "running", "unknown"]
    assert [word.value for word in OverrideKind] == ["bind", "overlay", "variable"]


def test_an_image_of_which_nothing_was_asked_claims_nothing():
    image = ImageRecord(reference="docker://q.io/tool:1", pinned="docker://q.io/tool:1")
    assert image.remote == RemoteState.UNCHECKED
    told = {field.name: getattr(image, field.name) for field in fields(image)} | {"remote": ""}
    assert {name for name, value in told.items() if value} == {"reference", "pinned"}


def test_a_run_or_job_without_an_end_is_not_called_finished():
    bare = {field.name: field.default for field in fields(Run)}
    assert bare["ending"] is Ending.UNKNOWN
    assert (bare["lock"], bare["machine"], bare["runtime"], bare["previous"]) == (None, None, None, "")
    assert JobRecord(id=1, rule="a", outputs=()).result is JobResult.RUNNING


def test_what_could_not_be_asked_is_none_and_neither_yes_nor_no():
    assert WorkflowSource(snakefile="Snakefile").dirty is None
    assert LockUsed(path="containers.lock", sha256="a" * 64).committed is None


def test_no_two_records_share_a_table_that_could_be_changed():
    one, two = JobRecord(id=1, rule="a", outputs=()), JobRecord(id=2, rule="a", outputs=())
    assert one.wildcards is not two.wildcards
    assert RuntimeSettings().environment is not RuntimeSettings().environment


def test_a_record_is_a_value():
    assert replace(journals.IMAGE) == journals.IMAGE
    assert len({journals.IMAGE, replace(journals.IMAGE), replace(journals.IMAGE, size=2)}) == 2
    with pytest.raises(FrozenInstanceError):
        journals.IMAGE.disk = DiskState.VERIFIED
    assert Machine() == Machine(system="", kernel="", architecture="", cpu="")
    assert OutputRecord(path="a") == OutputRecord(path="a", size=0, mtime_ns=0, sha256="", temporary=False)


def test_every_field_that_is_written_comes_back_and_no_other_is_believed(tmp_path):
    """What reading adds, says of itself that it is not written."""
    wanted = replace(journals.RUN, file="claimed", sha256="c" * 64, problem="claimed")
    path = journals.write(tmp_path, wanted)
    [found] = journal.read_all(tmp_path)
    added = {"file": str(path), "problem": "", "sha256": found.sha256}
    assert found == replace(wanted, **added)
    assert found.sha256 != wanted.sha256
