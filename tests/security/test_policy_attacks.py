"""A workflow that another user wrote tries to get around its site's policy, or to make a run read or write elsewhere.

Each test is the attack that its name says.
"""

import os
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.lock_io import read_lock
from snakemake_apptainer_freshness.actions.pinning import Pins
from snakemake_apptainer_freshness.actions.policies import Policies, offers
from snakemake_apptainer_freshness.actions.site import site_files
from snakemake_apptainer_freshness.engine import config
from snakemake_apptainer_freshness.engine.config import CommandLineFlag
from snakemake_apptainer_freshness.engine.policy_check import PolicyCheck
from snakemake_apptainer_freshness.errors import (
    FreshnessError,
    InvalidLock,
    InvalidPolicy,
    InvalidSettings,
    PolicyViolated,
)
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.policy.schema import Level
from snakemake_apptainer_freshness.settings import Mode, Options
from tests.support.images import multi_arch, tiny_image
from tests.support.pins import lock_entry
from tests.support.proofs import Served

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
    """What stands where a file should be; opening a FIFO blocks, and a device has no end."""

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


def run_that_requires(platform, entry, content, *, mode="lock"):
    """What is raised in a run that requires `platform`, and whose lock has `entry`; the registry has `content`."""
    options = Options(mode=Mode(mode), policy={"platforms": {"require": [platform]}})
    check = PolicyCheck(
        options, [], folder=Path(), place=str, registry=lambda: Served(content=content), dryrun=False, sees_images=True
    )
    text = entry.reference.text
    pins = Pins(
        options=options, lock=Lock(), lockfile="containers.lock", platform=Platform.here(), registries=pytest.fail,
        entries={text: entry},
    )  # fmt: skip
    try:
        check.pins([text], pins)
    except FreshnessError as error:
        return error
    return None


TEXT = "docker://quay.io/team/tool:1"
SINGLE = tiny_image("single")
INDEX = multi_arch(SINGLE, "s390x")


@pytest.mark.parametrize("content", [INDEX, SINGLE], ids=["index", "single image"])
def test_platform_that_a_lock_claims_and_the_image_has_not(project, content):
    forged = lock_entry(TEXT, content.digest, {str(Platform.here()): SINGLE.digest, "linux/riscv64": SINGLE.digest})
    error = run_that_requires("linux/riscv64", forged, content)
    assert isinstance(error, InvalidLock)
    assert "has an image for linux/riscv64, but what its digest names has images for" in str(error)


def test_platform_that_a_lock_claims_where_no_registry_may_be_asked(project):
    forged = lock_entry(TEXT, INDEX.digest, {"linux/riscv64": SINGLE.digest})
    error = run_that_requires("linux/riscv64", forged, INDEX, mode="frozen")
    assert isinstance(error, PolicyViolated)
    assert "its platforms are not proven, and linux/riscv64 must be there" in str(error)


def test_platform_that_a_lock_hides_is_there_all_the_same(project):
    hidden = lock_entry(TEXT, INDEX.digest, {str(Platform.here()): SINGLE.digest})
    assert run_that_requires("linux/s390x", hidden, INDEX) is None
    assert run_that_requires("linux/s390x", hidden, INDEX, mode="frozen") is None  # proven by the run before


def test_platform_of_another_index_that_is_served_under_the_digest(project):
    other = Served(content=INDEX, lies={INDEX.digest: multi_arch(SINGLE, "riscv64").manifest})
    claimed = lock_entry(TEXT, INDEX.digest, {"linux/riscv64": SINGLE.digest})
    policies = Policies.of(Options(policy={"platforms": {"require": ["linux/riscv64"]}}), [])
    offered = policies.offered({TEXT: claimed}, offers(lambda: other))
    assert [one.level for one in policies.of_pins({TEXT: claimed}, {}, offered)] == [Level.ERROR]


def test_policy_that_is_larger_than_a_person_writes(project):
    path = project / "apptainer-freshness.toml"
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(InvalidPolicy, match="larger than"):
        Policies.of(Options(), [path])
