"""A container of one job that tampers with the image of another: the next job runs what its pin names, or nothing.

Each test is the attack that its name says, with real Snakemake, Apptainer and registry; on a cluster as well.
"""

import shutil
import tempfile
import threading
import time
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.freshness import FileHash
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store import facts, held, places, state
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support.clusters import make_cluster
from tests.support.pins import fact_of, plant_record
from tests.support.slurm import Slurm
from tests.support.workflow import READS_MESSAGE

SLURM = (
    "--executor", "slurm", "--jobs", "1", "--default-resources", "slurm_partition=main", "slurm_account=test",
    "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1",
)  # fmt: skip
ATTACK = """
    rule victim:
        input: "attacked.txt"
        output: "message.txt"
        container: "{victim}"
        shell: "cat /message > {{output}}"

    rule attacker:
        output: "attacked.txt"
        container: "{attacker}"
        shell:
            '''
            image=.snakemake/singularity/{image}
            touch -r $image before
            for file in .snakemake/apptainer-freshness/pins/*; do [ ! -e $file ] || echo evil > $file; done
            cp forged/{image} evil
            chmod 755 evil
            {method}
            touch -r before $image
            cp forged/record .snakemake/singularity/{record}
            rm -rf state
            cp -r forged/state state
            chmod -R go= state
            echo done > {{output}}
            '''
    """
METHODS = {"written over": "cat evil > $image", "swapped": "mv evil $image"}
WRITES = """
    rule writer:
        output: "message.txt"
        container: "{image}"
        shell:
            '''
            cp library/box/message kept
            {attack}
            cat /message > {{output}}
            cat kept > library/box/message
            touch -r kept library/box/message
            '''
    """
WAITS = """
    rule victim:
        output: "message.txt"
        container: "{victim}"
        shell: "touch waiting; while [ ! -e go ]; do sleep 0.1; done; cat /message > {{output}}"
    """


def local(_workspace):
    """Run jobs by the main process itself."""
    return ()


@pytest.fixture
def slurm(workspace):
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as short, Slurm(Path(short)) as running:
        workspace.environment["PATH"] = f"{running.path}:{workspace.environment['PATH']}"
        yield lambda _workspace: SLURM


@pytest.fixture
def where(request):
    """Where jobs run: a function of the workspace that gives Snakemake's arguments."""
    named = {"here": lambda: local, "generic": lambda: make_cluster, "slurm": lambda: request.getfixturevalue("slurm")}
    return named[request.param]()


def prepared(repository, workspace, method, monkeypatch):
    """Write the workflow, and in ``forged`` all that a thorough attacker needs: the image, its record, its facts."""
    victim, attacker = repository("victim"), repository("attacker")
    digest = victim.push("original")
    evil = victim.push("evil", tag="evil")
    attacker.push("tool")
    pinned = parse(victim.pinned(digest))
    pin = Pin.held_to(pinned=pinned, reference=parse(victim.reference), digest=Digest.parse(digest))
    image = image_path(workspace.folder / ".snakemake" / "singularity", pin.url)
    forged = workspace.folder / "forged"
    forged.mkdir()
    workspace.run("apptainer", "pull", forged / "evil.sif", victim.pinned(evil))
    content = (forged / "evil.sif").read_bytes().replace(evil.encode(), digest.encode())
    (forged / image.name).write_bytes(content)
    record = plant_record(forged / image.name, pin)
    record.rename(forged / "record")
    with monkeypatch.context() as patched:
        patched.setenv(state.VARIABLE, str(forged / "state"))
        facts.keep(fact_of(content, pin))
        places.keep(image, places.PlaceFact.of(fact_of(content, pin)))
    text = ATTACK.format(
        victim=victim.reference, attacker=attacker.reference, image=image.name, record=record.name,
        method=METHODS[method],
    )  # fmt: skip
    workspace.write("Snakefile", text)
    return content, image


