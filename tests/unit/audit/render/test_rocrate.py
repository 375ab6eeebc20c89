"""A crate says of runs and images what the audit says, in a form that its official validator takes."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.common.text import unicode
from snakemake_apptainer_freshness.errors import UsageError
from tests.support import audits, crates


@pytest.fixture
def audit(tmp_path):
    """The sample, of runs whose work directory is here with Snakefile, lock and records as they were recorded."""
    return crates.at(audits.sample(), tmp_path / "project")


@pytest.fixture
def written(audit, tmp_path):
    crates.write(audit, tmp_path / "crate")
    return tmp_path / "crate"


@pytest.fixture
def entities(written):
    graph = json.loads((written / "ro-crate-metadata.json").read_text())["@graph"]
    return {entity["@id"]: entity for entity in graph}


def of_type(entities, kind):
    return [entity for entity in entities.values() if kind in entity["@type"]]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("profile", ["provenance-run-crate", "workflow-run-crate", "process-run-crate"])
def test_the_official_validator_takes_it(written, profile, monkeypatch):
    assert crates.problems(written, profile, monkeypatch) == []


@pytest.mark.filterwarnings("ignore")
def test_the_official_validator_refuses_one_that_lacks_what_a_profile_requires(written, monkeypatch):
    path = written / "ro-crate-metadata.json"
    path.write_text(path.read_text().replace('"instrument"', '"tool"'))
    assert any("instrument" in problem for problem in crates.problems(written, "process-run-crate", monkeypatch))


def test_it_conforms_to_the_profiles_of_runs(entities):
    conforms = {one["@id"] for one in entities["./"]["conformsTo"]}
    assert {
        "https://w3id.org/ro/wfrun/process/0.5",
        "https://w3id.org/ro/wfrun/workflow/0.5",
        "https://w3id.org/workflowhub/workflow-ro-crate/1.0",
    } <= conforms


def test_each_image_stands_there_as_oci_image_and_as_sif_with_both_hashes(audit, entities):
    images = of_type(entities, "ContainerImage")
    assert {image["sha256"] for image in images} == {
        value
        for run in audit.runs
        for image in run.images
        for value in (image.digest.removeprefix("sha256:"), image.sha256)
        if value
    }
    assert all({"registry", "name", "sha256", "additionalType"} <= set(image) for image in images)
    kinds = {image["additionalType"]["@id"].rpartition("#")[2] for image in images}
    assert kinds == {"DockerImage", "SIFImage"}


def test_each_run_and_each_job_that_ended_is_an_action(audit, entities):
    actions = of_type(entities, "CreateAction")
    ended = [job for run in audit.runs for job in run.jobs if job.result in ("finished", "failed")]
    assert len(actions) == len(audit.runs) + len(ended)


def test_each_output_has_its_verdict_and_no_copy(written, audit, entities):
    described = [entity for entity in of_type(entities, "File") if entity["@id"].startswith("file:")]
    assert any("made by a proven image" in entity.get("description", "") for entity in described)
    assert {path.name for path in written.iterdir()} == {"Snakefile", "records", "ro-crate-metadata.json", "locks"}


def test_the_snakefile_the_lock_and_the_records_are_in_it_byte_by_byte(written, audit):
    run = audit.runs[0]
    assert (written / "Snakefile").read_bytes() == Path(run.source.snakefile).read_bytes()
    assert (written / f"locks/{run.lock.sha256}.lock").read_bytes() == Path(run.lock.path).read_bytes()
    assert {path.stem for path in (written / "records").iterdir()} == {run.id for run in audit.runs}


def test_a_lock_that_changed_since_is_left_out(audit, tmp_path):
    Path(audit.runs[0].lock.path).write_text("version = 1\n# newer\n")
    crates.write(audit, tmp_path / "crate")
    assert not (tmp_path / "crate" / "locks").exists()


def test_a_project_that_was_moved_is_taken_from_where_it_is_now(audit, tmp_path):
    moved = tmp_path / "moved"
    Path(audit.workdirs[0]).rename(moved)
    runs = tuple(
        replace(run, file=str(moved / Path(run.file).relative_to(run.workdir)), problem="") for run in audit.runs
    )
    crates.write(replace(audit, workdirs=(str(moved),), runs=runs), tmp_path / "crate")
    assert (tmp_path / "crate" / "Snakefile").is_file()


@pytest.mark.parametrize("known", [True, False], ids=["hash recorded", "record of an older version"])
def test_a_snakefile_elsewhere_is_taken_where_a_person_names_it(audit, tmp_path, known):
    there = tmp_path / "repository" / "Snakefile"
    there.parent.mkdir()
    there.write_bytes(Path(audit.runs[-1].source.snakefile).read_bytes())
    outside = tuple(
        replace(run, source=replace(run.source, snakefile=str(there), sha256=run.source.sha256 if known else ""))
        for run in audit.runs
    )
    crates.write(replace(audit, runs=outside), tmp_path / "crate", snakefile=there)
    assert (tmp_path / "crate" / "Snakefile").read_bytes() == there.read_bytes()


def test_a_named_snakefile_that_is_not_the_recorded_one_is_refused(audit, tmp_path):
    other = tmp_path / "Snakefile"
    other.write_text("rule other:\n    input: []\n")
    with pytest.raises(UsageError, match="SHA-256 is not the recorded one"):
        crates.write(audit, tmp_path / "crate", snakefile=other)


def test_each_finding_is_a_comment_about_what_it_is_about(audit, entities):
    comments = [entities[one["@id"]] for one in entities["./"]["comment"]]
    assert [(one["name"], one["keywords"], one["text"]) for one in comments] == [
        (finding.kind, finding.severity, finding.text) for finding in audit.findings
    ]
    changed = next(one for one in comments if one["name"] == "output-changed")
    moved = next(one for one in comments if one["name"] == "pin-moved")
    assert entities[changed["about"]["@id"]]["name"] in {output.path for output in audit.outputs}
    assert {entities[one["@id"]]["@type"] for one in moved["about"]} == {"ContainerImage"}


def test_an_output_without_a_record_is_described_too(audit, tmp_path):
    bare = tuple(replace(run, jobs=()) for run in audit.runs)
    crates.write(replace(audit, runs=bare, findings=()), tmp_path / "crate")
    graph = json.loads((tmp_path / "crate" / "ro-crate-metadata.json").read_text())["@graph"]
    described = {entity.get("name") for entity in graph if "File" in entity["@type"] and "description" in entity}
    assert {unicode(output.path) for output in audit.outputs} <= described


def test_what_stands_in_the_way_is_not_written_over(audit, tmp_path):
    (tmp_path / "crate").mkdir()
    (tmp_path / "crate" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        crates.write(audit, tmp_path / "crate")
    assert [path.name for path in (tmp_path / "crate").iterdir()] == ["mine.txt"]


def test_a_crate_needs_the_snakefile_and_leaves_nothing_behind_without_it(audit, tmp_path):
    gone = tuple(
        replace(run, source=replace(run.source, snakefile=f"{run.workdir}/gone/Snakefile")) for run in audit.runs
    )
    with pytest.raises(UsageError, match="no longer there"):
        crates.write(replace(audit, runs=gone), tmp_path / "crate")
    assert not (tmp_path / "crate").exists()


def test_a_crate_is_about_one_work_directory(audit, tmp_path):
    with pytest.raises(UsageError, match="one work directory"):
        crates.write(replace(audit, workdirs=("/a", "/b")), tmp_path / "crate")


def test_without_the_library_it_says_how_to_get_it(audit, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rocrate.rocrate", None)
    with pytest.raises(UsageError) as raised:
        crates.write(audit, tmp_path / "crate")
    assert "pip install" in raised.value.hint
