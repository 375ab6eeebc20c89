"""Which part a process plays: that of a main process, that of a job, or none."""

import pytest
from snakemake.exceptions import WorkflowError
from snakemake_interface_executor_plugins.settings import ExecMode

from snakemake_apptainer_freshness.engine import handover, hook
from snakemake_apptainer_freshness.engine.config import PINS_OFF, CommandLineFlag
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from snakemake_apptainer_freshness.settings import Mode, OnUnverified
from tests.support import pins
from tests.support.jobs import Job, Rule

TOOL = f"docker://{pins.REPOSITORY}:1.0"
PINNED = f"docker://{pins.REPOSITORY}@{pins.DIGEST}"
NOTHING = CommandLineFlag()


@pytest.fixture
def rule(workflow):
    made = Rule("count", TOOL)
    workflow.rules, workflow.dag.jobs = [made], [Job(1, rule=made)]
    return made


@pytest.fixture
def job_process(workflow, rule, no_registry):
    workflow.exec_mode = ExecMode.SUBPROCESS
    return workflow


@pytest.fixture
def told(monkeypatch):
    lines = []
    monkeypatch.setattr(hook, "log_line", lambda line: lines.append(line.text))
    return lines


def built(workflow, asked=NOTHING):
    return hook.build_dag(workflow, asked, lambda: "the DAG")


def word(**changes):
    run_as = {TOOL: pins.run_as(TOOL, PINNED, pins.DIGEST)}
    fields = {"pins": run_as, "mode": Mode.LOCK, "on_unverified": OnUnverified.REPAIR, **changes}
    return handover.encode(handover.Handover(**fields))


def test_a_main_process_whose_flag_is_off_tells_its_jobs_and_changes_nothing(workflow, rule, no_registry):
    workflow.config["apptainer_freshness"] = False
    assert built(workflow) == "the DAG"
    assert workflow.config_settings.config_args == [f"apptainer_freshness_pins={PINS_OFF}"]
    assert rule.expand_container_img({}) == TOOL


def test_a_main_process_that_runs_no_containers_says_so_and_changes_nothing(workflow, rule, told, no_registry):
    workflow.deployment_settings.deployment_method = set()
    assert built(workflow, CommandLineFlag(flag="lock")) == "the DAG"
    assert told == ["apptainer-freshness: nothing to do: without --sdm apptainer Snakemake ignores containers"]
    assert rule.expand_container_img({}) == TOOL


def test_a_main_process_with_the_flag_pins_its_rules(workflow, rule, tmp_path, no_registry):
    (tmp_path / "containers.lock").write_text(dumps(Lock.of([pins.lock_entry(TOOL)])))
    workflow.touch = True
    assert built(workflow, CommandLineFlag(flag="frozen")) == "the DAG"
    assert rule.expand_container_img({}) == PINNED


def test_a_flag_that_says_nothing_sensible_is_snakemakes_error(workflow):
    with pytest.raises(WorkflowError, match="sometimes"):
        built(workflow, CommandLineFlag(flag="sometimes"))


def test_a_job_takes_the_pins_of_its_main_process_and_asks_nobody(job_process, rule, tmp_path):
    assert built(job_process, CommandLineFlag(pins=word())) == "the DAG"
    assert rule.expand_container_img({}) == PINNED
    assert not (tmp_path / "containers.lock").exists()


def test_a_job_makes_nothing_again_that_its_main_process_keeps(job_process):
    built(job_process, CommandLineFlag(pins=word()))
    assert job_process.persistence.software_stack_changed(Job(1)) == []


@pytest.mark.parametrize("asked", [CommandLineFlag(pins=PINS_OFF, flag="lock"), CommandLineFlag(flag="off"), NOTHING])
def test_a_job_without_the_flag_is_left_alone(job_process, rule, asked):
    assert built(job_process, asked) == "the DAG"
    assert rule.expand_container_img({}) == TOOL


def test_a_job_that_got_no_pins_is_refused_and_runs_no_tag(job_process):
    with pytest.raises(WorkflowError, match="got no pins from the main process"):
        built(job_process, CommandLineFlag(flag="lock"))


def test_pins_that_were_damaged_on_their_way_are_refused(job_process):
    with pytest.raises(WorkflowError, match="are damaged"):
        built(job_process, CommandLineFlag(pins=word()[:-9]))


def test_a_job_that_runs_no_containers_needs_no_pins(job_process, rule):
    job_process.deployment_settings.deployment_method = set()
    assert built(job_process, CommandLineFlag(pins="v1.any")) == "the DAG"
    assert rule.expand_container_img({}) == TOOL
