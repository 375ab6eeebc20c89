"""Jobs that share no file system with their main process: storage plugin fs, another folder, another cache."""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.common.files import HOST
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from snakemake_apptainer_freshness.record.journal import read_all
from tests.support.pins import lock_entry
from tests.support.workflow import READS_MESSAGE

UNSHARED = ("--shared-fs-usage", "none", "--default-storage-provider", "fs", "--job-deploy-sources")
CLUSTER = (
    "--executor", "cluster-generic", "--cluster-generic-submit-cmd", "./submit",
    "--cluster-generic-status-cmd", "./status", "--jobs", "1", "--latency-wait", "10",
    "--seconds-between-status-checks", "0",
)  # fmt: skip


MANY = """
    for number in range(400):
        rule:
            name: f"tool{{number}}"
            output: f"tool{{number}}.txt"
            container: f"{tool}{{number}}"
            shell: "cat /message > {{output}}"
    """


@dataclass(frozen=True, kw_only=True)
class Far:
    """Snakemake's `arguments` for jobs far away; what they make is in `storage`, and each has a folder in `jobs`."""

    arguments: tuple[str, ...]
    storage: Path
    jobs: Path


@pytest.fixture
def far(workspace, tmp_path):
    """What Snakemake needs to run jobs in a folder of their own, with a home of their own."""
    there = tmp_path / "elsewhere"
    (there / "home").mkdir(parents=True)
    scripts = {
        "submit": f"""\
            #!/bin/sh
            script=$(realpath "$1")
            folder=$(mktemp -d {there}/job-XXXX)
            cd "$folder"
            cp "$script" job.sh
            (
                env -i PATH="{Path(sys.executable).parent}:$PATH" HOME={there}/home PYTHONPATH="$PYTHONPATH" \\
                    LD_LIBRARY_PATH="$LD_LIBRARY_PATH" APPTAINER_NOHTTPS=1 APPTAINER_USERNS="$APPTAINER_USERNS" \\
                    APPTAINER_UNSQUASH="$APPTAINER_UNSQUASH" sh job.sh > job.log 2>&1 < /dev/null
                echo $? > status
            ) > /dev/null 2>&1 &
            echo "$folder"
            """,
        "status": """\
            #!/bin/sh
            if [ ! -e "$1/status" ]; then echo running
            elif [ "$(cat "$1/status")" = 0 ]; then echo success
            else echo failed; fi
            """,
    }
    for name, text in scripts.items():
        workspace.write(name, text).chmod(0o755)
    storage = tmp_path / "storage"
    storage.mkdir()
    return Far(arguments=(*CLUSTER, *UNSHARED, "--default-storage-prefix", str(storage)), storage=storage, jobs=there)


def test_a_job_that_shares_nothing_fetches_by_the_digest_and_proves_for_itself(repository, workspace, far):
    tool = repository()
    digest = tool.push("original")
    workspace.write("Snakefile", READS_MESSAGE.format(image=tool.reference))
    workspace.snakemake(*far.arguments, flag="lock")

    assert (far.storage / "message.txt").read_text() == "original\n"
    assert workspace.metadata(str(far.storage / "message.txt"))["container_img_url"] == tool.pinned(digest)
    assert tool.our_questions() == ["GET"]
    [job] = read_all(workspace.folder)[-1].jobs
    assert (job.host, job.disk) == (HOST, "verified")
    assert [path.name for path in far.storage.iterdir()] == ["message.txt"]  # the note was read, and removed
    assert list((workspace.folder / ".snakemake" / "singularity").glob("*.simg")) == []


def test_the_pins_of_many_images_travel_with_the_sources(repository, workspace, far):
    tool = repository()
    tool.push("original")
    workspace.write("Snakefile", READS_MESSAGE.format(image=tool.reference) + MANY.format(tool=tool.tagged("")))
    digests = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(400)]
    entries = [lock_entry(tool.tagged(str(number)), f"sha256:{digest}") for number, digest in enumerate(digests)]
    (workspace.folder / "containers.lock").write_text(dumps(Lock.of(entries)))
    workspace.snakemake(*far.arguments, "message.txt", flag="lock")

    assert (far.storage / "message.txt").read_text() == "original\n"
    assert list(far.jobs.glob("job-*/.snakemake/apptainer-freshness/pins/*.pins")) != []
