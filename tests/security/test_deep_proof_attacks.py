"""Attacks on the deep proof: the maker of an image file, a layer or an answer wants it to say `verified`."""

from __future__ import annotations

import os
import random
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.check import check_one
from snakemake_apptainer_freshness.actions.prove import Proof, prove
from snakemake_apptainer_freshness.apptainer import sif, squashfs
from snakemake_apptainer_freshness.errors import RegistryError
from snakemake_apptainer_freshness.image.blobs import checked
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.store import records
from tests.support import images, layers, programs, sifs
from tests.support.digests import sha256
from tests.support.images import Image, Index
from tests.support.layers import Layer
from tests.support.proofs import (
    Served,
    built,
    environment,
    file,
    folder,
    forged,
    layer,
    pin_of,
    sif_around,
    symlink,
    tar,
)
from tests.support.squashfs_tables import Patched

CONTENT = Image(
    layers=(
        layer(folder("bin"), file("bin/tool", "#!/bin/sh\n", 0o755), symlink("bin/alias", "tool"), file("gone")),
        layer(file(".wh.gone", b""), file("data", "0123456789"), file("big", bytes(300_000)), folder("kept")),
    ),
    env=("PATH=/bin",),
)
PIN = pin_of(CONTENT)
ALL_CAPABILITIES = struct.pack("<5I", 0x02000001, 0xFFFFFFFF, 0, 0x1FF, 0)
POISONED_ENV = ".singularity.d/env/99-base.sh"


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """The image that Apptainer builds of CONTENT."""
    return built(CONTENT, tmp_path_factory.mktemp("original"))


def judge(image: Path, *, content: Image = CONTENT, served: Served | None = None) -> Proof:
    return prove(
        pin_of(content),
        image,
        registry=served or Served(content=content),
        environment=environment(image.parent / "home"),
    )


def put(path: Path, content: str | bytes) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)


# --- The image file -------------------------------------------------------------------------------------------------


def test_an_image_that_was_packed_anew_without_a_change_is_verified(original, tmp_path):
    assert judge(forged(original, tmp_path, lambda _: None)).state == "verified"


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda root: put(root / "data", "0123456780"), "/data: its content is another one"),
        (lambda root: put(root / "data", "012345678"), "/data: has 9 bytes"),
        (lambda root: (root / "bin/tool").chmod(0o4755), "/bin/tool: has mode 4755"),
        (
            lambda root: os.setxattr(root / "bin/tool", "security.capability", ALL_CAPABILITIES),
            "/bin/tool: has capabilities that are not in its layers",
        ),
        (lambda root: os.mknod(root / "kept/sda", 0o60666, os.makedev(8, 0)), "/kept/sda: is in no layer"),
        (lambda root: (root / "kept").chmod(0o777), "/kept: has mode 0777"),
        (lambda root: put(root / "bin/sudo", ""), "/bin/sudo: is in no layer"),
        (lambda root: put(root / "gone", "x"), "/gone: is in no layer"),
        (lambda root: put(root / "kept/.hidden", "x"), "/kept/.hidden: is in no layer"),
        (lambda root: (root / "data").unlink(), "/data: is missing"),
        (lambda root: (root / "kept").rmdir(), "/kept: is missing"),
        (lambda root: ((root / "bin/alias").unlink(), (root / "bin/alias").symlink_to("sh")), "/bin/alias: leads to"),
        (lambda root: ((root / "data").unlink(), (root / "data").mkdir()), "/data: is a folder"),
        (
            lambda root: put(root / "etc/resolv.conf", "nameserver 192.0.2.66"),
            "/etc/resolv.conf: is not what Apptainer",
        ),
        (lambda root: put(root / POISONED_ENV, "LD_PRELOAD=/evil"), f"/{POISONED_ENV}: is not what Apptainer"),
        (lambda root: put(root / ".singularity.d/env/00-a.sh", "x"), "/.singularity.d/env/00-a.sh: is in no layer"),
        (lambda root: put(root / ".singularity.d/runscript", "x"), "/.singularity.d/runscript: is not what"),
        (lambda root: (root / ".singularity.d/labels.json").chmod(0o755), "/.singularity.d/labels.json: has mode"),
        (lambda root: (root / ".exec").unlink(), "/.exec: is missing"),
        (lambda root: (root / "dev").chmod(0o4755), "/dev: has mode 4755"),
        (lambda root: os.chown(root / "data", 1000, 0), "/data: its owner is 1000:0"),
        (lambda root: root.chmod(0o1755), "/: has mode 1755"),
    ],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="packing what root owns takes root")
