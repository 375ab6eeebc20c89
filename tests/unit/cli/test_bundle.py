"""``apptainer-freshness bundle save`` and ``load``."""

from __future__ import annotations

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

from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Lock, dumps, loads
from snakemake_apptainer_freshness.store import claims, records
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import pins, sifs
from tests.support.fake_apptainer import python
from tests.support.pins import OTHER, flip_seven_bytes, lock_entry
from tests.unit.cli.conftest import entry_of


@pytest.fixture
def saved(good):
    """A good place with its bundle, and nothing else left."""
    assert good.run("bundle", "save", "all.tar").status == 0
    shutil.rmtree(good.prefix)
    (good.folder / "containers.lock").unlink()
    return good


def files(place):
    return sorted(path.name for path in place.prefix.iterdir())


def test_what_was_saved_is_loaded_and_verified(good):
    lock = (good.folder / "containers.lock").read_bytes()
    image = image_path(good.prefix, pins.pin().url)
    content, record = image.read_bytes(), records.load(image)
    answer = good.run("bundle", "save", "all.tar")
    assert answer.rows == [[pins.pin().reference.text, "40.0 KiB"]]
    shutil.rmtree(good.prefix)
    (good.folder / "containers.lock").unlink()
    answer = good.run("bundle", "load", "all.tar")

    assert answer.status == 0
    assert answer.rows == [["loaded", pins.pin().reference.text, "40.0 KiB"]]
    assert (good.folder / "containers.lock").read_bytes() == lock
    assert image.read_bytes() == content
    assert records.load(image) == replace(record, stat=None)
    assert good.run("verify").rows[0][0] == "verified"


def test_the_same_images_give_the_same_bundle(good):
    good.run("bundle", "save", "one.tar")
    good.run("bundle", "save", "two.tar")

    assert (good.folder / "one.tar").read_bytes() == (good.folder / "two.tar").read_bytes()


def test_any_tar_can_list_it(saved):
    image = image_path(saved.prefix, pins.pin().url).name
    with tarfile.open(saved.folder / "all.tar") as archive:
        assert archive.getnames() == ["bundle.json", "containers.lock", f"{image}.freshness.json", image]


def test_a_tar_that_was_made_anew_of_the_same_files_is_a_bundle(saved):
    with tarfile.open(saved.folder / "all.tar") as archive, tarfile.open(saved.folder / "new.tar", "w") as new:
        for member in archive.getmembers():
            new.addfile(member, archive.extractfile(member))
    assert (saved.folder / "new.tar").stat().st_size % 10240 == 0

    assert saved.run("bundle", "load", "new.tar").status == 0


def test_an_image_that_is_there_and_verified_is_kept(good):
    good.run("bundle", "save", "all.tar")
    before = image_path(good.prefix, pins.pin().url).stat().st_ino
    answer = good.run("bundle", "load", "all.tar")

    assert answer.rows[0][0] == "kept"
    assert image_path(good.prefix, pins.pin().url).stat().st_ino == before


def test_an_image_that_is_there_and_damaged_is_moved_aside(saved):
    image = pins.put(saved.prefix, pins.pin(), b"nothing good")
    document = saved.run("bundle", "load", "all.tar", "--json").json

    assert document["image"][0]["action"] == "loaded"
    assert ".quarantine-" in document["image"][0]["quarantined"]
    assert image.stat().st_size > 1000


def test_the_lock_is_registered_in_the_folder(saved):
    saved.run("bundle", "load", "all.tar")

    [one] = claims.registered(saved.prefix)
    assert one.claim.lockfile == str(saved.folder / "containers.lock")


def test_another_lock_is_not_replaced(saved):
    saved.lock(pins.pin(OTHER))
    before = (saved.folder / "containers.lock").read_bytes()
    answer = saved.run("bundle", "load", "all.tar")

    assert answer.status == 2
    assert f"is not the bundle's: they differ in {pins.pin().reference.text}" in answer.err
    assert (saved.folder / "containers.lock").read_bytes() == before
    assert not saved.prefix.exists()


def test_the_lock_is_put_beside_the_snakefile(saved):
    (saved.folder / "workflow").mkdir()
    (saved.folder / "workflow" / "Snakefile").touch()
    saved.run("bundle", "load", "all.tar")

    assert (saved.folder / "workflow" / "containers.lock").exists()


def test_a_lock_keeps_its_comments(good):
    path = good.folder / "containers.lock"
    path.write_text("# reviewed by us\n" + path.read_text())
    good.run("bundle", "save", "all.tar")
    path.unlink()
    good.run("bundle", "load", "all.tar")

    assert path.read_text().startswith("# reviewed by us\n")


def test_the_keys_of_the_json_are_documented(good):
    from tests.unit.cli.test_docs import SECTIONS

    for arguments in (["save", "all.tar"], ["load", "all.tar"]):
        for key in set(good.run("bundle", *arguments, "--json").json) - {"version", "lockfile", "prefix"}:
            assert f"`{key}`" in SECTIONS["bundle"]


@pytest.mark.parametrize("damage", ["absent", "bound", "altered"])
def test_what_is_not_verified_is_not_saved(good, damage):
    image = image_path(good.prefix, pins.pin().url)
    if damage == "absent":
        image.unlink()
    elif damage == "bound":
        records.path_of(image).unlink()
    else:
        flip_seven_bytes(image)
    answer = good.run("bundle", "save", "all.tar")

    assert answer.status == 1
    assert f"{pins.pin().reference.text}: {image} is {damage}" in answer.err
    assert f"apptainer-freshness {'pull' if damage == 'absent' else 'verify --repair'}" in answer.err
    assert not (good.folder / "all.tar").exists()