@pytest.mark.parametrize(
    ("where", "method"),
    [("here", "swapped"), ("here", "written over"), ("generic", "written over"), ("slurm", "swapped")],
    indirect=["where"],
)
def test_a_container_that_rewrites_the_image_of_another_job_its_record_and_anything_in_the_folder(
    repository, workspace, where, method, monkeypatch
):
    """The user's state folder lies in the work directory here, so that the container reaches it as well."""
    content, image = prepared(repository, workspace, method, monkeypatch)
    workspace.environment[state.VARIABLE] = str(workspace.folder / "state")
    result = workspace.snakemake(*where(workspace), flag="lock", fails=True)

    assert image.read_bytes() == content  # the attack was carried out
    assert workspace.exists("attacked.txt") or "attacker" in result.output
    assert not workspace.exists("message.txt")
    logs = [path.read_text() for path in workspace.folder.rglob("*.log")]
    assert "its SHA-256 is not the one that this run proved" in "".join([result.output, *logs])


@pytest.mark.parametrize("where", ["here", "generic"], indirect=True)
def test_an_image_that_is_swapped_after_the_last_look_and_swapped_back_before_the_job_ends(
    repository, workspace, where
):
    victim = repository("victim")
    victim.push("original")
    workspace.write("Snakefile", WAITS.format(victim=victim.reference))

    def swap_twice():
        deadline = time.monotonic() + 120
        while not workspace.exists("waiting") and time.monotonic() < deadline:
            time.sleep(0.05)
        folder = workspace.folder / ".snakemake" / "singularity"
        [image] = [path for path in folder.glob("*.simg") if not path.is_symlink()]
        kept = image.rename(image.with_name("kept"))
        shutil.copy(kept, image)
        kept.rename(image)
        (workspace.folder / "go").touch()

    thread = threading.Thread(target=swap_twice, daemon=True)
    thread.start()
    result = workspace.snakemake(*where(workspace), flag="lock", fails=True)
    thread.join()

    logs = [path.read_text() for path in workspace.folder.rglob("*.log")]
    assert "was changed, replaced or touched while the job ran" in "".join([result.output, *logs])
    assert not workspace.exists("message.txt")


@pytest.mark.parametrize("where", ["here", "generic"], indirect=True)
def test_a_job_that_writes_into_the_sandbox_folder_it_runs_in_and_puts_it_back(repository, workspace, where):
    tool = repository("tool")
    digest = tool.push("original")
    (workspace.folder / "library").mkdir()
    workspace.run("apptainer", "build", "--sandbox", workspace.folder / "library/box", tool.pinned(digest))
    workspace.environment["SNAKEMAKE_APPTAINER_FRESHNESS_IMAGES"] = str(workspace.folder / "library")
    workspace.write("Snakefile", READS_MESSAGE.format(image=tool.reference))
    assert "used in place" in workspace.snakemake(*where(workspace), flag="lock").output
    assert workspace.read("message.txt") == "original\n"  # one that writes nothing has its outputs

    workspace.write("Snakefile", WRITES.format(image=tool.reference, attack="echo evil > library/box/message"))
    result = workspace.snakemake(*where(workspace), "--forceall", flag="lock", fails=True)

    assert (workspace.folder / "library/box/message").read_text() == "original\n"
    logs = [path.read_text() for path in workspace.folder.rglob("*.log")]
    assert "was changed, replaced or touched while the job ran" in "".join([result.output, *logs])
    assert not workspace.exists("message.txt")


def test_a_hash_that_was_handed_over_is_not_looked_up_anywhere(tmp_path, monkeypatch):
    """The process of a job asks no store: one that cannot be believed, or read, changes nothing."""
    image = tmp_path / "image.simg"
    image.write_bytes(b"image")
    monkeypatch.setenv(state.VARIABLE, "/dev/null/no-folder")
    known = FileHash(sha256="6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d")

    assert held.held(image, known).state == "verified"
    image.write_bytes(b"other")
    assert held.held(image, known).state == "altered"
