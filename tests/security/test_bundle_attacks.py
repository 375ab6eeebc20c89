"""Attacks through a bundle, one test each: whatever is in the archive, nothing of it gets a name, here or elsewhere.

Each starts from a good bundle and changes one thing; where an attacker would, the table of contents is changed with it.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.actions.bundle import gather, save
from snakemake_apptainer_freshness.actions.unpack import Loader
from snakemake_apptainer_freshness.errors import InvalidBundle
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import archive
from tests.support import sifs
from tests.support.pins import OTHER, REPOSITORY, pin, put, record
from tests.unit.cli.conftest import entry_of

IMAGES = [pin(), pin(OTHER, manifest=None)]
SECOND = replace(IMAGES[1], reference=parse(f"docker://{REPOSITORY}:2.0"))


class Bundle:
    """A good bundle, taken apart: what it holds, in order; `target` is where it is loaded."""

    def __init__(self, folder):
        self.target = folder / "target"
        self.target.mkdir()
        source = folder / "source"
        for wanted in (pin(), SECOND):
            record(put(source, wanted), wanted)
        lock = source / "containers.lock"
        lock.write_text(dumps(Lock.of([entry_of(pin()), entry_of(SECOND)])))
        out = io.BytesIO()
        save(gather(lock, source), out, lambda _: None)
        self.good = out.getvalue()
        with tarfile.open(fileobj=io.BytesIO(self.good)) as opened:
            self.files = [(member, opened.extractfile(member).read()) for member in opened.getmembers()]

    def position(self, part):
        return next(number for number, (member, _) in enumerate(self.files) if part(member.name))

    @property
    def image(self):
        """The place of the first image."""
        return self.position(lambda name: name.endswith(".simg"))

    @property
    def table(self):
        return json.loads(self.files[0][1])

    def announce(self, **changes):
        """Change the table of contents."""
        self.files[0] = (self.files[0][0], json.dumps(self.table | changes).encode())

    def put(self, position, content, *, announced=True):
        """Change a file, and what is announced of it."""
        self.files[position] = (self.files[position][0], content)
        if announced:
            files = self.table["file"]
            files[position - 1] |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            self.announce(file=files)

    @property
    def bytes(self):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as new:
            for member, content in self.files:
                member.size = len(content) if member.type == tarfile.REGTYPE else 0
                new.addfile(member, io.BytesIO(content))
        return out.getvalue()

    def load(self, content=None):
        loader = Loader(
            io.BytesIO(self.bytes if content is None else content),
            lock_path=self.target / "containers.lock",
            prefix=self.target / "images",
        )
        return loader.load(loader.begin(), lambda _: None)

    def refused(self, reason, content=None):
        """That loading stops for a `reason`, and nothing is left of it."""
        with pytest.raises(InvalidBundle, match=reason):
            self.load(content)
        assert [path for path in self.target.rglob("*") if path.name != "images"] == []


@pytest.fixture
def bundle(tmp_path):
    return Bundle(tmp_path)


def test_the_good_one_is_loaded(bundle):
    assert [one.kept for one in bundle.load()] == [False, False]
    assert (bundle.target / "containers.lock").exists()
    assert [one.kept for one in bundle.load(bundle.good)] == [True, True]


# --- Damage ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.3, 0.5, 0.9, 0.999], ids=str)
def test_cut_short(bundle, share):
    bundle.refused("cut short|is no tar", bundle.good[: int(len(bundle.good) * share)])


def test_cut_short_by_its_end(bundle):
    bundle.refused("cut short", bundle.good[:-1])


def test_one_bit_flipped_anywhere(bundle):
    """In places across the whole; but for a header's fields that say nothing, which its checksum covers."""
    for number in range(60):
        content = bytearray(bundle.good)
        content[number * (len(content) - 1) // 59] ^= 1
        bundle.refused("bundle cannot be used|has version", bytes(content))


def test_one_byte_of_an_image_altered(bundle):
    position = bundle.image
    content = bytearray(bundle.files[position][1])
    content[-1000] ^= 1
    bundle.put(position, bytes(content), announced=False)
    bundle.refused("is not what its SHA-256 says")


def test_something_follows_its_end(bundle):
    bundle.refused("something follows", bundle.good + bytes(4096) + b"#!/bin/sh")


def test_endless_zeros_after_its_end(bundle):
    bundle.refused("something follows", bundle.good + bytes(DISK.bundle_end + 1))


def test_compressed(bundle):
    import gzip

    bundle.refused("no tar archive", gzip.compress(bundle.good))


# --- What is in it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../evil.simg", "/etc/cron.d/evil", f"../{'0' * 32}.simg", f"{'0' * 32}.simg/../../x", "", ".", "a\nb"]
)
def test_a_path_that_leads_out(bundle, name):
    position = bundle.image
    bundle.files[position][0].name = name
    bundle.refused("should come, and there is")
    files = bundle.table["file"]
    files[position - 1]["name"] = name
    bundle.announce(file=files)
    bundle.refused("which is no image")


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE],
    ids=["symbolic link", "hard link", "character device", "block device", "FIFO", "folder"],
)
def test_no_file_in_the_place_of_one(bundle, kind):
    member = bundle.files[bundle.image][0]
    member.type, member.linkname = kind, "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
    bundle.refused("should come, and there is")


