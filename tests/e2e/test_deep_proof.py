"""The deep proof with the real Apptainer and a real registry."""

from __future__ import annotations

import itertools
import os
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.check import check_one
from snakemake_apptainer_freshness.actions.prove import Proof, prove
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.registry.resolver import Resolver
from snakemake_apptainer_freshness.store import places
from snakemake_apptainer_freshness.store.facts import ProvenBy
from tests.support import images, layers, programs
from tests.support.images import Image, Index, multi_arch, push, tiny_image
from tests.support.proofs import (
    Entry,
    Served,
    built,
    built_as,
    environment,
    file,
    folder,
    hardlink,
    layer,
    pin_of,
    symlink,
)

NOBODY = 65534
ELSEWHERE = "arm64" if images.native_architecture() == "amd64" else "amd64"
_numbers = itertools.count()

CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0).decode("latin-1")
"""cap_net_raw+ep"""
LOWER = layer(
    folder("a"),
    file("a/one", "one"),
    file("a/owned", "two", 0o640, owner=(1000, 1001)),
    file("a/nobody-reads", "secret", 0o000),
    file("setuid", mode=0o4755),
    file("setgid", mode=0o2755),
    file("sticky", mode=0o1644),
    folder("closed", 0o000),
    file("closed/inside"),
    folder("read-only", 0o555),
    file("read-only/inside", mode=0o444),
    folder("shared", 0o2775),
    symlink("link", "a/one"),
    symlink("dangling", "/nowhere/é"),
    symlink("way", "a"),
    file("name", "hard"),
    hardlink("other name", "name"),
    Entry(name="null", type=tarfile.CHRTYPE, mode=0o666, device=(1, 3)),
    Entry(name="fifo", type=tarfile.FIFOTYPE),
    file("empty", b""),
    file("Zürich, 東京.txt", "ü"),
    file("new\nline"),
    file('quote"back\\slash'),
    file("#"),
    file("big", bytes(range(256)) * 40_000),
    file("implied/deeply/file"),
    file("opaque/hidden"),
    file("gone"),
    file("gone-folder/inside"),
    file("becomes-folder"),
    folder("becomes-file"),
    file("becomes-file/inside"),
    folder("etc"),
    file("etc/resolv.conf", "nameserver 192.0.2.1\n", 0o600),
    file("tmp/left-over"),
    Entry(name="noted", mode=0o755, pax={"SCHILY.xattr.user.note": "n"}),
    Entry(name="capable", mode=0o755, pax={"SCHILY.xattr.security.capability": CAPABILITY}),
)
UPPER = layer(
    file("opaque/.wh..wh..opq", b""),
    file("opaque/new"),
    file(".wh.gone", b""),
    file(".wh.gone-folder", b""),
    folder("becomes-folder"),
    file("becomes-folder/inside"),
    file("becomes-file"),
    file("way/through"),
    file("other name", "changed", 0o600),
    hardlink("third name", "a/one"),
    file("/absolute"),
    file("./dotted"),
    file("../../outside"),
    folder("a", 0o700),
    compress=False,
)
EVERYTHING = Image(layers=(layers.busybox_layer(), LOWER, UPPER), cmd=("/bin/sh",))