def test_a_change_of_one_thing_is_stale_and_named(original, tmp_path, change, difference):
    image = forged(original, tmp_path, change)

    proof = judge(image)

    assert proof.state == "stale"
    assert proof.differences[0].startswith(difference)
    assert len(proof.differences) == 1
    assert check_one(PIN, image).state == "stale"


def partition_of(image: Path) -> tuple[int, bytes]:
    found = sif.read(image).partition
    content = image.read_bytes()
    return found.offset, content[found.offset : found.offset + found.size]


def test_a_file_system_with_two_inodes_of_one_number_is_never_verified(original, tmp_path):
    """unsquashfs takes them for one file, a mount shows two."""
    packed = partition_of(forged(original, tmp_path, lambda _: None, "-noI", "-noX", "-noF"))[1]
    image = Patched(packed)
    assert judge(sif_around(bytes(image.content), tmp_path / "sound.sif")).state == "verified"
    change = image.of_inode("big", "number") - image.of_inode("data", "number")
    delta = image.get(image.entry_at("data") + 2, "h")
    image.entry("data", delta=delta + change).inode("data", number=image.of_inode("big", "number"))

    proof = judge(sif_around(bytes(image.content), tmp_path / "x.sif"))

    assert (proof.state, proof.detail) == (
        "unbound",
        "it cannot be compared: two inodes of its file system have one number, or one that is too large",
    )


