"""Attacks through a bundle, one test each: no image gets a name that is not what the lock names.

Each starts from a good bundle and changes one thing; where an attacker would, the table of contents is changed with it.
What is refused before an image is built needs no Apptainer; the others use the real one.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.prove import prove
from snakemake_apptainer_freshness.apptainer import sif
from snakemake_apptainer_freshness.errors import InvalidBundle, LocalIOError, UsageError
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import bundle_tar
from tests.support import sifs
from tests.support.attacks.bundles import CONTENT, EVIL, INDEX, refused, with_ready
from tests.support.bundles import Place, TakenApart, entry_text, saved
from tests.support.digests import sha256
from tests.support.images import multi_arch
from tests.support.proofs import Served, built, environment, forged, pin_of


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return saved(INDEX, tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def evil_image(tmp_path_factory) -> bytes:
    """What Apptainer makes of the layers of another image."""
    return built(EVIL, tmp_path_factory.mktemp("evil")).read_bytes()


@pytest.fixture
def bundle(good) -> TakenApart:
    return TakenApart.of(good)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    return Place.of_a_user(tmp_path, monkeypatch)


def test_the_good_one_is_loaded_and_kept(good, place):
    assert [one.kept for one in place.load(good).images] == [False]
    assert [one.kept for one in place.load(good).images] == [True]
    assert place.lock.read_text() == entry_text(INDEX)


# --- Other content ----------------------------------------------------------------------------------------------


def test_another_sif_as_the_ready_image(bundle, place, evil_image):
    refused(place, with_ready(bundle, evil_image), "its ready image of .* is stale: .*/bin/tool: its content")


def test_another_sif_whose_label_names_the_right_digest(bundle, place, evil_image, tmp_path):
    original = tmp_path / "evil.sif"
    original.write_bytes(evil_image)
    partition = sif.read(original).partition
    packed = evil_image[partition.offset : partition.offset + partition.size]
    labelled = sifs.pulled(f"registry.example.org/team/tool@{INDEX.digest}", content=packed)
    refused(place, with_ready(bundle, labelled), "its ready image of .* is stale")


def test_a_ready_image_with_one_byte_of_one_file_changed(bundle, place, tmp_path):
    forgery = forged(built(CONTENT, tmp_path), tmp_path, lambda root: (root / "bin/tool").write_text("goop"))
    refused(place, with_ready(bundle, forgery.read_bytes()), "its ready image of .* is stale: .*/bin/tool")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"#!/bin/sh\n" * 20_000, "magic bytes"),
        (sifs.pulled()[:-1], "truncated"),
        (sifs.pulled(architecture=sifs.ARM64), "it is for arm64"),
    ],
    ids=["script", "truncated", "architecture"],
)
def test_a_ready_image_that_is_no_sound_sif_for_this_machine(bundle, place, content, reason):
    refused(place, with_ready(bundle, content), reason)


def test_other_layers_under_the_names_of_the_right_ones(bundle, place):
    """Of the same length, so that only their hash tells."""
    right = CONTENT.layers[0]
    wrong = right.content[:-1] + bytes([right.content[-1] ^ 1])
    bundle.put(bundle.position(right.digest), wrong)
    refused(place, bundle.bytes, "what is there as sha256:.* is not that")


def test_other_layers_named_by_another_manifest_in_the_place_of_the_right_one(bundle, place):
    for content in (EVIL.config, *(one.content for one in EVIL.layers)):
        if sha256(content) not in str(bundle.table):
            bundle.add(content)
    bundle.put(bundle.position(CONTENT.digest), EVIL.manifest)
    refused(place, bundle.bytes, "what is served as sha256:.* is something else")


def test_another_index_that_names_other_layers(bundle, place):
    bundle.put(bundle.position(INDEX.digest), multi_arch(EVIL, "s390x").manifest)
    refused(place, bundle.bytes, "what is served as sha256:.* is something else")


def test_a_sound_bundle_of_another_image_under_the_committed_lock(tmp_path, place):
    """Everything in it fits, its own lock included; only the lock of the workflow says that it is another image."""
    place.folder.mkdir()
    place.lock.write_text(entry_text(INDEX))
    hostile = saved(EVIL, tmp_path / "hostile")
    with pytest.raises(UsageError, match=r"is not the bundle's: they differ in"):
        place.load(hostile)
    assert place.put == ["containers.lock"]
    assert place.lock.read_text() == entry_text(INDEX)


def test_the_committed_lock_in_a_bundle_of_another_image(tmp_path, place):
    bundle = TakenApart.of(saved(EVIL, tmp_path / "hostile"))
    bundle.put(bundle.named("containers.lock"), entry_text(INDEX).encode())
    refused(place, bundle.bytes, f"the bundle lacks {INDEX.digest}")


def test_a_lock_whose_platforms_name_another_manifest_than_its_index(bundle, place):
    """The platform table of a lock is a claim: what is built follows from the index, as it hashes."""
    lock = entry_text(INDEX).replace(CONTENT.digest, EVIL.digest)
    assert EVIL.digest in lock
    bundle.put(bundle.named("containers.lock"), lock.encode())
    for content in (EVIL.manifest, EVIL.config, *(one.content for one in EVIL.layers)):
        if sha256(content) not in str(bundle.table):
            bundle.add(content)
    path = place.folder.with_name("claims.tar")
    path.write_bytes(bundle.bytes)
    [loaded] = place.load(path).images

    proof = prove(
        pin_of(INDEX),
        loaded.path,
        registry=Served(content=INDEX),
        environment=environment(place.folder.with_name("home")),
        remember=False,
    )
    assert proof.state == "verified"


def test_a_hostile_lock(bundle, place):
    lock = entry_text(INDEX).replace("docker://registry", "docker://$(touch x)registry")
    bundle.put(bundle.named("containers.lock"), lock.encode())
    refused(place, bundle.bytes, "cannot use the lock file containers.lock of the bundle")


# --- Missing and huge blobs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "digest",
    [INDEX.digest, CONTENT.digest, sha256(CONTENT.config), CONTENT.layers[1].digest],
    ids=["index", "manifest", "configuration", "layer"],
)
def test_a_missing_blob(bundle, place, digest):
    bundle.drop(bundle.position(digest))
    refused(place, bundle.bytes, f"lacks {digest}")


def test_a_huge_blob_in_the_place_of_a_layer(good, place, monkeypatch):
    """A hole of 64 GiB under the name of a layer: it is refused for its size, before a byte of it is read."""
    bundle = TakenApart.of(good)
    digest = CONTENT.layers[1].digest
    bundle.files.append(bundle.files.pop(bundle.position(digest)))
    table = bundle.table["file"]
    table.append(table.pop(next(n for n, one in enumerate(table) if one["digest"] == digest)) | {"size": 1 << 36})
    bundle.announce(file=table)
    last = bundle.files[-1][0].name
    bundle.files.pop()
    path = place.folder.with_name("huge.tar")
    start = bundle.bytes.rstrip(b"\0")
    start += bytes(-len(start) % 512)
    with path.open("wb") as out:
        out.write(start + bundle_tar.header(last, 1 << 36))
        out.truncate(out.tell() + (1 << 36) + len(bundle_tar.END))
    began = time.monotonic()
    with pytest.raises(InvalidBundle, match=f"{digest} has {1 << 36} bytes in it"):
        place.load(path)
    assert time.monotonic() - began < 5
    assert place.put == []


def test_a_huge_blob_through_a_pipe(bundle, place):
    bundle.announce_of(bundle.position(CONTENT.layers[1].digest), size=DISK.bundle_file - 1)
    with pytest.raises(LocalIOError, match="has room for"):
        place.load(bundle.bytes)
    assert place.put == []


@pytest.mark.parametrize("size", [-1, 1 << 40, 1 << 70, 1.5, "1", None, True])
def test_a_size_that_cannot_be(bundle, place, size):
    bundle.announce_of(bundle.position(CONTENT.digest), size=size)
    refused(place, bundle.bytes, r"file\[\d+\]\.size must be|has not the announced size")


def test_a_size_that_is_not_the_announced_one(bundle, place):
    bundle.announce_of(bundle.position(CONTENT.digest), size=7)
    refused(place, bundle.bytes, "has not the announced size")


def test_a_negative_size_in_a_header(good, place):
    block = bytearray(bundle_tar.header("bundle.json", 1))
    block[124:136] = (-512 & (1 << 96) - 1).to_bytes(12, "big")
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    refused(place, bytes(block) + good.read_bytes()[512:], "should come")


def test_an_endless_table_of_contents(place):
    refused(place, bundle_tar.header("bundle.json", 1 << 40) + bytes(1024), "larger than")


@pytest.mark.parametrize("name", ["containers.lock", "index.json"])
def test_an_endless_lock_or_index(bundle, place, name):
    bundle.announce_of(bundle.named(name), size=1 << 39)
    refused(place, bundle.bytes, "its lock or its index is larger than")


def test_endless_zeros_after_its_end(good, place):
    refused(place, good.read_bytes() + bytes(DISK.bundle_end + 1), "something follows")


def test_an_index_of_ready_images_that_is_none(bundle, place):
    for content in (b"{}", b"[" * 100_000, b"\xff"):
        bundle.put(bundle.named("index.json"), content)
        refused(place, bundle.bytes, "its index")
