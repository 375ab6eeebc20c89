"""Attacks through the format of a bundle, one test each: a name, a kind of file or a header that is not as announced.

Each starts from a good bundle and changes one thing; where an attacker would, the table of contents is changed with it.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.errors import InvalidBundle
from snakemake_apptainer_freshness.store import bundle_tar
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support.attacks.bundles import CONTENT, EVIL, INDEX, refused
from tests.support.bundles import Place, TakenApart, older, saved
from tests.support.pins import forget_all
from tests.support.proofs import pin_of


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return saved(INDEX, tmp_path_factory.mktemp("good"))


@pytest.fixture
def bundle(good) -> TakenApart:
    return TakenApart.of(good)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    return Place.of_a_user(tmp_path, monkeypatch)


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
    block = bytearray(bundle_tar.header("oci-layout", 1))
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
