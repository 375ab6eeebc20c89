"""A job whose image was touched while it ran fails."""

import asyncio
import os
import types

import pytest

from snakemake_apptainer_freshness.engine.messages import ContainerFreshnessError
from snakemake_apptainer_freshness.engine.watch import ImageWatch
from snakemake_apptainer_freshness.store.held import key_of

URL = "docker://q.io/a@sha256:" + "d" * 64


class Job:
    """As much of one of Snakemake's jobs as is looked at."""

    rule = None

    def __init__(self, url=URL):
        self.container_img_url = url

    def is_group(self):
        return False


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"image")
    return path


class Dag:
    """As much of Snakemake's DAG; `taken` are the jobs whose outputs it took."""

    def __init__(self):
        self.taken = []

    def register_running(self, jobs):
        """Take `jobs` for running."""

    async def check_and_touch_output(self, job):
        """Take the outputs of `job`."""
        self.taken.append(job)


@pytest.fixture
def dag():
    return Dag()


@pytest.fixture
def watch(dag):
    return ImageWatch(dag, lambda job: job.container_img_url)


def touch(image):
    os.utime(image, ns=(1, image.stat().st_mtime_ns + 1))


def end(dag, job):
    asyncio.run(dag.check_and_touch_output(job))


def test_outputs_of_a_job_whose_image_stayed_are_taken(dag, watch, image):
    job = Job()
    dag.register_running([job])
    watch.looked(URL, image, key_of(image))
    end(dag, job)
    assert dag.taken == [job]


@pytest.mark.parametrize("harm", [touch, os.unlink, lambda image: image.replace(image.with_name("elsewhere"))])
def test_outputs_of_a_job_whose_image_was_touched_are_not(dag, watch, image, harm):
    job = Job()
    dag.register_running([job])
    watch.looked(URL, image, key_of(image))
    harm(image)
    with pytest.raises(ContainerFreshnessError, match="while the job ran"):
        end(dag, job)
    assert dag.taken == []


def test_a_look_for_a_later_job_does_not_excuse_the_one_before(dag, watch, image):
    first, second = Job(), Job()
    dag.register_running([first])
    watch.looked(URL, image, key_of(image))
    touch(image)
    dag.register_running([second])
    watch.looked(URL, image, key_of(image))
    end(dag, second)
    with pytest.raises(ContainerFreshnessError):
        end(dag, first)


def test_another_attempt_of_a_job_is_watched_anew(dag, watch, image):
    job = Job()
    dag.register_running([job])
    watch.looked(URL, image, key_of(image))
    touch(image)
    dag.register_running([job])
    watch.looked(URL, image, key_of(image))
    end(dag, job)
    assert dag.taken == [job]


@pytest.mark.parametrize("job", [Job(None), Job()])
def test_a_job_whose_image_this_process_did_not_look_at_is_let_be(dag, watch, job):
    dag.register_running([job])
    end(dag, job)
    assert dag.taken == [job]


def test_a_snakemake_without_the_seam_is_left_alone():
    ImageWatch(types.SimpleNamespace(), str)
