"""The main process pins before the DAG, writes the lock before any job, and hands its pins to its jobs."""

import pytest
from snakemake.exceptions import WorkflowError

from snakemake_apptainer_freshness.actions.lock_io import read_lock
from snakemake_apptainer_freshness.engine import handover, main, pins_file
from snakemake_apptainer_freshness.engine.config import PINS_KEY
from snakemake_apptainer_freshness.engine.main import MainSession
from snakemake_apptainer_freshness.errors import NotFound
from snakemake_apptainer_freshness.freshness import RemoteState
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from snakemake_apptainer_freshness.registry import resolver
from snakemake_apptainer_freshness.settings import Mode, Options, Reaction
from tests.support import pins, programs
from tests.support.jobs import Job, Rule

TOOL, OTHER = f"docker://{pins.REPOSITORY}:1.0", f"docker://{pins.REPOSITORY}:2.0"
PINNED, NEW = (f"docker://{pins.REPOSITORY}@{digest}" for digest in (pins.DIGEST, pins.OTHER))


class ByWildcard(Rule):
    """A rule whose container a wildcard names."""

    def expand_container_img(self, wildcards):
        return wildcards["image"]


@pytest.fixture
def lock(tmp_path):
    """The lock, which has TOOL."""
    path = tmp_path / "containers.lock"
    path.write_text(dumps(Lock.of([pins.lock_entry(TOOL)])))
    return path


@pytest.fixture
def told(monkeypatch):
    lines = []
    monkeypatch.setattr(main, "log_line", lambda line: lines.append(line.text.strip()))
    return lines


@pytest.fixture
def registry(monkeypatch):
    """A registry in which every tag points at the digest that `answers` names."""
    monkeypatch.setenv("PATH", programs.environment()["PATH"])
    answers = {}

    def resolve(_self, references):
        for one in references:
            digest = answers.get(one.text)
            yield one, NotFound("no such tag") if digest is None else pins.lock_entry(one.text, digest)

    def check(_self, entries):
        for one in entries:
            digest = answers[one.reference.text]
            yield one, pins.remote_fact(RemoteState.CURRENT if digest == one.digest else RemoteState.MOVED, digest)

    monkeypatch.setattr(resolver.Resolver, "resolve", resolve)
    monkeypatch.setattr(resolver.Resolver, "check", check)
    return answers


def build(workflow, *references, mode=Mode.LOCK, **options):
    """Build a DAG with a job for a rule of each of `references`, as Snakemake does; gives what the rules run."""
    workflow.rules = [Rule(f"r{number}", text) for number, text in enumerate(references)]
    workflow.dag.jobs = [Job(number, rule=rule) for number, rule in enumerate(workflow.rules)]
    session = MainSession(workflow, Options(mode=mode, **options))
    session.build_dag(workflow.dag.update_container_imgs)
    return [rule.expand_container_img({}) for rule in workflow.rules]


def handed_over(workflow):
    [entry] = [one for one in workflow.config_settings.config_args if one.startswith(f"{PINS_KEY}=")]
    return handover.decode(entry.partition("=")[2], pins_file.read)


def test_what_is_locked_is_pinned_without_a_network_and_handed_to_the_jobs(workflow, lock, no_registry, monkeypatch):
    monkeypatch.setenv("PATH", programs.environment()["PATH"])
    before = lock.read_bytes()
    assert build(workflow, TOOL, mode=Mode.FROZEN) == [PINNED]
    received = handed_over(workflow)
    assert ({text: one.url for text, one in received.pins.items()}, received.mode) == ({TOOL: PINNED}, Mode.FROZEN)
    assert lock.read_bytes() == before


def test_what_the_lock_lacks_is_refused_in_mode_frozen_with_its_rule(workflow, lock, no_registry):
    with pytest.raises(WorkflowError, match=rf"{OTHER} \(rule r1 in Snakefile, line 7\)"):
        build(workflow, TOOL, OTHER, mode=Mode.FROZEN)


def test_a_new_reference_is_locked_before_a_job_starts_and_the_new_lock_is_to_be_committed(
    workflow, tmp_path, registry, told
):
    registry[TOOL] = pins.DIGEST
    assert build(workflow, TOOL) == [PINNED]
    assert read_lock(tmp_path / "containers.lock").entries[TOOL].digest == pins.DIGEST
    assert "1 added" in told[0]
    assert any("containers.lock: commit it" in line for line in told)


def test_a_tag_that_moved_is_told_and_the_pin_stays(workflow, lock, registry, told):
    registry[TOOL] = pins.OTHER
    before = lock.read_bytes()
    assert build(workflow, TOOL) == [PINNED]
    assert any(line.startswith(f"moved: {TOOL}") for line in told)
    assert lock.read_bytes() == before


def test_a_tag_that_moved_stops_the_run_where_that_is_wished_and_nothing_is_written(workflow, lock, registry, told):
    registry |= {TOOL: pins.OTHER, OTHER: pins.OTHER}
    before = lock.read_bytes()
    with pytest.raises(WorkflowError, match=f"tags moved away from their pins: {TOOL}"):
        build(workflow, TOOL, OTHER, on_moved=Reaction.ERROR)
    assert lock.read_bytes() == before
    assert not any("added" in line for line in told)


def test_an_update_takes_what_the_tag_points_at_now(workflow, lock, registry, told):
    registry[TOOL] = pins.OTHER
    assert build(workflow, TOOL, mode=Mode.UPDATE) == [NEW]
    assert read_lock(lock).entries[TOOL].digest == pins.OTHER


def test_a_dry_run_tells_what_would_be_done_and_does_nothing(workflow, tmp_path, registry, told):
    workflow.dryrun = True
    registry[TOOL] = pins.DIGEST
    assert build(workflow, TOOL) == [PINNED]
    workflow.dag.pull_container_imgs()
    assert "1 would be added" in told[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".snakemake", "Snakefile"]
    assert workflow.config_settings.config_args == []


@pytest.mark.parametrize("mode", [Mode.LOCK, Mode.UPDATE])
def test_a_command_that_runs_no_job_applies_the_lock_and_asks_and_writes_nothing(workflow, lock, no_registry, mode):
    workflow.touch = True
    before = lock.read_bytes()
    assert build(workflow, TOOL, OTHER, mode=mode) == [PINNED, OTHER]
    assert lock.read_bytes() == before
    assert workflow.config_settings.config_args == []


def test_what_a_policy_forbids_is_refused_before_a_registry_hears_of_it(workflow, lock, no_registry):
    with pytest.raises(WorkflowError, match=f"{TOOL} .rule r0 in Snakefile, line 7."):
        build(workflow, TOOL, policy={"registries": {"allow": ["ghcr.io"]}})


def test_what_a_checkpoint_brings_is_pinned_told_and_handed_over_before_its_jobs(workflow, lock, registry, told):
    registry |= {TOOL: pins.DIGEST, OTHER: pins.OTHER}
    workflow.rules = [late := ByWildcard("late", "{image}")]
    workflow.dag.jobs = [Job(1, rule=late)]
    workflow.dag.jobs[0].wildcards_dict = {"image": TOOL}
    MainSession(workflow, Options()).build_dag(workflow.dag.update_container_imgs)
    assert set(handed_over(workflow).pins) == {TOOL}
    told.clear()
    workflow.dag.jobs.append(Job(2, rule=late))
    workflow.dag.jobs[1].wildcards_dict = {"image": OTHER}
    workflow.dag.update_container_imgs()
    assert set(handed_over(workflow).pins) == {TOOL, OTHER}
    assert read_lock(lock).entries[OTHER].digest == pins.OTHER
    assert "1 added" in told[0]
