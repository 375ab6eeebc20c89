"""``apptainer-freshness bundle save`` and ``load``: a real registry on this machine, and the real Apptainer."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.lockfile import Lock, dumps, loads
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import images, pins, programs, sifs
from tests.support.cli_page import SECTIONS
from tests.support.digests import sha256
from tests.support.fake_apptainer import python
from tests.support.images import Image, multi_arch
from tests.support.pins import flip_seven_bytes, lock_entry
from tests.support.proofs import file, folder, layer
from tests.support.registry import RealRegistry

CONTENT = Image(layers=(layer(folder("bin"), file("bin/tool", "good", 0o755)),))
INDEX = multi_arch(CONTENT, "s390x")


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with RealRegistry(tmp_path_factory.mktemp("registry")) as registry:
        images.push(INDEX, registry.host, "team/tool", "1.0")
        yield registry


@pytest.fixture
def carried(place, registry, monkeypatch):
    """A place whose lock names an image of the registry, with the real Apptainer."""
    monkeypatch.setenv("PATH", place.fake.environment["PATH"].partition(os.pathsep)[2])  # past the fake
    for key, value in programs.environment(place.home).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("APPTAINER_NOHTTPS", "1")
    reference = f"docker://{registry.host}/team/tool:1.0"
    here = f"linux/{images.native_architecture()}"
    entry = lock_entry(reference, INDEX.digest, {here: CONTENT.digest}, media_type=INDEX.media_type)
    (place.folder / "containers.lock").write_text(dumps(Lock.of([entry])))
    return place


@pytest.fixture
def saved(carried):
    """A place with its bundle, and nothing else left."""
    assert carried.run("bundle", "save", "all.tar").status == 0
    (carried.folder / "containers.lock").unlink()
    return carried


def pin_in(place):
    [entry] = loads((place.folder / "containers.lock").read_text())
    return Pin.of(entry)


def test_what_was_saved_is_loaded_and_verified(carried):
    lock = (carried.folder / "containers.lock").read_bytes()
    wanted = pin_in(carried)
    answer = carried.run("bundle", "save", "all.tar")
    assert (answer.status, answer.rows[0][0]) == (0, wanted.reference.text)
    (carried.folder / "containers.lock").unlink()
    answer = carried.run("bundle", "load", "all.tar")

    assert answer.status == 0
    [row] = answer.rows
    assert row[:2] == ["loaded", wanted.reference.text]
    assert row[3].startswith("built from the layers")
    assert "came with the bundle: that it is the workflow's lock is its sender's word" in answer.err
    assert (carried.folder / "containers.lock").read_bytes() == lock
    assert carried.run("verify").rows[0][0] == "verified"
    assert carried.run("bundle", "load", "all.tar").rows[0][0] == "kept"


def test_with_its_ready_image_it_is_proven(carried):
    assert carried.run("pull").status == 0
    assert carried.run("bundle", "save", "all.tar", "--with-images").status == 0
    shutil.rmtree(carried.prefix)
    answer = carried.run("bundle", "load", "all.tar")

    assert answer.rows[0][3] == "proven by comparison with its layers"
    assert "sender's word" not in answer.err


def test_any_tar_can_list_it(saved):
    with tarfile.open(saved.folder / "all.tar") as archive:
        names = archive.getnames()
    assert names[:3] == ["bundle.json", "blobs", "blobs/sha256"]
    assert names[3:6] == ["oci-layout", "containers.lock", "index.json"]
    assert all(name.startswith("blobs/sha256/") for name in names[6:])


def test_a_tar_that_was_made_anew_of_the_same_files_is_a_bundle(saved):
    with tarfile.open(saved.folder / "all.tar") as archive, tarfile.open(saved.folder / "new.tar", "w") as new:
        for member in archive.getmembers():
            new.addfile(member, archive.extractfile(member))
    assert (saved.folder / "new.tar").stat().st_size % 10240 == 0

    assert saved.run("bundle", "load", "new.tar").status == 0


def test_the_lock_is_put_beside_the_snakefile(saved):
    (saved.folder / "workflow").mkdir()
    (saved.folder / "workflow" / "Snakefile").touch()
    saved.run("bundle", "load", "all.tar")

    assert (saved.folder / "workflow" / "containers.lock").exists()


def test_the_image_of_a_platform_pin_is_loaded_under_its_name(saved):
    document = saved.run("bundle", "load", "all.tar", "--pin", "platform", "--json").json

    assert document["image"][0]["pinned"].endswith(CONTENT.digest)


def test_the_keys_of_the_json_are_documented(carried):
    for arguments in (["save", "all.tar"], ["load", "all.tar"]):
        for key in set(carried.run("bundle", *arguments, "--json").json) - {"version", "lockfile", "prefix"}:
            assert f"`{key}`" in SECTIONS["bundle"]


@pytest.mark.parametrize("damage", ["absent", "altered"])
def test_a_ready_image_that_is_not_verified_is_not_saved(carried, damage):
    carried.run("pull")
    wanted = pin_in(carried)
    image = image_path(carried.prefix, wanted.url)
    if damage == "absent":
        image.unlink()
    else:
        flip_seven_bytes(image)
        os.utime(image)
    answer = carried.run("bundle", "save", "all.tar", "--with-images")

    assert answer.status == 1
    assert f"{wanted.reference.text}: {image} is {damage}" in answer.err
    assert f"apptainer-freshness {'pull' if damage == 'absent' else 'verify --repair'}" in answer.err
    assert not (carried.folder / "all.tar").exists()


def test_a_registry_that_is_gone_stops_it_with_status_3(carried, registry):
    path = carried.folder / "containers.lock"
    path.write_text(path.read_text().replace(registry.host, "127.0.0.1:1"))
    answer = carried.run("bundle", "save", "all.tar")

    assert answer.status == 3
    assert "127.0.0.1:1" in answer.err
    assert not (carried.folder / "all.tar").exists()


def test_what_cannot_be_carried_is_named(carried):
    sif = carried.folder / "mine.sif"
    sif.write_bytes(sifs.pulled())
    digest = f"sha256:{hashlib.sha256(sif.read_bytes()).hexdigest()}"
    local = lock_entry(reference=str(sif), digest=digest, media_type="application/vnd.sylabs.sif")
    path = carried.folder / "containers.lock"
    path.write_text(dumps(Lock.of([*loads(path.read_text()), local])))
    answer = carried.run("bundle", "save", "all.tar")

    assert answer.status == 0
    assert f"not in the bundle: {sif}: it is a file of this machine" in answer.err
    document = carried.run("bundle", "save", "all.tar", "--json").json
    assert document["left"][0]["reference"] == str(sif)
    assert carried.run("bundle", "load", "all.tar").status == 0


def test_a_sif_that_changes_while_it_is_saved_stops_it(place):
    content = sifs.pulled("", labels={})
    url = f"library://team/tool:sha256.{hashlib.sha256(content).hexdigest()}"
    digest = sha256(content)
    entry = lock_entry(reference=url, digest=digest, media_type="application/vnd.sylabs.sif")
    (place.folder / "containers.lock").write_text(dumps(Lock.of([entry])))
    image = pins.put(place.prefix, replace(pins.pin(), pinned=Pin.of(entry).pinned), content)
    (place.folder / "all.tar").write_text("an older bundle")
    flip_seven_bytes(image)
    answer = place.run("bundle", "save", "all.tar")

    assert answer.status == 1
    assert (place.folder / "all.tar").read_text() == "an older bundle"


class _Pipe(io.StringIO):
    """A standard channel that is a pipe."""

    class _Bytes(io.BytesIO):
        def seekable(self):
            return False

    def __init__(self, content=b""):
        super().__init__()
        self.buffer = self._Bytes(content)


def test_through_pipes(carried, monkeypatch):
    out = _Pipe()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", out)
        from snakemake_apptainer_freshness import cli

        assert cli.run(["bundle", "save", "-"]) == 0
    monkeypatch.setattr(sys, "stdin", _Pipe(out.buffer.getvalue()))

    assert carried.run("bundle", "load", "-").status == 0
    assert carried.run("verify").rows[0][0] == "verified"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["save", "."], "that is a folder"),
        (["save", "containers.lock"], "that is the lock"),
        (["save", "-", "--json"], "without --json"),
        (["save", "nowhere/all.tar"], "there is no folder nowhere"),
        (["load", "nothing.tar"], "there is no bundle nothing.tar"),
        (["load", "."], "is neither an unpacked bundle nor an archive"),
        (["load", "containers.lock"], "it is no tar archive"),
        (["load", "all.tar", "--lockfile", "nowhere/containers.lock"], "its folder does not exist"),
    ],
)
def test_wrong_use(carried, arguments, message):
    carried.run("bundle", "save", "all.tar")
    answer = carried.run("bundle", *arguments)

    assert answer.status in (2, 3)
    assert message in answer.err
    assert loads((carried.folder / "containers.lock").read_text())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["INT", "TERM", "KILL"])
def test_a_load_that_is_ended_leaves_nothing_under_its_name(saved, number):
    bundle = (saved.folder / "all.tar").read_bytes()
    code = "from snakemake_apptainer_freshness import cli; cli.main(['bundle', 'load', '-'])"
    process = subprocess.Popen(python(code), stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=saved.folder)
    process.stdin.write(bundle[: len(bundle) - 2000])
    process.stdin.flush()
    deadline = time.monotonic() + 30
    while not saved.prefix.is_dir() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, number)
    process.communicate()

    assert [path for path in saved.prefix.rglob("*") if path.is_file()] == []
    assert not (saved.folder / "containers.lock").exists()
    assert saved.run("bundle", "load", "all.tar").status == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_a_save_that_is_ended_keeps_what_it_has_for_the_next(carried, number):
    code = (
        "import time; from snakemake_apptainer_freshness import cli\n"
        "import snakemake_apptainer_freshness.store.bundle_tar as archive\n"
        "padding = archive.padding\n"
        "def slow(size):\n"
        "    print('going', flush=True); time.sleep(0.5); return padding(size)\n"
        "archive.padding = slow\n"
        "cli.main(['bundle', 'save', 'all.tar'])"
    )
    process = subprocess.Popen(
        python(code), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=carried.folder, text=True
    )
    for _ in range(4):
        process.stdout.readline()
    os.kill(process.pid, number)
    _, said = process.communicate()

    assert "the same command goes on with it" in said
    assert (carried.folder / "all.tar.partial").exists()
    assert not (carried.folder / "all.tar").exists()
    assert carried.run("bundle", "save", "all.tar").status == 0
    assert not (carried.folder / "all.tar.partial").exists()
    assert carried.run("bundle", "load", "all.tar").status == 0


def test_memory_does_not_grow_with_the_size(place, monkeypatch):
    """Both ways, with an image of 128 MiB, in a process that may have 32 MiB more than it starts with."""
    content = sifs.pulled("", content=sifs.squashfs(128 << 20), labels={})
    url = f"library://team/tool:sha256.{hashlib.sha256(content).hexdigest()}"
    entry = lock_entry(reference=url, digest=sha256(content), media_type="application/vnd.sylabs.sif")
    (place.folder / "containers.lock").write_text(dumps(Lock.of([entry])))
    pins.put(place.prefix, replace(pins.pin(), pinned=Pin.of(entry).pinned), content)
    code = (
        "import resource, sys; from snakemake_apptainer_freshness import cli\n"
        "import snakemake_apptainer_freshness.actions.unpack, snakemake_apptainer_freshness.actions.bundle\n"
        "import snakemake_apptainer_freshness.registry.resolver\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "status = cli.run(sys.argv[1:])\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "sys.exit(status or grown > 32 * 1024)"
    )
    for arguments in (["save", "all.tar"], ["load", "all.tar", "--prefix", "elsewhere"]):
        result = subprocess.run([*python(code), "bundle", *arguments], cwd=place.folder, check=False)
        assert result.returncode == 0
