"""Records that are missing, damaged, altered, removed, or of another work directory."""

import shutil
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.errors import InvalidRecord, UsageError
from snakemake_apptainer_freshness.record import journal
from snakemake_apptainer_freshness.record.run import OutputRecord
from tests.support import records
from tests.support.audits import kinds, verdicts


def test_no_records_is_one_clear_error(work):
    work.metadata("a")

    with pytest.raises(UsageError, match=r"no run was recorded in .*work"):
        work.audit()


def test_of_several_folders_those_without_records_are_named(work, other_work):
    work.simple("a")

    found = work.audit(other_work.folder)

    assert found.workdirs == (str(work.folder),)
    assert found.notes == (f"no run was recorded in {other_work.folder}",)


def test_several_folders_make_one_answer(work, other_work):
    work.simple("a")
    other_work.simple("b")
    (other_work.folder / "b").write_text("edited")

    found = work.audit(other_work.folder)

    assert [(one.workdir, one.path, one.verdict) for one in found.outputs] == [
        (str(other_work.folder), "b", "changed"),
        (str(work.folder), "a", "proven"),
    ]
    assert [one.workdir for one in found.findings] == [str(other_work.folder)]


def edit(path, old, new):
    path.write_bytes(path.read_bytes().replace(old, new))


def two_runs(work):
    image = work.image()
    jobs = [records.job(1, "count", work.output(path), ran=image) for path in ("a", "b")]
    return work.write(*(work.run(n, job, images=(image,)) for n, job in enumerate(jobs, start=1)))


def test_an_edited_record_breaks_the_chain_and_proves_nothing_any_more(work):
    first, second = two_runs(work)
    edit(journal.folder_of(work.folder) / f"{first.id}.json", b'"rule":"count"', b'"rule":"other"')

    found = work.audit()

    assert verdicts(found) == {"a": "unproven", "b": "proven"}
    assert kinds(found) == {"chain-broken": 1, "unproven": 1}
    assert f"broken at run {second.id}" in found.findings[0].text


def test_a_removed_record_breaks_the_chain_and_the_others_are_believed(work):
    first, _ = two_runs(work)
    (journal.folder_of(work.folder) / f"{first.id}.json").unlink()

    found = work.audit()

    assert verdicts(found) == {"b": "proven"}
    assert kinds(found) == {"chain-broken": 1}


def test_a_record_that_was_cut_short_is_named_and_what_is_left_counts(work):
    work.simple("a", "b")
    [path] = journal.folder_of(work.folder).glob("*.json")
    path.write_bytes(path.read_bytes()[:-200])

    found = work.audit()

    assert kinds(found)["record-damaged"] == 1
    assert set(verdicts(found)) == {"a", "b"}


def test_a_record_of_a_newer_version_is_refused(work):
    work.simple("a")
    [path] = journal.folder_of(work.folder).glob("*.json")
    edit(path, b'{"version":1,', b'{"version":2,')

    with pytest.raises(InvalidRecord, match="version"):
        work.audit()


def test_records_of_another_workflow_are_refused(work, other_work):
    other_work.simple("theirs")
    target = journal.folder_of(work.folder)
    target.parent.mkdir(parents=True)
    shutil.copytree(journal.folder_of(other_work.folder), target)

    with pytest.raises(UsageError, match=r"of another workflow: .*Snakefile in .*other"):
        work.audit()


def test_a_record_of_another_folder_among_our_own_is_left_out_and_named(work, other_work):
    work.simple("ours")
    image = other_work.image()
    stray = other_work.run(9, records.job(1, "count", other_work.output("ours"), ran=image), images=(image,))
    [written] = other_work.write(stray)
    shutil.copy(written.file, journal.folder_of(work.folder))

    found = work.audit()

    assert verdicts(found) == {"ours": "proven"}
    assert kinds(found) == {"foreign-record": 1}
    assert str(other_work.folder) in found.findings[0].text


def test_a_folder_that_was_moved_keeps_its_records(work):
    work.simple("a")
    moved = work.folder.with_name("moved")
    work.folder.rename(moved)
    work.folder = moved

    found = work.audit()

    assert verdicts(found) == {"a": "proven"}
    assert found.findings == ()
    assert found.images[0].now == "verified"
    assert "was moved or copied" in found.notes[0]


def test_a_folder_that_went_on_after_it_was_moved_keeps_its_older_records(work):
    image = work.image()
    elsewhere = replace(work.run(1, records.job(1, "count", work.output("a"), ran=image), images=(image,)),
                        workdir="/elsewhere")  # fmt: skip
    work.write(elsewhere, work.run(2, records.job(1, "count", work.output("b"), ran=image), images=(image,)))

    found = work.audit()

    assert verdicts(found) == {"a": "proven", "b": "proven"}
    assert found.findings == ()


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "a/" * 3000 + "b"], ids=["long", "null", "deep"])
def test_records_whose_names_are_none_of_a_file_are_of_another_workflow(work, other_work, name):
    """A hostile record is told in one line; so is one from a machine with other names."""
    stray = other_work.run(1, records.job(1, "count", OutputRecord(path=name)))
    other_work.write(replace(stray, workdir=name))
    journal.folder_of(work.folder).parent.mkdir(parents=True)
    shutil.copytree(journal.folder_of(other_work.folder), journal.folder_of(work.folder))

    with pytest.raises(UsageError, match=r"of another workflow"):
        work.audit()
