"""Carried in a bundle to where there is no registry, a workflow gives the same output; other tools read bundles."""

import json
import shutil
import subprocess
import sys
import tarfile

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