@pytest.mark.parametrize(
    "kind",
    [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, tarfile.XGLTYPE, b"V"],
    ids=["long name", "sparse", "extended header", "global header", "volume"],
)
def test_an_extension_of_the_format(bundle, kind):
    block = bytearray(archive.header("containers.lock", 1))
    block[156:157] = kind
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    before = 1024 + -(-len(bundle.files[0][1]) // 512) * 512 - 512
    bundle.refused("should come, and there is", bundle.good[:before] + bytes(block) + bundle.good[before:])


def test_a_file_twice(bundle):
    bundle.files.append(bundle.files[bundle.image])
    bundle.refused("more than it announces")
    bundle.announce(file=[*bundle.table["file"], bundle.table["file"][bundle.image - 1]])
    bundle.refused("twice")


def test_a_file_more(bundle):
    bundle.files.append((tarfile.TarInfo("evil.sh"), b"#!/bin/sh"))
    bundle.refused("more than it announces")
    bundle.announce(file=[*bundle.table["file"], {"name": "evil.sh", "size": 9, "sha256": "0" * 64}])
    bundle.refused("which is no image")


def test_a_file_less(bundle):
    del bundle.files[-1]
    bundle.refused("it ends before|cut short")


def test_an_image_that_its_own_lock_does_not_name(bundle):
    name = f"{'0' * 32}.simg"
    files = bundle.table["file"]
    bundle.announce(file=[*files, {"name": name, "size": 1, "sha256": hashlib.sha256(b"x").hexdigest()}])
    bundle.files.append((tarfile.TarInfo(name), b"x"))
    bundle.refused(f"it holds {name}, which its lock does not name")


def test_an_image_that_its_lock_names_and_it_lacks(bundle):
    bundle.announce(file=bundle.table["file"][:-2])
    del bundle.files[-2:]
    bundle.refused("it lacks the image of")


@pytest.mark.parametrize("size", [0, 1, 1 << 20, 1 << 39])
def test_a_size_that_is_not_the_announced_one(bundle, size, monkeypatch):
    position = bundle.image
    bundle.put(position - 1, json.dumps(json.loads(bundle.files[position - 1][1]) | {"size": size}).encode())
    files = bundle.table["file"]
    files[position - 1]["size"] = size
    bundle.announce(file=files)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 42, 0, 1 << 42))
    bundle.refused("has not the announced size")


@pytest.mark.parametrize("size", [-1, 1 << 40, 1 << 70, 1.5, "1", None, True])
def test_a_size_that_cannot_be(bundle, size):
    files = bundle.table["file"]
    files[bundle.image - 1]["size"] = size
    bundle.announce(file=files)
    bundle.refused("damaged|has not the announced size")


