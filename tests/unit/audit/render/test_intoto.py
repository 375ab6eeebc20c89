"""A statement binds what a run made to what it ran, and nothing that has no hash."""

import json
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.audit.render import intoto
from snakemake_apptainer_freshness.errors import UsageError
from snakemake_apptainer_freshness.record.run import JobResult
from tests.support import audits


@pytest.fixture
def audit():
    return audits.sample()


def test_each_run_has_a_statement_of_its_own(audit, tmp_path):
    intoto.write(audit, tmp_path / "statements", {})
    files = sorted((tmp_path / "statements").iterdir())
    assert [path.name for path in files] == [f"{run.id}.intoto.json" for run in audit.runs]
    for path in files:
        document = json.loads(path.read_text())
        assert document["_type"] == "https://in-toto.io/Statement/v1"
        assert document["predicateType"] == "https://slsa.dev/provenance/v1"
        assert {"buildDefinition", "runDetails"} == set(document["predicate"])


@pytest.mark.filterwarnings("ignore")
def test_the_standards_own_messages_take_it(audit):
    from google.protobuf import json_format
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    for run in audit.runs:
        document = intoto.statement(run)
        Statement.copy_from_pb(json_format.Parse(json.dumps(document), statement_pb2.Statement())).validate()
        provenance = json_format.Parse(json.dumps(document["predicate"]), provenance_pb2.Provenance())
        assert provenance.run_details.metadata.invocation_id == run.id


def test_subjects_are_the_outputs_whose_hash_is_recorded(audit):
    for run in audit.runs:
        hashed = {
            (output.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), output.sha256)
            for job in run.jobs
            if job.result is JobResult.FINISHED
            for output in job.outputs
            if output.sha256
        }
        subjects = intoto.statement(run)["subject"]
        if hashed:
            assert {(one["name"], one["digest"]["sha256"]) for one in subjects} == hashed
        assert subjects


def test_without_any_hash_of_an_output_the_record_itself_is_the_subject(audit):
    bare = replace(audit.runs[0], jobs=(), file="/x/record.json", sha256="a" * 64)
    assert intoto.statement(bare)["subject"] == [{"name": "record.json", "digest": {"sha256": "a" * 64}}]


def test_materials_are_the_images_by_both_digests_and_the_lock(audit):
    run = audit.runs[0]
    materials = intoto.statement(run)["predicate"]["buildDefinition"]["resolvedDependencies"]
    digests = {value for one in materials for value in one["digest"].values()}
    for image in run.images:
        assert {image.digest.removeprefix("sha256:"), image.sha256} - {""} <= digests
    if run.lock:
        assert run.lock.sha256.removeprefix("sha256:") in digests


def test_no_secret_of_the_configuration_is_in_it(audit):
    run = audit.runs[0]
    parameters = intoto.statement(run)["predicate"]["buildDefinition"]["internalParameters"]
    assert parameters["config"] == {"sha256": run.config_sha256}


def test_nothing_to_state_is_an_error(audit, tmp_path):
    with pytest.raises(UsageError):
        intoto.check(replace(audit, runs=()), tmp_path, {})
