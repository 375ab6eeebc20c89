"""Carried in a bundle to where there is no registry, a workflow gives the same output; other tools read bundles."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time

import pytest

from tests.support import images, programs
from tests.support.registry import RealRegistry
from tests.support.workflow import READS_MESSAGE, Workspace

CLI = [sys.executable, "-c", "from snakemake_apptainer_freshness.cli import main; main()"]
CARRIED = images.multi_arch(images.tiny_image("carried"), "s390x")


@pytest.mark.parametrize("option", [None, "--with-images"])
def test_a_bundle_runs_in_an_empty_folder_after_the_registry_is_gone(tmp_path, option):
    here = Workspace(tmp_path / "here", tmp_path / "home")
    there = Workspace(tmp_path / "there", tmp_path / "another home")
    with RealRegistry(tmp_path / "registry") as registry:
        images.push(CARRIED, registry.host, "team/tool", "1.0")
        snakefile = READS_MESSAGE.format(image=f"docker://{registry.host}/team/tool:1.0")
        here.write("Snakefile", snakefile)
        here.snakemake(flag="lock")
        here.run(*CLI, "bundle", "save", tmp_path / "all.tar", *([option] if option else []))

    there.write("Snakefile", snakefile)
    there.write("containers.lock", here.read("containers.lock"))  # as a checkout of the workflow has it
    said = there.run(*CLI, "bundle", "load", tmp_path / "all.tar").output
    there.snakemake(flag="frozen")

    assert ("proven by comparison" if option else "built from the layers") in said
    assert there.read("message.txt") == here.read("message.txt")


def test_an_image_that_vanished_from_its_registry_runs_from_its_mirror(tmp_path):
    here = Workspace(tmp_path / "here", tmp_path / "home")
    with RealRegistry(tmp_path / "registry") as registry:
        images.push(CARRIED, registry.host, "team/tool", "1.0")
        here.write("Snakefile", READS_MESSAGE.format(image=f"docker://{registry.host}/team/tool:1.0"))
        here.run(*CLI, "lock")
        here.run(*CLI, "bundle", "save", tmp_path / "all.tar")
    mirrors = here.home / ".config/apptainer-freshness/mirrors.toml"
    mirrors.parent.mkdir(parents=True)
    mirrors.write_text(f'[[mirror]]\nprefix = "{registry.host}"\nplaces = ["{tmp_path / "all.tar"}"]\n')

    status = here.run(*CLI, "status", fails=True)
    assert f"it can be had from {tmp_path / 'all.tar'}" in status.stdout
    run = here.snakemake(flag="locked")
    assert f"taken from {tmp_path / 'all.tar'}" in run.output
    assert here.read("message.txt") == "carried\n"

    for known in (".local/state", ".apptainer"):  # and who knows nothing of it proves it by the mirror's layers
        shutil.rmtree(here.home / known, ignore_errors=True)
    [image] = [
        one
        for one in json.loads(here.run(*CLI, "verify", "--deep", "--json").stdout)["image"]
        if one["place"] == "lock"
    ]
    assert image["state"] == "verified"


SLOWLY = """if True:
    import time
    from snakemake_apptainer_freshness import cli
    from snakemake_apptainer_freshness.actions import image_content
    until_stopped = image_content.Blobs._until_stopped
    def slowly(self, pieces):
        for piece in until_stopped(self, pieces):
            time.sleep(0.01)
            yield piece
    image_content.Blobs._until_stopped = slowly
    cli.main(["bundle", "save", "all.tar"])
"""
MIB = 1 << 20


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A registry with an image that has a layer of 48 MiB, the lock of it, and its bundle, saved at one go."""
    folder = tmp_path_factory.mktemp("large")
    here = Workspace(folder / "here", folder / "home")
    content = images.Image(layers=(images.Layer.of({"data": os.urandom(48 * MIB)}),))
    with RealRegistry(folder / "registry") as registry:
        images.push(content, registry.host, "team/tool", "1.0")
        here.write("Snakefile", READS_MESSAGE.format(image=f"docker://{registry.host}/team/tool:1.0"))
        here.run(*CLI, "lock")
        here.run(*CLI, "bundle", "save", "all.tar")
        yield registry, here.folder


