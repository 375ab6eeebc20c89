"""How today's Snakemake runs containers: the names of its objects that are wrapped, on objects that have them."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.exceptions import WorkflowError

from snakemake_apptainer_freshness.engine.singularity import OwnContainers
from snakemake_apptainer_freshness.settings import Options
from tests.support import pins
from tests.support.jobs import Job, Rule

PIN = pins.pin()
OTHER = f"docker://{pins.REPOSITORY}@{pins.OTHER}"


@pytest.fixture
def containers(workflow):
    workflow.dag.jobs = [Job(1, rule=Rule("count", PIN.url)), Job(2, rule=Rule("other", OTHER))]
    workflow.dag.update_container_imgs()
    return OwnContainers(workflow)


@pytest.fixture
def image(workflow):
    path = pins.put(Path(workflow.persistence.container_img_path), PIN)
    pins.record(path, PIN)
    return path


def guard(containers, told=None):
    on_image = lambda *said: told.append(said) if told is not None else None  # noqa: E731
    return containers.guard({PIN.url: PIN}, Options(), hashes={}, on_image=on_image)


def test_containers_are_run_where_the_command_line_says_so(workflow, containers):
    assert containers.are_run
    workflow.deployment_settings.deployment_method = set()
    assert not containers.are_run


def test_urls_are_those_of_the_jobs(workflow, containers):
    assert containers.urls() == [PIN.url, OTHER]
    assert [containers.url_of(job) for job in workflow.dag.jobs] == [PIN.url, OTHER]
    assert containers.url_of(Job(3)) == ""


def test_images_of_pins_are_guarded_once_and_others_left_alone(workflow, containers):
    assert guard(containers) == {PIN.url}
    assert guard(containers) == set()
    assert containers.guards().keys() == {PIN.url}
    assert workflow.dag.container_imgs[OTHER].path


def test_the_path_of_a_guarded_image_is_given_out_by_its_guard(workflow, containers, image):
    told = []
    guard(containers, told)
    guarded = workflow.dag.container_imgs[PIN.url]
    assert (guarded.path, guarded.url, guarded.is_local) == (str(image), PIN.url, False)
    assert [(url, fact.state) for url, fact, _ in told] == [(PIN.url, "verified")]


def test_the_path_of_an_image_that_is_another_is_an_error_of_snakemake(workflow, containers, image):
    guard(containers)
    pins.flip_seven_bytes(image)
    with pytest.raises(WorkflowError, match="will not run the image"):
        _ = workflow.dag.container_imgs[PIN.url].path


def test_what_collects_and_what_fetches_goes_by_us(workflow, containers):
    done = workflow.dag.done
    containers.attach(
        lambda collect: (done.append("before"), collect()), lambda pull: (done.append("provided"), pull())
    )
    workflow.dag.update_container_imgs()
    workflow.dag.pull_container_imgs()
    assert done == ["before", "provided", "pull"]


@pytest.mark.parametrize("lacking", ["update_container_imgs", "pull_container_imgs"])
def test_a_snakemake_that_lacks_one_of_them_is_refused_by_its_name(lacking):
    names = {"update_container_imgs": print, "pull_container_imgs": print}
    del names[lacking]
    containers = OwnContainers(SimpleNamespace(dag=SimpleNamespace(**names)))
    with pytest.raises(WorkflowError, match=rf"no DAG\.{lacking}"):
        containers.attach(lambda _: None, lambda _: None)
