"""Attacks through a bundle, one test each: whoever made it, no image gets a name that is not what the lock names.

Each starts from a good bundle and changes one thing; where an attacker would, the table of contents is changed with it.
What is refused before an image is built needs no Apptainer; the others use the real one.
"""

from __future__ import annotations

import tarfile
import time
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.prove import prove
from snakemake_apptainer_freshness.apptainer import sif
from snakemake_apptainer_freshness.errors import InvalidBundle, LocalIOError, UsageError
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import archive
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import images, sifs
from tests.support.attacks.bundles import CONTENT, EVIL, INDEX, refused, with_ready
from tests.support.bundles import Place, TakenApart, entry_text, older, saved
from tests.support.images import multi_arch
from tests.support.pins import forget_all
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
        if images.sha256(content) not in str(bundle.table):
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
        if images.sha256(content) not in str(bundle.table):
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
    [INDEX.digest, CONTENT.digest, images.sha256(CONTENT.config), CONTENT.layers[1].digest],
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
        out.write(start + archive.header(last, 1 << 36))
        out.truncate(out.tell() + (1 << 36) + len(archive.END))
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
    block = bytearray(archive.header("bundle.json", 1))
    block[124:136] = (-512 & (1 << 96) - 1).to_bytes(12, "big")
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    refused(place, bytes(block) + good.read_bytes()[512:], "should come")


def test_an_endless_table_of_contents(place):
    refused(place, archive.header("bundle.json", 1 << 40) + bytes(1024), "larger than")


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


# --- Path tricks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/cron.d/evil",
        f"blobs/sha256/../../{'0' * 64}",
        f"blobs/sha256/{'0' * 63}",
        f"blobs/sha256/{'0' * 64}/../../x",
        f"blobs/md5/{'0' * 32}",
        f"blobs//{'0' * 64}",
        "",
        ".",
        "a\nb",
    ],
)
def test_a_path_that_leads_out(bundle, place, name):
    position = bundle.position(CONTENT.layers[0].digest)
    bundle.files[position][0].name = name
    refused(place, bundle.bytes, "should come, and there is")
    bundle.announce_of(position, name=name)
    refused(place, bundle.bytes, "which is no blob")


def test_a_blob_that_is_announced_under_the_name_of_another(bundle, place):
    bundle.announce_of(bundle.position(CONTENT.layers[0].digest), digest=EVIL.layers[0].digest)
    refused(place, bundle.bytes, "which is no blob")


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE],
    ids=["symbolic link", "hard link", "character device", "block device", "FIFO", "folder"],
)
def test_no_file_in_the_place_of_one(bundle, place, kind):
    member = bundle.files[bundle.position(CONTENT.layers[0].digest)][0]
    member.type, member.linkname = kind, "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
    refused(place, bundle.bytes, "should come, and there is")


@pytest.mark.parametrize(
    "kind",
    [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, tarfile.XGLTYPE, b"V"],
    ids=["long name", "sparse", "extended header", "global header", "volume"],
)
def test_an_extension_of_the_format(good, bundle, place, kind):
    block = bytearray(archive.header("oci-layout", 1))
    block[156:157] = kind
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    before = 3 * 512 + -(-len(bundle.files[0][1]) // 512) * 512
    content = good.read_bytes()
    refused(place, content[:before] + bytes(block) + content[before:], "should come, and there is")


def test_a_file_twice(bundle, place):
    bundle.files.append(bundle.files[-1])
    refused(place, bundle.bytes, "more than it announces")
    bundle.announce(file=[*bundle.table["file"], bundle.table["file"][-1]])
    refused(place, bundle.bytes, "twice")


def test_a_file_more(bundle, place):
    bundle.files.append((tarfile.TarInfo("evil.sh"), b"#!/bin/sh"))
    refused(place, bundle.bytes, "more than it announces")
    bundle.announce(file=[*bundle.table["file"], {"name": "evil.sh", "size": 9, "digest": f"sha256:{'0' * 64}"}])
    refused(place, bundle.bytes, "which is no blob")


def test_a_file_less(bundle, place):
    del bundle.files[-1]
    refused(place, bundle.bytes, "it ends before|cut short")


@pytest.mark.parametrize("folder", ["blobs", "blobs/sha256"])
def test_a_link_in_the_place_of_the_folder_of_blobs(good, place, folder):
    """What unpacks an archive would write through it; this reads no more than its header."""
    content = good.read_bytes()
    with tarfile.open(good) as opened:
        [start] = [member.offset for member in opened.getmembers() if member.name == folder]
    link = tarfile.TarInfo(folder)
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    refused(place, content[:start] + link.tobuf() + content[start + 512 :], f"{folder} should come")


def test_a_link_in_the_image_folder_is_not_written_through(good, place, tmp_path):
    place.prefix.mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    image = image_path(place.prefix, pin_of(INDEX).url)
    image.symlink_to(victim)
    place.load(good)

    assert victim.read_text() == "mine"
    assert not image.is_symlink()


# --- Damage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.3, 0.5, 0.9, 0.999], ids=str)
def test_cut_short(good, place, share):
    content = good.read_bytes()
    refused(place, content[: int(len(content) * share)], "cut short|is no tar")


def test_cut_short_by_its_end(good, place):
    refused(place, good.read_bytes()[:-1], "cut short")


def test_one_bit_flipped_anywhere(good, place):
    """In places across the whole; but for the two bytes of each header that say nothing."""
    content = good.read_bytes()
    with tarfile.open(good) as opened:
        idle = {member.offset + 148 + byte for member in opened.getmembers() for byte in (6, 7)}
    path = place.folder.with_name("damaged.tar")
    for at in {number * (len(content) - 1) // 59 for number in range(60)} - idle:
        damaged = bytearray(content)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        forget_all()  # an index that was hashed before need not be read again
        with pytest.raises(InvalidBundle):
            place.load(path)
        assert place.put == []


def test_something_follows_its_end(good, place):
    refused(place, good.read_bytes() + bytes(4096) + b"#!/bin/sh", "something follows")


def test_compressed(good, place):
    import gzip

    refused(place, gzip.compress(good.read_bytes()), "no tar archive")


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b"[" * 100_000, b'{"version": true}', b'{"version": 0}', b'{"version": 2}', b"\xff"],
    ids=["empty", "list", "cut", "nested", "bool", "zero", "keys", "bytes"],
)
def test_a_table_of_contents_that_is_none(bundle, place, content):
    bundle.files[0] = (bundle.files[0][0], content)
    refused(place, bundle.bytes, "table of contents")


def test_a_newer_version(bundle, place):
    bundle.announce(version=3)
    refused(place, bundle.bytes, "has version 3; this program knows version 2")


def test_an_older_version_in_which_the_sender_is_believed(place):
    refused(place, older(), "has version 1, in which nothing but its sender's word")


def test_the_images_of_another_machine(bundle, place):
    bundle.announce(platform="linux/s390x")
    refused(place, bundle.bytes, "its images are for linux/s390x")