def test_a_negative_size_in_a_header(bundle):
    block = bytearray(archive.header("bundle.json", 1))
    block[124:136] = (-512 & (1 << 96) - 1).to_bytes(12, "big")
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    bundle.refused("should come", bytes(block) + bundle.good[512:])


def test_an_endless_table_of_contents(bundle):
    bundle.refused("larger than", archive.header("bundle.json", 1 << 40) + bytes(1024))


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b"[" * 100_000, b'{"version": true}', b'{"version": 0}', b'{"version": 1}', b"\xff"],
    ids=["empty", "list", "cut", "nested", "bool", "zero", "keys", "bytes"],
)
def test_a_table_of_contents_that_is_none(bundle, content):
    bundle.files[0] = (bundle.files[0][0], content)
    bundle.refused("table of contents")


def test_a_newer_version(bundle):
    bundle.announce(version=2)
    bundle.refused("has version 2; this program knows version 1")


def test_the_images_of_another_machine(bundle):
    bundle.announce(platform="linux/s390x")
    bundle.refused("its images are for linux/s390x")


# --- What it says ----------------------------------------------------------------------------------------------


def test_another_image_under_a_good_name_with_a_good_record(bundle):
    """Its checksums all fit; but its label says what it is."""
    position = bundle.image
    content = sifs.pulled(f"{REPOSITORY}@sha256:{'6' * 64}")
    bundle.put(position, content)
    saying = json.loads(bundle.files[position - 1][1])
    saying |= {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    bundle.put(position - 1, json.dumps(saying).encode())
    bundle.refused("says that it was pulled as")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"#!/bin/sh\n" * 20_000, "magic bytes"),
        (sifs.pulled(IMAGES[0].url[9:])[:-1], "truncated"),
        (sifs.pulled(IMAGES[0].url[9:], architecture=sifs.ARM64), "it is for arm64"),
    ],
    ids=["script", "truncated", "architecture"],
)
def test_no_sound_image_for_this_machine(bundle, content, reason):
    position = bundle.position(lambda name: name == archive_name(IMAGES[0]))
    bundle.put(position, content)
    saying = json.loads(bundle.files[position - 1][1])
    saying |= {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    bundle.put(position - 1, json.dumps(saying).encode())
    bundle.refused(reason)


def archive_name(wanted):
    from snakemake_apptainer_freshness.store.prefix import image_name

    return image_name(wanted.url)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image", "0" * 32 + ".simg"),
        ("pinned", "docker://evil.example/tool@sha256:" + "6" * 64),
        ("digest", "sha256:" + "6" * 64),
        ("sha256", "6" * 64),
        ("size", 1),
        ("platform", "linux/s390x"),
        ("refuted", "its layers are others"),
    ],
)
def test_a_record_about_another_image(bundle, key, value):
    position = bundle.image - 1
    bundle.put(position, json.dumps(json.loads(bundle.files[position][1]) | {key: value}).encode())
    bundle.refused("is about another image")


def test_a_record_that_is_none(bundle):
    bundle.put(bundle.image - 1, b"{}")
    bundle.refused("its record")


def test_an_image_without_a_record_that_nothing_proves(bundle):
    position = bundle.image - 1
    files = bundle.table["file"]
    del files[position - 1], bundle.files[position]
    bundle.announce(file=files)
    bundle.refused("nothing in it says that")


def test_a_record_without_its_image(bundle):
    files = bundle.table["file"]
    files[1], files[2] = files[2], files[1]
    bundle.announce(file=files)
    bundle.refused("without")


def test_a_hostile_lock(bundle):
    lock = bundle.files[1][1].replace(b"docker://quay.io", b"docker://quay.io/$(touch x)")
    bundle.put(1, lock)
    bundle.refused("cannot use the lock file containers.lock of the bundle")


def test_a_link_in_the_image_folder_is_not_written_through(bundle, tmp_path):
    images = bundle.target / "images"
    images.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (images / archive_name(pin())).symlink_to(victim)
    bundle.load()

    assert victim.read_text() == "mine"
    assert not (images / archive_name(pin())).is_symlink()
