"""What is taken into an archive, and what is left out and told."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.audit import archive_files
from snakemake_apptainer_freshness.audit.archive_files import ArchiveRequest, FilePicking, TakenFile
from snakemake_apptainer_freshness.errors import UsageError
from snakemake_apptainer_freshness.record.run import LockUsed, WorkflowSource
from tests.support import audits


@pytest.fixture
def workdir(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "Snakefile").write_text("rule a: ...\n")
    (folder / "containers.lock").write_text("version = 1\n")
    return folder


def picking(workdir, **changes):
    return FilePicking(workdir=workdir, request=ArchiveRequest(target=workdir.parent / "archive", **changes))


def run_in(workdir, *, lock=None, snakefile=None):
    lock = lock or workdir / "containers.lock"
    return replace(
        audits.run(workdir=str(workdir)),
        source=WorkflowSource(snakefile=str(snakefile or workdir / "Snakefile")),
        lock=LockUsed(path=str(lock), sha256=archive_files.sha256_at(lock)),
    )


def names(picked):
    return sorted(one.name for one in picked.taken)


def tracked(folder, *files):
    subprocess.run(["git", "init", "-q", "."], cwd=folder, check=True)
    subprocess.run(["git", "add", "-f", *files], cwd=folder, check=True)


def test_what_git_tracks_is_taken_without_snakemakes_own_folder(workdir):
    (workdir / ".snakemake").mkdir()
    for name in ("config.yaml", "untracked.txt", ".snakemake/log"):
        (workdir / name).write_text(name)
    tracked(workdir, "Snakefile", "config.yaml", ".snakemake/log")
    picked = picking(workdir)
    assert picked.workflow(run_in(workdir)) == "project/Snakefile"
    assert set(names(picked)) == {"project/Snakefile", "project/config.yaml"}
    assert picked.notes == []


def test_a_link_is_left_out_and_told_by_its_path(workdir):
    (workdir / "secret").symlink_to("/etc/passwd")
    tracked(workdir, "Snakefile", "secret")
    picked = picking(workdir)
    picked.workflow(run_in(workdir))
    assert set(names(picked)) == {"project/Snakefile"}
    assert picked.notes == [f"not in the archive: {workdir / 'secret'} (no regular file, or gone)"]


def test_a_snakefile_elsewhere_is_taken_only_where_a_person_names_it(workdir, tmp_path):
    elsewhere = tmp_path / "shared" / "Snakefile"
    elsewhere.parent.mkdir()
    elsewhere.write_text("rule b: ...\n")
    (elsewhere.parent / ".snakemake").mkdir()
    (elsewhere.parent / ".snakemake" / "log").write_text("x")
    tracked(elsewhere.parent, "Snakefile", ".snakemake/log")
    run = run_in(workdir, snakefile=elsewhere)
    not_named, named = picking(workdir), picking(workdir, snakefile=elsewhere)
    assert not_named.workflow(run) == named.workflow(run) == "workflow/Snakefile"
    assert names(not_named) == []
    assert {(one.name, one.source) for one in named.taken} == {("workflow/Snakefile", elsewhere)}


def test_the_lock_is_taken_and_one_that_was_changed_since_is_told(workdir):
    run = run_in(workdir)
    (workdir / "containers.lock").write_text("version = 1\n# changed\n")
    picked = picking(workdir)
    assert picked.lock(run) == TakenFile(name="project/containers.lock", source=workdir / "containers.lock", size=22)
    assert "was changed since" in picked.notes[0]


def test_a_lock_that_lies_elsewhere_is_not_taken_on_the_word_of_a_record(workdir, tmp_path):
    other = tmp_path / "containers.lock"
    other.write_text("version = 1\n")
    with pytest.raises(UsageError, match="lies outside of"):
        picking(workdir).lock(run_in(workdir, lock=other))


def test_a_lock_that_is_gone_or_was_never_there_is_one_clear_error(workdir):
    run = run_in(workdir)
    (workdir / "containers.lock").unlink()
    with pytest.raises(UsageError, match="is gone"):
        picking(workdir).lock(run)
    with pytest.raises(UsageError, match="used no lock"):
        picking(workdir).lock(replace(run, lock=None))


def test_a_folder_that_is_named_gives_its_files_and_follows_no_link_out_of_it(workdir, tmp_path):
    data = workdir / "data"
    (data / "deep").mkdir(parents=True)
    (data / "b.txt").write_text("b")
    (data / "deep" / "a.txt").write_text("a")
    (data / "out").symlink_to(tmp_path)
    picked = picking(workdir)
    picked.named(data)
    assert names(picked) == ["project/data/b.txt", "project/data/deep/a.txt"]
    assert picked.notes == [f"not in the archive: {data / 'out'} (no regular file, or gone)"]


def test_a_file_outside_of_the_work_directory_cannot_be_named_not_even_by_a_link(workdir, tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("x")
    (workdir / "link").symlink_to(outside)
    for path in (outside, workdir / "link", workdir / ".." / "outside.txt"):
        with pytest.raises(UsageError, match="lies outside of"):
            picking(workdir).named(path)
    with pytest.raises(UsageError, match="it is not there"):
        picking(workdir).named(workdir / "nothing")


def test_an_archive_within_the_work_directory_takes_neither_itself_nor_its_unfinished_one(workdir):
    target = workdir / "archive"
    for folder in (target, archive_files.partial_of(target)):
        folder.mkdir()
        (folder / "x").write_text("x")
    picked = FilePicking(workdir=workdir, request=ArchiveRequest(target=target))
    picked.named(workdir)
    assert names(picked) == ["project/Snakefile", "project/containers.lock"]
    assert picked.notes == []


def test_a_name_that_no_bag_can_list_is_told(workdir):
    (workdir / "data").mkdir()
    (workdir / "data" / "two\nlines").write_text("x")
    picked = picking(workdir)
    picked.named(workdir / "data")
    assert names(picked) == []
    assert "a name that cannot be listed in one" in picked.notes[0]


def test_inputs_that_no_job_made_and_the_archive_lacks_are_found_for_each_output():
    inputs = {"out/a": ["raw/1.fq", "./data/x", "data"], "out/b": ["out/a", "raw"]}
    assert archive_files.missing_inputs(inputs, {"project/data/x"}) == {"out/a": ["raw/1.fq"], "out/b": ["raw"]}
    assert archive_files.missing_inputs(inputs, {"project/data/x", "project/raw/1.fq"}) == {}


def test_of_many_names_three_are_shown():
    assert archive_files.listed(["a", "b", "c"]) == "a, b, c"
    assert archive_files.listed([Path("a"), "b", "c", "d", "e"]) == "a, b, c and 2 more"