def test_an_image_that_was_altered_behind_its_stat_key_is_noticed_while_it_is_saved(good):
    image = image_path(good.prefix, pins.pin().url)
    flip_seven_bytes(image)
    pins.settle(image)
    (good.folder / "all.tar").write_text("an older bundle")
    answer = good.run("bundle", "save", "all.tar")

    assert answer.status == 1
    assert "is not what its record says" in answer.err
    assert sorted(path.name for path in good.folder.iterdir()) == [".snakemake", "all.tar", "containers.lock"]
    assert (good.folder / "all.tar").read_text() == "an older bundle"


def test_what_cannot_be_carried_is_named(good):
    sif = good.folder / "mine.sif"
    sif.write_bytes(sifs.pulled())
    import hashlib

    digest = f"sha256:{hashlib.sha256(sif.read_bytes()).hexdigest()}"
    local = lock_entry(reference=str(sif), digest=digest, media_type="application/vnd.sylabs.sif")
    (good.folder / "containers.lock").write_text(dumps(Lock.of([entry_of(pins.pin()), local])))
    answer = good.run("bundle", "save", "all.tar")

    assert answer.status == 0
    assert f"not in the bundle: {sif}: it is a file of this machine" in answer.err
    document = good.run("bundle", "save", "all.tar", "--json").json
    assert document["left"][0]["reference"] == str(sif)
    assert good.run("bundle", "load", "all.tar").status == 0


def test_an_image_that_its_reference_proves_needs_no_record(place):
    content = sifs.pulled("", labels={})
    import hashlib

    digest = Digest(algorithm="sha256", hex=hashlib.sha256(content).hexdigest())
    url = f"library://team/tool:sha256.{digest.hex}"
    entry = lock_entry(reference=url, digest=str(digest), media_type="application/vnd.sylabs.sif")
    (place.folder / "containers.lock").write_text(dumps(Lock.of([entry])))
    image = pins.put(place.prefix, replace(pins.pin(), pinned=parse(url)), content)
    place.run("bundle", "save", "all.tar")
    image.unlink()

    assert place.run("bundle", "load", "all.tar").status == 0
    assert image.read_bytes() == content


def test_through_pipes(good, monkeypatch):
    class _Pipe(io.StringIO):
        def __init__(self, content=b""):
            super().__init__()
            self.buffer = io.BytesIO(content)

    out = _Pipe()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", out)
        from snakemake_apptainer_freshness import cli

        assert cli.run(["bundle", "save", "-"]) == 0
    shutil.rmtree(good.prefix)
    monkeypatch.setattr(sys, "stdin", _Pipe(out.buffer.getvalue()))

    assert good.run("bundle", "load", "-").status == 0
    assert good.run("verify").rows[0][0] == "verified"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["save", "."], "that is a folder"),
        (["save", "containers.lock"], "that is the lock"),
        (["save", "-", "--json"], "without --json"),
        (["save", "nowhere/all.tar"], "cannot write the bundle"),
        (["load", "nothing.tar"], "there is no bundle nothing.tar"),
        (["load", "."], "is a folder"),
        (["load", "containers.lock"], "it is no tar archive"),
        (["load", "all.tar", "--lockfile", "nowhere/containers.lock"], "its folder does not exist"),
    ],
)
def test_wrong_use(good, arguments, message):
    good.run("bundle", "save", "all.tar")
    answer = good.run("bundle", *arguments)

    assert answer.status in (2, 3)
    assert message in answer.err
    assert loads((good.folder / "containers.lock").read_text())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["INT", "TERM", "KILL"])
def test_a_load_that_is_ended_leaves_nothing_under_its_name(saved, number):
    bundle = (saved.folder / "all.tar").read_bytes()
    code = "from snakemake_apptainer_freshness import cli; cli.main(['bundle', 'load', '-'])"
    process = subprocess.Popen(python(code), stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=saved.folder)
    process.stdin.write(bundle[: len(bundle) - 20_000])
    process.stdin.flush()
    deadline = time.monotonic() + 30
    while not (saved.prefix.is_dir() and any(saved.prefix.glob("*.partial-*"))) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert any(saved.prefix.glob("*.partial-*"))
    os.kill(process.pid, number)
    process.communicate()

    left = files(saved)
    assert [name for name in left if ".partial-" not in name] == []
    assert left == [] or number is signal.SIGKILL
    assert not (saved.folder / "containers.lock").exists()
    assert saved.run("bundle", "load", "all.tar").status == 0


def test_a_disk_without_room_is_told_before_anything_is_read(saved, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 900, 100))
    answer = saved.run("bundle", "load", "all.tar")

    assert answer.status == 3
    assert "has room for 100" in answer.err
    assert files(saved) == []


def test_memory_does_not_grow_with_the_size(good):
    """Both ways, with an image of 128 MiB, in a process that may have 32 MiB more than it starts with."""
    wanted = pins.pin()
    pins.record(pins.put(good.prefix, wanted, sifs.pulled(wanted.url[9:], content=sifs.squashfs(128 << 20))), wanted)
    code = (
        "import resource, sys; from snakemake_apptainer_freshness import cli\n"
        "import snakemake_apptainer_freshness.actions.unpack\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "status = cli.run(sys.argv[1:])\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "sys.exit(status or grown > 32 * 1024)"
    )
    for arguments in (["save", "all.tar"], ["load", "all.tar", "--prefix", "elsewhere"]):
        result = subprocess.run([*python(code), "bundle", *arguments], cwd=good.folder, check=False)
        assert result.returncode == 0
