"""An image that is not what its pin names runs in no job; what is proven is looked at once."""

import os
import time
from pathlib import Path

import pytest
from snakemake.exceptions import WorkflowError

from snakemake_apptainer_freshness.engine import images as module
from snakemake_apptainer_freshness.engine.images import Images
from snakemake_apptainer_freshness.errors import TagMoved, UnprovenImage
from snakemake_apptainer_freshness.freshness import RemoteState, Verdict
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.settings import Mode, OnUnverified, Options, Reaction
from tests.support import pins
from tests.support.jobs import Job, Rule

PIN = pins.pin()


@pytest.fixture
def prefix(workflow):
    workflow.dag.jobs = [Job(1, rule=Rule("count", PIN.url))]
    workflow.dag.update_container_imgs()
    return Path(workflow.persistence.container_img_path)


@pytest.fixture
def proven(prefix):
    """The file of the image, proven."""
    path = pins.put(prefix, PIN)
    pins.record(path, PIN)
    return path


def alter(path):
    pins.flip_seven_bytes(path)
    os.utime(path, (time.time() - 30, time.time() - 30))


def images(workflow, *, main=True, hashes=None, **options):
    made = Images(workflow, Options(**{"mode": Mode.FROZEN, **options}), main=main, hashes=hashes)
    made.guard({PIN.url: PIN})
    return made


def provide(made, workflow, *verdicts):
    return made.provide({PIN.url: PIN}, workflow.dag.pull_container_imgs, {PIN.url: verdicts})


def verdict(tag, state):
    """What a registry says of another tag of the image."""
    reference = parse(f"docker://{pins.REPOSITORY}:{tag}")
    return Verdict(reference=reference, pinned=pins.DIGEST, remote=pins.remote_fact(state, pins.OTHER))


def test_a_proven_image_is_kept_with_its_hash_and_snakemake_fetches_the_rest(workflow, proven):
    made = images(workflow)
    provide(made, workflow)
    assert made.facts[PIN.url].state == "verified"
    assert made.hashes[PIN.url].sha256 == pins.fact_of(proven.read_bytes(), PIN).sha256
    assert workflow.dag.done == ["pull"]


def test_what_was_provided_is_not_looked_at_again_by_a_later_collection(workflow, proven):
    made = images(workflow)
    provide(made, workflow)
    proven.unlink()
    provide(made, workflow)
    assert workflow.dag.done == ["pull", "pull"]


def test_a_tag_that_moved_is_named_and_no_other_of_the_same_image(workflow, proven):
    made = images(workflow, on_moved=Reaction.ERROR)
    with pytest.raises(TagMoved, match=rf"pins: docker://{pins.REPOSITORY}:b\n"):
        provide(made, workflow, verdict("a", RemoteState.CURRENT), verdict("b", RemoteState.MOVED))
    assert workflow.dag.done == []


def test_a_tag_that_moved_stops_the_run_where_a_job_needs_it_only_after_another_of_the_same_image(workflow, proven):
    made = images(workflow, on_moved=Reaction.ERROR)
    provide(made, workflow, verdict("a", RemoteState.CURRENT))
    with pytest.raises(TagMoved, match=rf"pins: docker://{pins.REPOSITORY}:b\n"):
        provide(made, workflow, verdict("a", RemoteState.CURRENT), verdict("b", RemoteState.MOVED))
    assert workflow.dag.done == ["pull"]


def test_a_tag_that_moved_is_no_reason_to_stop_where_a_user_wants_to_be_warned(workflow, proven):
    made = images(workflow, on_moved=Reaction.WARN)
    provide(made, workflow, verdict("a", RemoteState.CURRENT))
    provide(made, workflow, verdict("b", RemoteState.MOVED))
    assert workflow.dag.done == ["pull", "pull"]


def test_an_image_that_is_missing_in_mode_frozen_is_refused_before_anything_is_fetched(workflow, prefix):
    with pytest.raises(
        UnprovenImage, match=rf"an image is not proven .*\n  {PIN.reference.text}: .* is absent"
    ) as raised:
        provide(images(workflow), workflow)
    assert "mode frozen fetches nothing" in raised.value.hint
    assert workflow.dag.done == []


def test_an_altered_image_is_refused_and_a_job_gets_no_path_of_it(workflow, proven):
    alter(proven)
    made = images(workflow)
    with pytest.raises(UnprovenImage, match="is altered"):
        provide(made, workflow)
    with pytest.raises(WorkflowError, match=f"will not run the image of {PIN.reference.text}"):
        _ = workflow.dag.container_imgs[PIN.url].path


def test_an_image_that_is_altered_between_its_proof_and_its_job_runs_in_none(workflow, proven):
    made, seen = images(workflow), []
    made.watcher = lambda url, fact: seen.append((url, str(fact.state)))
    provide(made, workflow)
    assert workflow.dag.container_imgs[PIN.url].path == str(proven)
    alter(proven)
    with pytest.raises(WorkflowError, match="is altered"):
        _ = workflow.dag.container_imgs[PIN.url].path
    assert seen == [(PIN.url, "verified"), (PIN.url, "altered")]


def test_a_user_who_wants_to_be_warned_is_warned_and_the_image_runs(workflow, proven, monkeypatch):
    told = []
    monkeypatch.setattr(module, "log_line", told.append)
    alter(proven)
    made = images(workflow, mode=Mode.LOCK, on_unverified=OnUnverified.WARN)
    provide(made, workflow)
    assert [line.text.partition(": running ")[2][:27] for line in told] == ["an unproven image: " + str(proven)[:8]]
    assert told[0].problem
    assert workflow.dag.container_imgs[PIN.url].path == str(proven)


def test_a_job_believes_the_hash_that_it_was_handed_and_no_record(workflow, proven):
    main = images(workflow)
    provide(main, workflow)
    workflow.dag.container_imgs.clear()
    workflow.dag.update_container_imgs()
    alter(proven)
    pins.record(proven, PIN)
    job = images(workflow, main=False, hashes=main.hashes)
    with pytest.raises(UnprovenImage, match="is altered"):
        provide(job, workflow)


@pytest.mark.parametrize("what", ["dryrun", "touch"])
def test_what_runs_no_job_looks_at_no_image(workflow, proven, what):
    setattr(workflow, what, True)
    alter(proven)
    made = images(workflow)
    provide(made, workflow)
    assert made.facts == {}
    assert workflow.dag.done == ["pull"]


def test_a_command_that_runs_no_job_may_know_where_any_image_lies(workflow, proven):
    workflow.executor_plugin = None
    alter(proven)
    images(workflow)
    assert workflow.dag.container_imgs[PIN.url].path == str(proven)


def test_only_what_a_job_of_the_dag_needs_has_to_be_there(workflow, prefix):
    workflow.dag.container_imgs.clear()
    made = images(workflow)
    provide(made, workflow)
    assert (made.facts, made.guarded) == ({}, set())