class Lab:
    """A user's home, and a repository of the real registry."""

    def __init__(self, registry, place: Path) -> None:
        self.registry = registry
        self.name = f"proof{next(_numbers)}/tool"
        self.place = place
        self.environment = environment(place / "home") | {"APPTAINER_NOHTTPS": "1"}

    @property
    def tagged(self) -> str:
        return f"docker://{self.registry.host}/{self.name}:1.0"

    def push(self, content: Image | Index) -> Pin:
        digest = push(content, self.registry.host, self.name, "1.0")
        return Pin(
            pinned=parse(f"docker://{self.registry.host}/{self.name}@{digest}"),
            reference=parse(self.tagged),
            digest=Digest.parse(digest),
            platform=Platform.parse(str(Platform.here())),
        )

    def pull(self) -> Path:
        image = self.place / "image.simg"
        result = subprocess.run(
            [programs.find("apptainer"), "pull", image, self.tagged],
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return image

    def prove(self, pin: Pin, image: Path) -> Proof:
        with Resolver(environ=self.environment) as registry:
            return prove(pin, image, registry=registry, environment=self.environment)

    def empty_cache(self) -> CacheFolder:
        cache = CacheFolder.of(self.environment)
        assert cache is not None
        for path in (cache.root / "blob").rglob("*"):
            if path.is_file():
                path.unlink()
        return cache


@pytest.fixture
def lab(shared_registry, tmp_path) -> Lab:
    return Lab(shared_registry, tmp_path)


def test_an_image_that_was_pulled_by_its_tag_becomes_verified(lab):
    pin = lab.push(tiny_image("one"))
    image = lab.pull()
    assert check_one(pin, image).state == "unbound"

    proof = lab.prove(pin, image)

    assert (proof.state, proof.differences) == ("verified", ())
    assert proof.files > 300
    assert proof.bytes > 2_000_000
    assert check_one(pin, image).state == "verified"
    assert places.load(image).content.proven_by == ProvenBy.COMPARED


def test_layers_come_from_the_registry_where_the_cache_has_none(lab):
    pin = lab.push(tiny_image("one"))
    image = lab.pull()
    lab.empty_cache()

    assert lab.prove(pin, image).state == "verified"
    assert any("/blobs/" in request.path for request in lab.registry.requests() if lab.name in request.path)


def test_a_damaged_layer_of_the_cache_is_not_used(lab):
    content = tiny_image("one")
    pin = lab.push(content)
    image = lab.pull()
    cache = CacheFolder.of(lab.environment)
    blob = cache.blob(Digest.parse(content.layers[1].digest))
    blob.chmod(0o644)
    blob.write_bytes(layers.Layer.of({"message": "other\n"}).content)

    assert lab.prove(pin, image).state == "verified"


def test_no_registry_is_needed_for_what_is_in_the_cache(lab):
    pin = lab.push(tiny_image("one"))
    image = lab.pull()

    assert prove(pin, image, registry=None, environment=lab.environment).state == "verified"


def test_another_image_is_stale_and_the_first_difference_is_named(lab):
    lab.push(tiny_image("one"))
    image = lab.pull()
    moved = lab.push(tiny_image("two"))

    proof = lab.prove(moved, image)

    assert proof.state == "stale"
    assert proof.differences == ("/message: its content is another one than in its layers",)
    assert check_one(moved, image).state == "stale"


def test_the_manifest_of_this_platform_is_taken_from_an_index(lab):
    pin = lab.push(multi_arch(tiny_image("one"), ELSEWHERE, attested=True))
    image = lab.pull()

    assert lab.prove(pin, image).state == "verified"


USERS = {"self": None} | ({"nobody": NOBODY} if os.geteuid() == 0 and programs.others_may_run_them() else {})


@pytest.mark.parametrize("user", USERS.values(), ids=USERS)
def test_everything_that_a_layer_can_hold_is_compared(tmp_path, user):
    image = built(EVERYTHING, tmp_path) if user is None else built_as(user, EVERYTHING, tmp_path)

    proof = prove(
        pin_of(EVERYTHING), image, registry=Served(content=EVERYTHING), environment=environment(tmp_path / "home")
    )

    assert (proof.state, proof.differences) == ("verified", ())


@pytest.mark.parametrize(
    "settings",
    [
        {"env": ("PATH=/usr/bin:/bin", "EMPTY=", "NOVALUE", 'Q="$HOME" `id` \\ \t ü é\u202e', "A='b'")},
        {"entrypoint": ("/bin/sh", "-c", "echo '$x' \"y\"")},
        {"cmd": ("a b", "c\nd")},
        {"entrypoint": ("/e",), "cmd": ("'",)},
    ],
    ids=["env", "entrypoint", "cmd", "both"],
)
def test_what_apptainer_writes_of_the_configuration_is_compared(tmp_path, settings):
    content = Image(layers=(layer(file("f")),), **settings)
    image = built(content, tmp_path)

    proof = prove(pin_of(content), image, registry=Served(content=content), environment=environment(tmp_path / "home"))

    assert (proof.state, proof.differences) == ("verified", ())


def test_another_configuration_is_stale(tmp_path):
    image = built(Image(layers=(layer(file("f")),), env=("LD_PRELOAD=/evil.so",)), tmp_path)
    content = Image(layers=(layer(file("f")),), env=("SAFE=1",))

    proof = prove(pin_of(content), image, registry=Served(content=content), environment=environment(tmp_path / "home"))

    assert proof.state == "stale"
    assert "/.singularity.d/env/10-docker2singularity.sh" in proof.differences[0]
