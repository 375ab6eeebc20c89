"""A workflow, as much of Snakemake's as its containers, its jobs and its records need."""

import contextlib
from types import SimpleNamespace

import pytest
from snakemake.settings.enums import Quietness
from snakemake.settings.types import DeploymentMethod, SharedFSUsage
from snakemake_interface_executor_plugins.settings import ExecMode

from snakemake_apptainer_freshness.store.prefix import image_path


class Dag:
    """Snakemake's DAG: it tells what was done, and collects what its `jobs` say as its images."""

    def __init__(self, prefix):
        self.prefix, self.jobs, self.container_imgs, self.done = prefix, [], {}, []

    def update_container_imgs(self):
        for job in self.jobs:
            if url := job.rule.expand_container_img(job.wildcards_dict):
                job.container_img_url = url
                image = SimpleNamespace(url=url, path=str(image_path(self.prefix, url)), is_local=False)
                self.container_imgs.setdefault(url, image)

    def pull_container_imgs(self):
        self.done.append("pull")

    def register_running(self, jobs):
        self.done.append("run")

    def finish(self, job):
        self.done.append("finish")

    async def check_and_touch_output(self, job):
        pass


class Persistence:
    """Snakemake's own folder of a work directory."""

    def __init__(self, folder):
        self.path, self.container_img_path = folder / ".snakemake", str(folder / ".snakemake" / "singularity")
        (folder / ".snakemake" / "singularity").mkdir(parents=True)

    @contextlib.contextmanager
    def lock(self):
        yield


@pytest.fixture
def workflow(tmp_path, monkeypatch):
    """The workflow of a main process in the folder `tmp_path`, which is about to run jobs."""
    monkeypatch.chdir(tmp_path)
    persistence = Persistence(tmp_path)
    (tmp_path / "Snakefile").write_text("rule count: ...\n")
    return SimpleNamespace(
        config={},
        config_settings=SimpleNamespace(config_args=[]),
        exec_mode=ExecMode.DEFAULT,
        executor_plugin=SimpleNamespace(),
        dryrun=False,
        touch=False,
        local_exec=True,
        remote_exec=False,
        rules=[],
        linemaps={},
        main_snakefile=str(tmp_path / "Snakefile"),
        persistence=persistence,
        dag=Dag(persistence.container_img_path),
        scheduler=SimpleNamespace(running=set(), failed=set()),
        rerun_triggers=set(),
        deployment_settings=SimpleNamespace(deployment_method={DeploymentMethod.APPTAINER}, apptainer_args=""),
        storage_settings=SimpleNamespace(shared_fs_usage=SharedFSUsage.all()),
        output_settings=SimpleNamespace(quiet={Quietness.PROGRESS}),
        remote_execution_settings=SimpleNamespace(immediate_submit=False),
    )
