"""The way into Snakemake: once, and of no consequence without the flag."""

from types import SimpleNamespace

import pytest
from snakemake.api import WorkflowApi
from snakemake.exceptions import WorkflowError

from snakemake_apptainer_freshness.engine import config, hook, install

OFF = config.CommandLineFlag()


@pytest.fixture
def workflow():
    made = SimpleNamespace(config={}, built=[])
    made._build_dag = lambda: made.built.append("theirs")
    return made


def test_installing_twice_wraps_once():
    install.install()
    wrapped = WorkflowApi._get_workflow
    install.install()
    assert WorkflowApi._get_workflow is wrapped


def test_without_the_flag_snakemake_builds_its_dag(workflow, monkeypatch):
    monkeypatch.setattr(hook, "build_dag", lambda *_: pytest.fail("the flag is not set"))
    install._attach(workflow, OFF)
    workflow._build_dag()
    assert workflow.built == ["theirs"]


def test_a_flag_in_the_configuration_is_seen_when_the_dag_is_built(workflow, monkeypatch):
    monkeypatch.setattr(hook, "build_dag", lambda _, __, build: (workflow.built.append("ours"), build()))
    install._attach(workflow, OFF)
    workflow.config["apptainer_freshness"] = True
    workflow._build_dag()
    assert workflow.built == ["ours", "theirs"]


def test_a_snakemake_without_a_dag_to_wrap_is_refused_only_with_the_flag():
    workflow = SimpleNamespace(config={}, check=lambda: "checked")
    install._attach(workflow, OFF)
    assert workflow.check() == "checked"
    workflow.config["apptainer_freshness"] = True
    with pytest.raises(WorkflowError, match=r"has no Workflow\._build_dag"):
        workflow.check()
