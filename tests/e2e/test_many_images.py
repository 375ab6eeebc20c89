"""A workflow with 3,000 images: their pins reach its jobs on a cluster, by a file of the run."""

import hashlib
import tempfile
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.lockfile import Lock, dumps
from tests.support.clusters import make_cluster
from tests.support.pins import lock_entry
from tests.support.slurm import Slurm
from tests.support.workflow import READS_MESSAGE

IMAGES = 3000
MANY = """
    for number in range({images}):
        rule:
            name: f"tool{{number}}"
            output: f"tool{{number}}.txt"
            container: f"docker://{registry}/many/tool{{number}}:1.0--hdfd78af_0"
            shell: "cat /message > {{output}}"
    """
SLURM = (
    "--executor", "slurm", "--jobs", "2", "--default-resources", "slurm_partition=main", "slurm_account=test",
    "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1",
)  # fmt: skip


def digest_of(number):
    return f"sha256:{hashlib.sha256(str(number).encode()).hexdigest()}"


@pytest.fixture
def many(repository, workspace, shared_registry):
    """A workflow whose rules name 3,000 images that are pinned, and one that is there."""
    tool = repository()
    digest = tool.push("original")
    rule = READS_MESSAGE.format(image=tool.reference)
    workspace.write("Snakefile", rule)
    workspace.snakemake(flag="lock")
    (workspace.folder / "message.txt").unlink()

    host = shared_registry.host
    references = [f"docker://{host}/many/tool{number}:1.0--hdfd78af_0" for number in range(IMAGES)]
    entries = [lock_entry(text, digest_of(number)) for number, text in enumerate(references)]
    lock = Lock.of([*workspace.lock().entries.values(), *entries])
    (workspace.folder / "containers.lock").write_text(dumps(lock))
    workspace.write("Snakefile", rule + MANY.format(images=IMAGES, registry=host))
    workspace.url = tool.pinned(digest)
    return workspace


@pytest.fixture
def slurm(workspace):
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as short, Slurm(Path(short)) as running:
        workspace.environment["PATH"] = f"{running.path}:{workspace.environment['PATH']}"
        yield SLURM


@pytest.fixture
def generic(workspace):
    return make_cluster(workspace)


@pytest.mark.parametrize("cluster", ["generic", "slurm"])
def test_the_pins_of_three_thousand_images_reach_the_jobs_of_a_cluster(many, request, cluster):
    many.snakemake(*request.getfixturevalue(cluster), "message.txt", flag="frozen")

    assert many.read("message.txt") == "original\n"
    assert many.metadata("message.txt")["container_img_url"] == many.url
    assert list((many.folder / ".snakemake" / "apptainer-freshness" / "pins").iterdir()) == []
