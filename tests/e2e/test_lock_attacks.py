"""A lock in a pull request: its digests are honest, and what it says of them is not. Real Snakemake and registry."""

import sys
from datetime import UTC, datetime

import pytest

from tests.support import images
from tests.support.workflow import READS_MESSAGE

CLI = [sys.executable, "-c", "from snakemake_apptainer_freshness.cli import main; main()"]


def aged(workspace, created):
    """Give the site of `workspace` a policy about ages; the lock then says that its image was made when `created`."""
    workspace.write("apptainer-freshness.toml", "[policy.age]\nat_most = 365\n")
    text = workspace.read("containers.lock")
    workspace.write("containers.lock", f'{text}[image.hints]\ncreated = "{created}"\n')
    return len(text.splitlines()) + 2


def index_of(repository, message, tag):
    """Push an image for two platforms; gives its digest and this platform's manifest."""
    index = images.multi_arch(images.tiny_image(message), "arm64")
    digest = images.push(index, repository.registry.host, repository.name, tag)
    return digest, index.children[0].digest


@pytest.fixture
def tool(repository, workspace):
    found = repository()
    found.digest, found.manifest = index_of(found, "agreed", "1.0")
    workspace.write("Snakefile", READS_MESSAGE.format(image=found.reference))
    # who made the lock has proven its tables, and who gets it has not
    workspace.run(*CLI, "lock", environment={"XDG_STATE_HOME": str(workspace.home / "state of who made the lock")})
    return found


def forge(workspace, old, new):
    """Have the lock say `new` where it says `old`; gives the line."""
    text = workspace.read("containers.lock")
    assert text.count(old) == 1
    workspace.write("containers.lock", text.replace(old, new))
    return next(number for number, line in enumerate(text.splitlines(), 1) if old in line)


@pytest.mark.parametrize("mode", ["lock", "locked"])
def test_platform_entry_of_another_image(tool, workspace, mode):
    _, evil = index_of(tool, "evil", "evil")
    line = forge(workspace, tool.manifest, evil)
    result = workspace.snakemake(flag=f"{{mode: {mode}, pin: platform, on_moved: error}}", fails=True)

    assert f"containers.lock, line {line}, says that" in result.output
    assert "Traceback" not in result.output
    assert not workspace.exists("message.txt")


def test_platform_entry_of_another_image_where_nothing_was_proven_and_nothing_may_be_asked(tool, workspace):
    _, evil = index_of(tool, "evil", "evil")
    forge(workspace, tool.manifest, evil)
    result = workspace.snakemake(flag="{mode: frozen, pin: platform}", fails=True)

    assert "which was not proven here yet" in result.output
    assert not workspace.exists("message.txt")


def test_another_index_claiming_the_manifest_of_the_tag(tool, workspace):
    """The tag moved to another image; the lock says that the pinned index has that image, so nothing would change."""
    _, new = index_of(tool, "moved", "1.0")
    forge(workspace, tool.manifest, new)
    result = workspace.snakemake(flag="{on_moved: error}", fails=True)

    assert "tags moved away from their pins" in result.output
    assert "same image" not in result.output
    assert not workspace.exists("message.txt")


def test_a_true_table_is_proven_and_runs(tool, workspace):
    workspace.snakemake(flag="{pin: platform, on_moved: error}")
    workspace.snakemake("--forceall", flag="{mode: frozen, pin: platform}")

    assert workspace.read("message.txt") == "agreed\n"


@pytest.mark.parametrize("mode", ["lock", "locked"])
def test_forged_created_of_an_image_that_is_too_old_for_the_policy(repository, workspace, mode):
    """The image was made in 2024; the lock of the pull request says that it is new."""
    found = repository()
    found.push("old")
    workspace.write("Snakefile", READS_MESSAGE.format(image=found.reference))
    workspace.run(*CLI, "lock", environment={"XDG_STATE_HOME": str(workspace.home / "state of who made the lock")})
    line = aged(workspace, str(datetime.now(UTC).date()))
    result = workspace.snakemake(flag=mode, fails=True)

    assert f"containers.lock, line {line}, says that" in result.output
    assert "its own configuration says 2024-01-01" in result.output
    assert not workspace.exists("message.txt")


def test_forged_created_where_the_lock_may_mean_another_platform(tool, workspace):
    """An index has an image for each platform, each with its day: what decides is this machine's, as it was hashed."""
    aged(workspace, str(datetime.now(UTC).date()))
    result = workspace.snakemake(flag="lock", fails=True)

    assert "it was made on 2024-01-01" in result.output
    assert not workspace.exists("message.txt")


def test_forged_created_where_nothing_was_proven_and_nothing_may_be_asked(tool, workspace):
    aged(workspace, str(datetime.now(UTC).date()))
    result = workspace.snakemake(flag="frozen", fails=True)

    assert "its age is not proven, and 365 days are allowed" in result.output
    assert not workspace.exists("message.txt")


def requiring(workspace, platform):
    """Give the site of `workspace` a policy that requires images for `platform`."""
    workspace.write("apptainer-freshness.toml", f'[policy.platforms]\nrequire = ["{platform}"]\n')


@pytest.mark.parametrize("mode", ["lock", "locked"])
def test_forged_platform_where_a_policy_requires_it(tool, workspace, mode):
    requiring(workspace, "linux/riscv64")
    line = forge(workspace, '"linux/arm64"', '"linux/riscv64"')
    result = workspace.snakemake(flag=f"{{mode: {mode}}}", fails=True)

    assert f"containers.lock, line {line}, says that" in result.output
    assert "has an image for linux/riscv64, but what its digest names has images for" in result.output
    assert "Traceback" not in result.output
    assert not workspace.exists("message.txt")


def test_forged_platform_where_a_policy_requires_it_and_nothing_may_be_asked(tool, workspace):
    requiring(workspace, "linux/riscv64")
    forge(workspace, '"linux/arm64"', '"linux/riscv64"')
    result = workspace.snakemake(flag="frozen", fails=True)
    check = workspace.run(*CLI, "lock", "--check", fails=True)

    for said in (result, check):
        assert "its platforms are not proven, and linux/riscv64 must be there" in said.output
        assert "Traceback" not in said.output
    assert not workspace.exists("message.txt")


def test_platform_that_is_there_satisfies_a_policy_and_is_asked_for_once(tool, workspace):
    requiring(workspace, "linux/arm64")
    workspace.snakemake(flag="lock")
    assert workspace.read("message.txt") == "agreed\n"
    workspace.run(*CLI, "lock", "--check")
    workspace.snakemake("--forceall", flag="frozen")


def test_a_machine_that_never_asked_proves_platforms_by_status(tool, workspace):
    requiring(workspace, "linux/arm64")
    checked = workspace.run(*CLI, "lock", "--check", fails=True)
    assert "its platforms are not proven" in checked.output
    workspace.run(*CLI, "status")
    workspace.run(*CLI, "lock", "--check")
