"""A workflow that somebody else wrote tries to get around its site's policy, or to make a run read or write elsewhere.

Each test is the attack that its name says.
"""

import os

import pytest

from snakemake_apptainer_freshness.actions.lock_io import read_lock
from snakemake_apptainer_freshness.actions.policies import Policies
from snakemake_apptainer_freshness.actions.site import site_files
from snakemake_apptainer_freshness.engine import config
from snakemake_apptainer_freshness.engine.config import CommandLineFlag
from snakemake_apptainer_freshness.errors import InvalidLock, InvalidPolicy, InvalidSettings
from snakemake_apptainer_freshness.policy.tables import Level
from snakemake_apptainer_freshness.settings import Options

FORBIDDEN = "docker://evil.example/tool:1"


class Workflow:
    """What is asked of Snakemake's workflow: its main Snakefile and its configuration."""

    def __init__(self, folder, **options):
        self.main_snakefile = str(folder / "Snakefile")
        self.config = {"apptainer_freshness": {"mode": "lock", **options}}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose site allows quay.io alone, in the working directory."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Snakefile").write_text("")
    (folder / "apptainer-freshness.toml").write_text('[policy.registries]\nallow = ["quay.io"]\n')
    monkeypatch.chdir(folder)
    return folder


def judged(workflow, options):
    lockfile = config.lock_path(workflow, options)
    files = site_files(lockfile, workflow_file(workflow), environment={})
    return Policies.of(options, files).of_names([FORBIDDEN])


def workflow_file(workflow):
    from pathlib import Path

    return Path(workflow.main_snakefile)


def test_site_policy_against_lockfile_in_a_folder_without_one(project):
    (project / "hidden").mkdir()
    workflow = Workflow(project, lockfile="hidden/containers.lock")
    options = config.options(workflow, CommandLineFlag())
    assert [one.level for one in judged(workflow, options)] == [Level.ERROR]


def test_site_policy_against_a_workflow_that_only_warns(project):
    lax = {"registries": {"allow": ["*"], "level": "warn"}}
    workflow = Workflow(project, policy=lax)
    options = config.options(workflow, CommandLineFlag())
    assert [one.level for one in judged(workflow, options)] == [Level.ERROR]


@pytest.mark.parametrize("there", ["/etc/containers.lock", "../other/containers.lock", "~/containers.lock", "link/x"])
def test_lockfile_outside_that_a_workflow_asks_for(project, there):
    (project / "link").symlink_to("/")
    with pytest.raises(InvalidSettings, match="outside of the workflow's and the working directory"):
        config.options(Workflow(project, lockfile=there), CommandLineFlag())


def test_lockfile_outside_that_whoever_starts_the_run_asks_for(project):
    workflow = Workflow(project, lockfile="/etc/containers.lock")
    mine = {"lockfile": "/srv/locks/project.lock"}
    assert config.options(workflow, CommandLineFlag(flag=mine)).lockfile == mine["lockfile"]


def test_lockfile_beside_a_snakefile_in_snakemakes_own_layout(project):
    (project / "workflow").mkdir()
    workflow = Workflow(project / "workflow", lockfile="../containers.lock")
    (project / "workflow" / "Snakefile").write_text("")
    os.chdir("/")
    assert config.options(workflow, CommandLineFlag()).lockfile == "../containers.lock"


@pytest.fixture(params=["fifo", "device", "folder"])
def special(request, project):
    """What stands where a file should be; whoever opens a FIFO waits, and a device has no end."""

    def put(path):
        path.unlink(missing_ok=True)
        if request.param == "fifo":
            os.mkfifo(path)
        elif request.param == "device":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir()
        return path

    return put


def test_lock_that_is_a_fifo_or_a_device(project, special):
    with pytest.raises(InvalidLock, match="it is a"):
        read_lock(special(project / "containers.lock"))


def test_policy_that_is_a_fifo_or_a_device(project, special):
    with pytest.raises(InvalidPolicy, match="it is a"):
        Policies.of(Options(), [special(project / "apptainer-freshness.toml")])


def test_policy_that_is_larger_than_a_person_writes(project):
    path = project / "apptainer-freshness.toml"
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(InvalidPolicy, match="larger than"):
        Policies.of(Options(), [path])
