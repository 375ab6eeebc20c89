"""A job whose image was touched while it ran fails."""

import os
import types

import pytest

from snakemake_apptainer_freshness.apptainer import sandbox
from snakemake_apptainer_freshness.engine.messages import ContainerFreshnessError
from snakemake_apptainer_freshness.engine.watch import ImageWatch
from snakemake_apptainer_freshness.store.held import key_of
from tests.support.watched import Dag, Job

URL = "docker://q.io/a@sha256:" + "d" * 64


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"image")
    return path


@pytest.fixture
def dag():
    return Dag()


@pytest.fixture
def watch(dag):
    return ImageWatch(dag, lambda job: job.container_img_url)


def touch(image):
    os.utime(image, ns=(1, image.stat().st_mtime_ns + 1))


def test_outputs_of_a_job_whose_image_stayed_are_taken(dag, watch, image):
    job = Job(URL)
    dag.register_running([job])
    watch.looked(URL, image, key_of(image))
    dag.end(job)
    assert dag.taken == [job]


@pytest.mark.parametrize("harm", [touch, os.unlink, lambda image: image.replace(image.with_name("elsewhere"))])
def test_outputs_of_a_job_whose_image_was_touched_are_not(dag, watch, image, harm):
    job = Job(URL)
    dag.register_running([job])
    watch.looked(URL, image, key_of(image))
    harm(image)
    with pytest.raises(ContainerFreshnessError, match="while the job ran"):
        dag.end(job)
    assert dag.taken == []


@pytest.mark.parametrize("harm", [touch, os.unlink, lambda image: image.replace(image.with_name("elsewhere"))])
def test_outputs_of_a_job_of_whose_sandbox_a_file_was_touched_are_not(dag, watch, image, harm):
    box, job = image.parent, Job(URL)
    dag.register_running([job])
    watch.looked(URL, box, sandbox.survey(box).key)
    harm(image)
    with pytest.raises(ContainerFreshnessError, match="while the job ran"):
        dag.end(job)
    assert dag.taken == []


def test_outputs_of_a_job_whose_sandbox_stayed_are_taken(dag, watch, image):
    job = Job(URL)
    dag.register_running([job])
    watch.looked(URL, image.parent, sandbox.survey(image.parent).key)
    dag.end(job)
    assert dag.taken == [job]


def test_a_look_for_a_later_job_does_not_excuse_the_one_before(dag, watch, image):
    first, second = Job(URL), Job(URL)
    dag.register_running([first])
    watch.looked(URL, image, key_of(image))
    touch(image)
    dag.register_running([second])
    watch.looked(URL, image, key_of(image))
    dag.end(second)
    with pytest.raises(ContainerFreshnessError):
        dag.end(first)


def test_another_attempt_of_a_job_is_watched_anew(dag, watch, image):
    job = Job(URL)
    dag.register_running([job])
    watch.looked(URL, image, key_of(image))
    touch(image)
    dag.register_running([job])
    watch.looked(URL, image, key_of(image))
    dag.end(job)
    assert dag.taken == [job]


@pytest.mark.parametrize("job", [Job(None), Job(URL)])
def test_a_job_whose_image_this_process_did_not_look_at_is_let_be(dag, watch, job):
    dag.register_running([job])
    dag.end(job)
    assert dag.taken == [job]


def test_a_snakemake_without_the_seam_is_left_alone():
    ImageWatch(types.SimpleNamespace(), str)