def test_no_squashfs_tools_but_apptainers_own_are_needed(original, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("apptainer", "mksquashfs"):
        (tools / name).symlink_to(programs.find(name).resolve())
    variables = environment(tmp_path / "home") | {"PATH": str(tools)}
    assert shutil.which("unsquashfs", path=variables["PATH"]) is None

    proof = prove(PIN, original, registry=Served(content=CONTENT), environment=variables, remember=False)

    assert proof.state == "verified"


def test_an_overlay_beside_the_file_system_is_stale(original, tmp_path):
    _, packed = partition_of(original)
    overlay = sifs.Object(type=sifs.PARTITION, content=bytes(4096), extra=sifs.partition_extra(filesystem=2, kind=4))

    proof = judge(sif_around(packed, tmp_path / "x.sif", [overlay]))

    assert (proof.state, proof.differences) == (
        "stale",
        ("it has a second partition, which could be laid over its file system",),
    )


def test_an_unknown_object_is_stale(original, tmp_path):
    _, packed = partition_of(original)
    proof = judge(sif_around(packed, tmp_path / "x.sif", [sifs.Object(type=0x4007, content=b"x")]))
    assert proof.state == "stale"


def test_another_launch_script_is_stale(original, tmp_path):
    image = tmp_path / "x.sif"
    put(image, b"#!/tmp/evil\n".ljust(32, b"\0") + original.read_bytes()[32:])
    assert judge(image).state == "stale"


def test_a_file_that_anyone_may_write_is_never_verified(original, tmp_path):
    image = tmp_path / "x.sif"
    put(image, original.read_bytes())
    image.chmod(0o777)
    assert judge(image).state == "unbound"


def test_a_link_whose_target_lists_files_that_are_not_there_is_stale(original, tmp_path):
    def change(root):
        (root / "kept").rmdir()
        (root / "bin/alias").unlink()
        (root / "bin/alias").symlink_to("tool\nkept D 0 755 0 0")

    proof = judge(forged(original, tmp_path, change))

    assert proof.state == "stale"
    assert [difference.partition(":")[0] for difference in proof.differences] == ["/bin/alias", "/kept"]


def test_flipped_bytes_are_never_verified_unless_nothing_that_counts_changed(original, tmp_path):
    offset, packed = partition_of(original)
    chance = random.Random(7)
    image = tmp_path / "x.sif"
    states = []
    for _ in range(12):
        content = bytearray(original.read_bytes())
        content[offset + chance.randrange(96, len(packed) - 1)] ^= 1 << chance.randrange(8)
        put(image, bytes(content))
        proof = judge(image)
        states.append(proof.state)
        if proof.state == "verified":  # a time of a file, or the padding at the end
            with image.open("rb") as changed, original.open("rb") as unchanged:
                trees = [squashfs.read(f, offset, len(packed)) for f in (changed, unchanged)]
            assert dict(trees[0].walk()) == dict(trees[1].walk())
    assert set(states) <= {"verified", "stale", "unbound", "corrupt"}
    assert {"unbound", "stale"} & set(states)


def test_an_image_that_is_replaced_while_it_is_read_is_not_recorded(original, tmp_path):
    image = tmp_path / "x.sif"
    put(image, original.read_bytes())
    image.chmod(0o755)

    class Replacing(Served):
        def manifest(self, reference, digest):
            other = tmp_path / "other"
            put(other, b"other")
            other.replace(image)
            return super().manifest(reference, digest)

    judge(image, served=Replacing(content=CONTENT))

    assert check_one(PIN, image).state == "corrupt"


def test_an_image_that_is_changed_while_it_is_read_is_not_verified(original, tmp_path):
    image = tmp_path / "x.sif"
    put(image, original.read_bytes())

    class Touching(Served):
        def manifest(self, reference, digest):
            with image.open("ab") as opened:
                opened.write(b"more")
            return super().manifest(reference, digest)

    assert judge(image, served=Touching(content=CONTENT)).state == "unbound"
    assert records.load(image) is None


# --- The registry ---------------------------------------------------------------------------------------------------


def test_a_blob_with_one_byte_changed_proves_nothing(original):
    top = CONTENT.layers[1]
    lie = bytearray(top.content)
    lie[4] ^= 1  # the time in gzip's header, which no tree shows
    proof = judge(original, served=Served(content=CONTENT, lies={top.digest: bytes(lie)}))
    assert proof.state == "unbound"


@pytest.mark.parametrize("lie", [b"", b"short", CONTENT.layers[0].content + b"\0"], ids=["empty", "short", "long"])
def test_a_blob_of_another_length_proves_nothing(original, lie):
    proof = judge(original, served=Served(content=CONTENT, lies={CONTENT.layers[0].digest: lie}))
    assert proof.state == "unbound"


def test_another_manifest_than_the_pin_names_proves_nothing(original):
    other = replace(CONTENT, layers=CONTENT.layers[:1])
    proof = judge(original, served=Served(content=CONTENT, lies={CONTENT.digest: other.manifest}))
    assert proof.state == "unbound"


def test_another_configuration_than_the_manifest_names_proves_nothing(original):
    lie = CONTENT.config.replace(b"PATH=/bin", b"PATH=/bad")
    proof = judge(original, served=Served(content=CONTENT, lies={sha256(CONTENT.config): lie}))
    assert proof.state == "unbound"


def test_an_index_in_an_index_proves_nothing(original):
    nested = Index(manifests=(images.Listed(of=Index(manifests=(CONTENT,)), platform=CONTENT.platform),))
    proof = prove(
        pin_of(nested), original, registry=Served(content=nested), environment=environment(original.parent / "home")
    )
    assert proof.state == "unbound"


def test_a_blob_that_never_ends_is_cut_off():
    def endless():
        while True:
            yield bytes(65536)

    with pytest.raises(NotComparable, match="longer than"):
        list(checked(endless(), Digest.parse("sha256:" + "0" * 64), 1_000_000))


def test_a_registry_that_fails_is_an_error_and_no_verdict(original):
    class Failing(Served):
        def blob(self, reference, digest, start=0):
            raise RegistryError("it is down")

    with pytest.raises(RegistryError):
        judge(original, served=Failing(content=CONTENT))


# --- The layers -----------------------------------------------------------------------------------------------------


def test_a_layer_of_zstd_proves_nothing(original):
    strange = Image(layers=(Layer.raw(b"\x28\xb5\x2f\xfd" + bytes(100), layers.OCI_LAYER),))
    proof = judge(original, content=strange)
    assert proof.state == "unbound"
    assert "zstd" in proof.detail


def test_a_layer_of_unknown_type_proves_nothing(original):
    strange = Image(layers=(Layer.raw(tar(file("a")), "application/x-unknown"),))
    assert judge(original, content=strange).state == "unbound"


def test_nothing_is_written_beside_the_image(original, tmp_path):
    image = tmp_path / "x.sif"
    put(image, original.read_bytes())
    image.chmod(0o755)
    home = tmp_path / "home"
    proof = prove(PIN, image, registry=Served(content=CONTENT), environment=environment(home))
    assert proof.state == "verified"
    left = {path.name for path in tmp_path.iterdir()} - {"home"}
    assert left == {"x.sif"}
