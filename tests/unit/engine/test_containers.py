"""Which Snakemake a workflow has, as far as containers go, is seen from its names."""

from types import SimpleNamespace

import pytest
from snakemake.exceptions import WorkflowError

from snakemake_apptainer_freshness.engine import containers
from snakemake_apptainer_freshness.engine.deployment import PluginContainers
from snakemake_apptainer_freshness.engine.singularity import OwnContainers


def test_which_of_the_two_a_snakemake_has_is_seen_from_its_names():
    workflow = SimpleNamespace(software_deployment_manager=SimpleNamespace())
    assert isinstance(containers.of(workflow), PluginContainers)
    assert containers.of(workflow) is containers.of(workflow)
    assert isinstance(containers.of(SimpleNamespace()), OwnContainers)


def test_a_snakemake_that_has_neither_is_refused_by_both_names():
    with pytest.raises(
        WorkflowError, match=r"no DAG\.update_container_imgs, nor Workflow\.software_deployment_manager"
    ):
        containers.of(SimpleNamespace(dag=SimpleNamespace())).attach(lambda _: None, lambda _: None)


def test_our_commands_ask_snakemake_to_look_at_containers():
    today, later = SimpleNamespace(use_apptainer=False), SimpleNamespace(software_deployment_methods=set())
    for arguments in (today, later):
        containers.choose(arguments)
    assert (today.use_apptainer, later.software_deployment_methods) == (True, {"apptainer-freshness"})
