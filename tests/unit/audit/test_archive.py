"""What goes into the archive of an audit, how it is written, gone on with and replaced."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
from dataclasses import replace

import bagit
import pytest

from snakemake_apptainer_freshness.audit import archive
from snakemake_apptainer_freshness.errors import LocalIOError, UsageError
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.record.run import Ending
from tests.support import archives, audits, records
from tests.support.archives import audited, project, request, written
from tests.support.images import Image, multi_arch
from tests.support.proofs import Served, file, folder, layer

CONTENT = Image(layers=(layer(folder("bin"), file("bin/tool", "good", 0o755)), layer(file("data", "x" * 5000))))
INDEX = multi_arch(CONTENT, "s390x")
RECORDS = "project/.snakemake/apptainer-freshness/runs"


@pytest.fixture
def work(tmp_path):
    project(tmp_path / "work", INDEX)
    return tmp_path / "work"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "archive"


def payload(target):
    return {str(path.relative_to(target / "data")) for path in (target / "data").rglob("*") if path.is_file()}


def git(work, *arguments):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=work, check=True)


def others(target):
    """What is left beside the archive."""
    return sorted(
        path.name for path in target.parent.iterdir() if path.name.startswith((target.name, f".{target.name}"))
    )


def test_without_git_the_snakefile_the_lock_and_the_records_are_in_it(work, target):
    made = written(work, request(target), INDEX)
    there = {name for name in payload(target) if not name.startswith(("images/", "crate/", RECORDS))}
    assert there == {"project/Snakefile", "project/containers.lock", "archive.json", "README.txt"}
    assert "is in no git repository" in made.notes[0]
    assert any("not in the archive: text.txt: outputs were made of it" in note for note in made.notes)


def test_what_git_tracks_and_what_is_named_is_in_it_as_it_is(work, target):
    git(work, "init", "-q")
    git(work, "add", "Snakefile", "containers.lock", "run.sh")
    (work / "results").mkdir()
    (work / "results" / "a.txt").write_text("a")
    made = written(work, request(target, work / "results", work / "text.txt"), INDEX)

    data = target / "data/project"
    assert {path.name for path in data.iterdir()} == {
        ".snakemake", "Snakefile", "containers.lock", "results", "run.sh", "text.txt",
    }  # fmt: skip
    assert os.access(data / "run.sh", os.X_OK)
    assert not os.access(data / "text.txt", os.X_OK)
    assert made.notes == ()


def test_records_and_seals_are_in_it_byte_for_byte(work, target):
    [record] = (work / ".snakemake/apptainer-freshness/runs").iterdir()
    record.with_name(f"{record.name}.sig").write_text("a seal")
    written(work, request(target), INDEX)
    for path in record.parent.iterdir():
        assert (target / "data" / RECORDS / path.name).read_bytes() == path.read_bytes()


def test_the_crate_of_the_results_is_in_it(work, target):
    written(work, request(target), INDEX)
    graph = json.loads((target / "data/crate/ro-crate-metadata.json").read_text())["@graph"]
    [result] = [one for one in graph if one.get("name") == "result.txt"]
    assert result["sha256"] == hashlib.sha256((work / "result.txt").read_bytes()).hexdigest()


def test_it_is_a_whole_bag(work, target):
    written(work, request(target, work / "text.txt"), INDEX)
    bagit.Bag(str(target)).validate(processes=1)
    assert others(target) == ["archive"]


def test_sizes_are_known_before_anything_is_written(work, target):
    planned = archive.plan(audited(work), request(target), registry=Served(content=INDEX), advance=lambda _: None)
    assert not target.exists()
    assert planned.to_write == planned.images.contents.size + sum(one.size for one in planned.files)


def test_no_room_is_told_before_an_image_is_written(work, target, monkeypatch):
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(LocalIOError, match="there is room for 1"):
        written(work, request(target), INDEX)
    assert not target.exists()


def test_an_interrupted_archive_is_gone_on_with(work, target):
    """Ctrl-C: nothing has the name of the archive, and what was written is not written again."""

    def stop(_count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        written(work, request(target), INDEX, advance=stop)
    assert others(target) == ["archive.partial"]

    steps = []

    def stop_late(count):
        steps.append(count)
        if len(steps) == 8:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        written(work, request(target), INDEX, advance=stop_late)
    blobs = list((target.with_name("archive.partial") / "data/images/blobs/sha256").iterdir())
    before = {path.name: path.stat().st_ino for path in blobs}
    assert before
    made = written(work, request(target), INDEX)
    after = {path.name: path.stat().st_ino for path in (target / "data/images/blobs/sha256").iterdir()}
    assert made.there > 0
    assert {name: after[name] for name in before} == before
    bagit.Bag(str(target)).validate(processes=1)


def test_what_an_unfinished_one_has_and_this_one_has_not_goes(work, target):
    with pytest.raises(ZeroDivisionError):
        written(work, request(target, work / "text.txt"), INDEX, advance=lambda _: 1 / 0)
    left = target.with_name("archive.partial") / "data"
    (left / "images/blobs/sha256" / ("0" * 64)).write_text("x")
    (left / ".crate.partial-x").mkdir()
    written(work, request(target), INDEX)
    assert f"images/blobs/sha256/{'0' * 64}" not in payload(target)
    bagit.Bag(str(target)).validate(processes=1)


def test_a_damaged_blob_of_an_unfinished_one_is_written_anew(work, target):
    written(work, request(target), INDEX)
    target.rename(target.with_name("archive.partial"))
    blob = archives.blob(target.with_name("archive.partial"), CONTENT.layers[1].digest)
    blob.write_bytes(bytes(blob.stat().st_size))
    written(work, request(target), INDEX)
    bagit.Bag(str(target)).validate(processes=1)
    assert Digest.parse(CONTENT.layers[1].digest).matches(archives.blob(target, CONTENT.layers[1].digest).read_bytes())


def test_a_second_one_takes_its_images_from_the_first(work, target):
    written(work, request(target), INDEX)
    before = archives.blob(target, CONTENT.layers[1].digest).stat().st_ino
    made = written(work, request(target, work / "text.txt"), INDEX)
    assert archives.blob(target, CONTENT.layers[1].digest).stat().st_ino == before
    assert made.there == made.images.contents.size
    assert "project/text.txt" in payload(target)
    assert others(target) == ["archive"]


def test_a_folder_that_is_empty_is_taken(work, target):
    target.mkdir()
    written(work, request(target), INDEX)
    bagit.Bag(str(target)).validate(processes=1)


def test_an_archive_in_its_own_work_directory_does_not_hold_itself(work):
    for _ in range(2):
        written(work, request(work / "archive", work), INDEX)
    assert not [name for name in payload(work / "archive") if name.startswith("project/archive")]


def test_a_run_that_goes_on_is_waited_for(work, target):
    audit = audited(work)
    audit = replace(audit, runs=(replace(audit.runs[0], ending=Ending.RUNNING),))
    with pytest.raises(UsageError, match="goes on"):
        archive.check(audit, request(target))


def test_a_run_without_a_lock_cannot_be_archived(tmp_path, target):
    folder = tmp_path / "work"
    run = project(folder, INDEX)
    records.write(folder, replace(run, lock=None, id=audits.run(2).id, images=()), chained=False)
    with pytest.raises(UsageError, match="used no lock"):
        written(folder, request(target), INDEX)


def test_a_lock_that_was_changed_since_is_told(work, target):
    lock = work / "containers.lock"
    lock.write_text(f"# changed\n{lock.read_text()}")
    assert any("it was changed since" in note for note in written(work, request(target), INDEX).notes)


def test_a_workflow_elsewhere_is_taken_where_a_person_names_it(tmp_path, target):
    work, elsewhere = tmp_path / "work", tmp_path / "repository"
    run = project(work, INDEX)
    elsewhere.mkdir()
    for name in ("Snakefile", "containers.lock"):
        (work / name).rename(elsewhere / name)
    (elsewhere / "rules.smk").write_text("x")
    git(elsewhere, "init", "-q")
    git(elsewhere, "add", ".")
    moved = replace(
        run,
        source=replace(run.source, snakefile=str(elsewhere / "Snakefile")),
        lock=replace(run.lock, path=str(elsewhere / "containers.lock")),
    )
    shutil.rmtree(work / ".snakemake/apptainer-freshness")
    records.write(work, moved)

    with pytest.raises(UsageError, match="lies outside of"):
        written(work, request(target), INDEX)
    written(work, request(target, snakefile=elsewhere / "Snakefile"), INDEX)
    there = {name for name in payload(target) if name.startswith("workflow/")}
    assert there == {"workflow/Snakefile", "workflow/containers.lock", "workflow/rules.smk"}
    assert "snakemake -s ../workflow/Snakefile --sdm" in (target / "data/README.txt").read_text()


def test_a_file_that_cannot_be_listed_is_told(work, target):
    (work / "in").mkdir()
    (work / "in" / "two\nlines").write_text("x")
    made = written(work, request(target, work / "in"), INDEX)
    assert any("a name that cannot be listed" in note for note in made.notes)