def killed(here):
    """Kill a saving, as ``kill -9`` does, in the middle of its large layer; what it left."""
    partial = here.folder / "all.tar.partial"
    command = [sys.executable, "-c", SLOWLY]
    process = subprocess.Popen(command, cwd=here.folder, env=here.environment, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (partial.exists() and partial.stat().st_size > 16 * MIB):
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    assert 16 * MIB < partial.stat().st_size < 40 * MIB
    return partial


def change_a_byte(partial):
    with partial.open("r+b") as file:
        file.seek(9 * MIB)
        byte = file.read(1)[0]
        file.seek(9 * MIB)
        file.write(bytes([byte ^ 1]))


def cut(partial):
    os.truncate(partial, 10 * MIB)


@pytest.mark.parametrize(
    ("harm", "statuses"),
    [(None, [206]), (cut, [206]), (change_a_byte, [206, 200])],
    ids=["as it is", "cut", "with a byte that an attacker changed"],
)
def test_a_save_that_was_killed_in_the_middle_of_a_layer_goes_on_there(tmp_path, large, harm, statuses):
    registry, whole = large
    here = Workspace(tmp_path / "here", tmp_path / "home")
    shutil.copy(whole / "containers.lock", here.folder)
    partial = killed(here)
    if harm is not None:
        harm(partial)
    registry.clear()
    here.run(*CLI, "bundle", "save", "all.tar")

    assert (here.folder / "all.tar").read_bytes() == (whole / "all.tar").read_bytes()
    large_blobs = [request.status for request in registry.requests() if "/blobs/" in request.path]
    assert [status for status in large_blobs if status in (200, 206)][: len(statuses)] == statuses
    assert not partial.exists()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of a whole index, and the name of its image."""
    folder = tmp_path_factory.mktemp("bundle")
    here = Workspace(folder / "here", folder / "home")
    with RealRegistry(folder / "registry") as registry:
        images.push(CARRIED, registry.host, "team/tool", "1.0")
        here.write("Snakefile", READS_MESSAGE.format(image=f"docker://{registry.host}/team/tool:1.0"))
        here.snakemake(flag="lock")
        here.run(*CLI, "bundle", "save", folder / "all.tar", "--all-platforms", "--with-images")
        here.run(*CLI, "bundle", "save", folder / "one.tar")
        return folder / "all.tar", f"{registry.host}/team/tool:1.0"


def tool(name, *arguments):
    result = subprocess.run(
        [str(programs.find(name)), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_oras_reads_it_as_it_is(bundle):
    path, name = bundle
    document = json.loads(tool("oras", "manifest", "fetch", "--oci-layout-path", path, name))

    assert [entry["digest"] for entry in document["manifests"]] == [image.digest for image in CARRIED.children]


def test_oras_takes_the_ready_image_out_of_it(bundle, tmp_path):
    path, _ = bundle
    with tarfile.open(path) as archive:
        index = json.load(archive.extractfile("index.json"))
    [sif] = [entry["digest"] for entry in index["manifests"] if "artifactType" in entry]
    tool("oras", "pull", "--oci-layout", f"{path}@{sif}", "-o", tmp_path / "out")

    [image] = (tmp_path / "out").iterdir()
    assert image.suffix == ".simg"
    assert b"SIF_MAGIC" in image.read_bytes()[:64]


def test_crane_pushes_it_to_a_registry_under_the_same_digest(bundle, tmp_path):
    path, _ = bundle
    layout = tmp_path / "layout"
    with tarfile.open(path) as archive:
        archive.extractall(layout, filter="data")
    index = json.loads((layout / "index.json").read_text())
    index["manifests"] = [entry for entry in index["manifests"] if "artifactType" not in entry]
    (layout / "index.json").write_text(json.dumps(index))
    with RealRegistry(tmp_path / "registry") as registry:
        place = f"{registry.host}/again/tool:1.0"
        tool("crane", "push", "--insecure", layout, place)
        tool("crane", "validate", "--insecure", "--remote", place)

        assert tool("crane", "digest", "--insecure", place).strip() == CARRIED.digest


def test_apptainer_itself_builds_from_a_bundle_of_one_image(bundle, tmp_path):
    """It takes no name that has a tag, so there must be one image alone."""
    path, _ = bundle
    command = [programs.find("apptainer"), "pull", "--disable-cache", tmp_path / "x.sif"]
    result = subprocess.run(
        [*map(str, command), f"oci-archive:{path.with_name('one.tar')}"],
        env=programs.environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
