"""Loading a bundle: what is built, what is proven, what is kept, and going on after a stop. With the real Apptainer."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.actions.bundle import BundleSelection, gather
from snakemake_apptainer_freshness.actions.check import check_one
from snakemake_apptainer_freshness.actions.pack import save
from snakemake_apptainer_freshness.apptainer import sif
from snakemake_apptainer_freshness.errors import InvalidBundle, LocalIOError, UsageError
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from snakemake_apptainer_freshness.settings import PinKind
from snakemake_apptainer_freshness.store import claims
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import images, pins, sifs
from tests.support.bundles import Place, TakenApart, entry_text, saved
from tests.support.digests import sha256
from tests.support.images import Image, multi_arch
from tests.support.pins import lock_entry
from tests.support.proofs import REPOSITORY, Served, built, file, folder, layer, pin_of

CONTENT = Image(layers=(layer(folder("bin"), file("bin/tool", "good", 0o755)),))
OTHER = Image(layers=(layer(file("other", "other")),))
INDEX = multi_arch(CONTENT, "s390x")


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    return Place.of_a_user(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return saved(INDEX, tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return built(CONTENT, tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="module")
def complete(tmp_path_factory, original):
    """A bundle with its ready image."""
    place = tmp_path_factory.mktemp("complete")
    wanted = pin_of(INDEX, manifest=CONTENT.digest)
    pins.record(pins.put(place / "images", wanted, original.read_bytes()), wanted)
    return saved(INDEX, place, with_images=True)


@pytest.mark.parametrize("how", ["file", "pipe"])
def test_an_image_is_built_of_its_layers_and_verified_from_then_on(good, place, how):
    loaded = place.load(good if how == "file" else good.read_bytes())
    [one] = loaded.images

    assert loaded.brought_lock
    assert (one.kept, one.how) == (False, "built from the layers that its digest names")
    assert check_one(pin_of(INDEX), one.path).state == "verified"
    assert one.size == one.path.stat().st_size
    assert place.lock.read_text() == entry_text(INDEX)
    assert [path.name for path in place.prefix.iterdir() if ".partial-" in path.name] == []


def test_nothing_of_this_machine_gets_into_the_image(good, place, tmp_path):
    [one] = place.load(good).images
    found = sif.read(one.path)

    assert str(tmp_path) not in found.definition + str(found.labels)


def test_the_lock_is_registered_in_the_folder(good, place):
    place.load(good)
    [one] = claims.registered(place.prefix)
    assert one.claim.lockfile == str(place.lock)


def test_a_ready_image_is_proven_and_taken_as_it_is(complete, place, original):
    [one] = place.load(complete).images

    assert one.how == "proven by comparison with its layers"
    assert one.path.read_bytes() == original.read_bytes()
    assert place.notes == []


def test_a_ready_image_that_cannot_be_proven_here_is_built_anew(complete, place, monkeypatch):
    from snakemake_apptainer_freshness.actions import rebuild
    from snakemake_apptainer_freshness.actions.prove import Proof
    from snakemake_apptainer_freshness.freshness import DiskState

    unsure = Proof(state=DiskState.UNBOUND, path="", detail="only what Apptainer inserts differs")
    monkeypatch.setattr(rebuild, "prove", lambda *_, **__: unsure)
    [one] = place.load(complete).images

    assert one.how.startswith("built from the layers")
    assert "built anew, since its ready image cannot be proven: only what Apptainer inserts differs" in place.notes[0]


def test_the_image_of_a_platform_pin_gets_its_own_name(good, place):
    [one] = place.load(good, kind=PinKind.PLATFORM).images

    assert one.path == image_path(place.prefix, f"docker://{REPOSITORY}@{CONTENT.digest}")
    assert check_one(pin_of(CONTENT), one.path).state == "verified"


def test_a_damaged_image_is_moved_aside_and_a_verified_one_kept(good, place):
    image = image_path(place.prefix, pin_of(INDEX).url)
    place.prefix.mkdir(parents=True)
    image.write_bytes(b"nothing good")
    [one] = place.load(good).images
    inode = image.stat().st_ino
    [again] = place.load(good).images

    assert one.quarantined.read_bytes() == b"nothing good"
    assert (again.kept, again.quarantined) == (True, None)
    assert image.stat().st_ino == inode


def test_a_lock_keeps_its_comments(place, tmp_path):
    source = tmp_path / "source"
    saved(CONTENT, source)
    lock = source / "containers.lock"
    lock.write_text("# reviewed by us\n" + lock.read_text())
    selection = BundleSelection(prefix=source)
    bundle = gather(lock, selection, registry=Served(content=CONTENT), advance=lambda _: None)
    save(bundle, source / "all.tar", lambda _: None)
    place.load(source / "all.tar")

    assert place.lock.read_text().startswith("# reviewed by us\n")


def test_another_lock_is_not_replaced(good, place):
    place.folder.mkdir()
    place.lock.write_text(entry_text(OTHER))
    with pytest.raises(UsageError, match=r"is not the bundle's: they differ in docker://registry\.example\.org"):
        place.load(good)
    assert place.lock.read_text() == entry_text(OTHER)


def test_a_disk_without_room_is_told_before_anything_is_built(good, place, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 900, 10))
    for bundle in (good, good.read_bytes()):
        with pytest.raises(LocalIOError, match="has room for 10"):
            place.load(bundle)
    assert place.put == []


def two(folder, *, registry):
    """A bundle of two images, in the order of their names."""
    folder.mkdir()
    lock = folder / "containers.lock"
    entries = [
        lock_entry(f"docker://{REPOSITORY}:{tag}", content.digest, media_type=content.media_type)
        for tag, content in (("1", CONTENT), ("2", OTHER))
    ]
    lock.write_text(dumps(Lock.of(entries)))
    bundle = gather(lock, BundleSelection(prefix=folder), registry=registry, advance=lambda _: None)
    save(bundle, folder / "all.tar", lambda _: None)
    return folder / "all.tar"


def test_a_loading_that_was_stopped_goes_on_with_the_next_image(place, tmp_path):
    lies = {sha256(blob): blob for blob in (OTHER.manifest, *OTHER.blobs)}
    good = two(tmp_path / "two", registry=Served(content=CONTENT, lies=lies))
    damaged = TakenApart.of(good)
    wrong = OTHER.layers[0].content
    damaged.put(damaged.position(OTHER.layers[0].digest), wrong[:-1] + bytes([wrong[-1] ^ 1]))
    hostile = tmp_path / "damaged.tar"
    hostile.write_bytes(damaged.bytes)
    with pytest.raises(InvalidBundle, match=f"docker://{REPOSITORY}:2"):
        place.load(hostile)
    assert [name for name in place.put if not name.endswith(".freshness.json")] == [
        image_path(place.prefix, f"docker://{REPOSITORY}@{CONTENT.digest}").name
    ]

    assert [one.kept for one in place.load(good).images] == [True, False]
    assert place.lock.exists()


def test_an_image_that_is_pinned_by_its_own_hash_is_held_to_that(place, tmp_path):
    content = sifs.pulled("", labels={})
    digest = sha256(content)
    url = f"library://team/tool:sha256.{digest.removeprefix('sha256:')}"
    source = tmp_path / "source"
    source.mkdir()
    lock = source / "containers.lock"
    lock.write_text(dumps(Lock.of([lock_entry(url, digest, media_type="application/vnd.sylabs.sif")])))
    pins.put(source / "images", replace(pins.pin(), pinned=parse(url)), content)
    selection = BundleSelection(prefix=source / "images")
    bundle = gather(lock, selection, registry=Served(content=CONTENT), advance=lambda _: None)
    save(bundle, source / "all.tar", lambda _: None)
    forged = TakenApart.of(source / "all.tar")
    forged.put(forged.position(digest), content[:-1] + b"!")
    (tmp_path / "forged.tar").write_bytes(forged.bytes)
    with pytest.raises(InvalidBundle, match="is not that"):
        place.load(tmp_path / "forged.tar")
    assert place.put == []

    [one] = place.load(source / "all.tar").images
    assert one.how == "its SHA-256 is the one that its reference names"
    assert one.path.read_bytes() == content


def test_a_sif_of_a_registry_is_held_to_its_manifest(place, tmp_path):
    content = sifs.pulled("", labels={})
    layer_of_sif = {
        "mediaType": "application/vnd.sylabs.sif.layer.v1.sif",
        "digest": sha256(content),
        "size": len(content),
    }
    config = {"mediaType": "application/vnd.sylabs.sif.config.v1+json", "digest": sha256(b"{}"), "size": 2}
    table = {"schemaVersion": 2, "mediaType": images.OCI_MANIFEST, "config": config, "layers": [layer_of_sif]}
    document = json.dumps(table).encode()
    source = tmp_path / "source"
    source.mkdir()
    lock = source / "containers.lock"
    reference = f"oras://{REPOSITORY}:1.0"
    lock.write_text(dumps(Lock.of([lock_entry(reference, sha256(document), media_type=images.OCI_MANIFEST)])))
    registry = Served(content=CONTENT, lies={sha256(body): body for body in (document, content, b"{}")})
    bundle = gather(lock, BundleSelection(prefix=source), registry=registry, advance=lambda _: None)
    save(bundle, source / "all.tar", lambda _: None)
    [one] = place.load(source / "all.tar").images

    assert one.path.read_bytes() == content
    assert one.path == image_path(place.prefix, f"oras://{REPOSITORY}@{sha256(document)}")
