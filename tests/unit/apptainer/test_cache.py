"""Apptainer's and SingularityCE's caches: where, which names, what can be proven in them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.apptainer.cache import FOLDERS, CacheFolder, keys, named_hash, path_architecture
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.pin import Pin
from tests.support.fake_apptainer import python, unprivileged
from tests.support.pins import DIGEST, MANIFEST, pin


def h(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


D, P = DIGEST.hex, MANIFEST.hex


@pytest.mark.parametrize(
    ("version", "platform", "key"),
    [
        ("Apptainer 1.0-1.1", "linux/amd64", f"oci-tmp/{D}"),
        ("Apptainer 1.2-1.3", "linux/amd64", f"oci-tmp/{h(D + 'amd64')}"),
        ("Apptainer 1.2-1.3, exec", "linux/amd64", f"oci-tmp/{h(D)}"),
        ("Apptainer 1.2-1.4.0", "linux/arm64", f"oci-tmp/{h(D + 'arm64v8')}"),
        ("Apptainer 1.4.1-", "linux/arm64", f"oci-tmp/{h(D + 'arm64')}"),
        ("Apptainer 1.4.1-", "linux/arm64/v8", f"oci-tmp/{h(D + 'arm64v8')}"),
        ("Apptainer 1.4-", "linux/arm/v7", f"oci-tmp/{h(D + 'armv7')}"),
        ("Apptainer 1.4-", "linux/arm/v7", f"oci-tmp/{h(D + 'arm32v7')}"),
        ("Apptainer 1.4-", "linux/386", f"oci-tmp/{h(D + '386')}"),
        ("Apptainer 1.4-", "linux/ppc64le", f"oci-tmp/{h(D + 'ppc64le')}"),
        ("Apptainer 1.4-", "linux/s390x", f"oci-tmp/{h(D + 's390x')}"),
        ("Apptainer 1.4-", "linux/riscv64", f"oci-tmp/{h(D + 'riscv64')}"),
        ("SingularityCE 3.8-3.9", "linux/amd64", f"oci-tmp/{D}"),
        ("SingularityCE 3.10-3.11", "linux/amd64", f"oci-tmp/sha256.{D}"),
        ("SingularityCE 4", "linux/amd64", f"oci-tmp/sha256:{P}"),
        ("SingularityCE 4, OCI mode", "linux/amd64", f"oci-sif/sha256:{P}"),
    ],
)
def test_a_digest_is_looked_up_under_the_key_of_every_version(version, platform, key):
    assert key in keys(replace(pin(), platform=Platform.parse(platform))), version


def test_another_architectures_image_is_not_what_would_be_reused():
    assert f"oci-tmp/{h(D + 'arm64')}" not in keys(pin())


@pytest.mark.parametrize(
    ("url", "architecture"),
    [
        ("docker://arm64v8/alpine", "arm64v8"),
        ("docker://docker.io/arm64v8/alpine", "arm64v8"),
        ("docker://quay.io/amd64/x", "amd64"),
        ("docker://quay.io/team/arm64v8", None),
        ("docker://quay.io/team/arm64v8/x", None),
        ("docker://localhost:5000/arm64v8/x", None),
        ("docker://arm64/alpine", None),
        ("docker://alpine", None),
    ],
)
def test_an_architecture_in_the_path_replaces_the_machines(url, architecture):
    assert path_architecture(f"{url}@{DIGEST}") == architecture
    if architecture:
        assert f"oci-tmp/{h(D + architecture)}" in keys(replace(pin(), pinned=parse(f"{url}@{DIGEST}")))


def test_a_library_image_lies_under_its_own_hash():
    wanted = Pin(
        pinned=parse(f"library://team/tool:sha256.{D}"),
        reference=parse("library://team/tool"),
        digest=DIGEST,
        platform=Platform.parse("linux/amd64"),
        content=DIGEST,
    )
    assert keys(wanted) == (f"library/sha256.{D}",)


def test_an_oras_image_lies_under_a_name_that_its_pin_does_not_say():
    assert keys(replace(pin(), pinned=parse(f"oras://quay.io/team/tool@{DIGEST}"))) == ()


@pytest.mark.parametrize(
    ("environment", "root"),
    [
        ({"HOME": "/home/me"}, "/home/me/.apptainer/cache"),
        ({"HOME": "/home/me", "APPTAINER_CONFIGDIR": "/conf"}, "/conf/cache"),
        ({"APPTAINER_CONFIGDIR": "/conf", "APPTAINER_CACHEDIR": "/a"}, "/a/cache"),
        ({"APPTAINER_CACHEDIR": "/a", "SINGULARITY_CACHEDIR": "/s"}, "/a/cache"),
        ({"SINGULARITY_CACHEDIR": "/s", "APPTAINER_CONFIGDIR": "/conf"}, "/s/cache"),
        ({"HOME": "/home/me", "APPTAINER_CACHEDIR": ""}, "/home/me/.apptainer/cache"),
    ],
)
def test_apptainers_cache_is_found_through_every_variable(environment, root):
    found = CacheFolder.of(environment)
    assert found is not None
    assert str(found.root) == root


@pytest.mark.parametrize(
    ("environment", "root"),
    [
        ({"HOME": "/home/me", "APPTAINER_CACHEDIR": "/a"}, "/home/me/.singularity/cache"),
        ({"SINGULARITY_CONFIGDIR": "/conf"}, "/conf/cache"),
        ({"SINGULARITY_CACHEDIR": "/s", "SINGULARITY_CONFIGDIR": "/conf"}, "/s/cache"),
    ],
)
def test_singularitys_cache_is_found_through_its_own(environment, root):
    found = CacheFolder.of(environment, family="singularity")
    assert found is not None
    assert str(found.root) == root


@pytest.mark.parametrize("value", ["1", "true", "TRUE", "t"])
@pytest.mark.parametrize("name", ["APPTAINER_DISABLE_CACHE", "SINGULARITY_DISABLE_CACHE"])
def test_a_cache_that_is_turned_off_is_none(name, value):
    assert CacheFolder.of({"HOME": "/home/me", name: value}) is None
    assert CacheFolder.of({"HOME": "/home/me", name: "0"}) is not None


@pytest.fixture
def cache(tmp_path):
    folder = CacheFolder(root=tmp_path / "cache")
    for name in (*FOLDERS, "blob/blobs/sha256"):
        (folder.root / name).mkdir(parents=True)
    return folder


def test_only_what_is_there_is_a_candidate(cache):
    assert list(cache.candidates(pin())) == []
    entry = cache.root / "oci-tmp" / h(D + "amd64")
    entry.symlink_to("/nowhere")
    assert list(cache.candidates(pin())) == [entry]


def test_entries_and_leftovers_are_told_apart(cache):
    entry, leftover = cache.root / "oci-tmp" / h("x"), cache.root / "oci-tmp" / "tmp_123"
    ours = cache.root / "oci-tmp" / f"{h('x')}.freshness.json"
    for path in (
        entry,
        leftover,
        ours,
        cache.root / "library" / f"sha256.{D}",
        cache.root / "oci-tmp" / f"{h('x')}.quarantine-1",
    ):
        path.write_bytes(b"12345")
    os.utime(leftover, (time.time() - 100, time.time() - 100))

    assert list(cache.entries()) == [entry, cache.root / "library" / f"sha256.{D}"]
    (found,) = cache.leftovers()
    assert (found.path, found.size) == (leftover, 5)
    assert 99 < found.age < 110


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"oras/sha256:{D}", D),
        (f"oras/{D}", D),
        (f"library/sha256.{D}", D),
        (f"oci-tmp/{D}", None),
        ("oras/tmp_1", None),
        (f"net/{D}", None),
    ],
)
def test_only_oras_and_library_name_their_entries_by_content(cache, name, expected):
    assert named_hash(cache.root / name) == expected


def store_blob(cache, content: bytes) -> str:
    digest = Digest.of(content)
    cache.blob(digest).write_bytes(content)
    return str(digest)


@pytest.fixture
def stored(cache):
    """An image in the blob folder: its manifest's digest, and the path of its layer."""
    layer = store_blob(cache, b"layer" * 1000)
    document = {"config": {"digest": store_blob(cache, b"{}")}, "layers": [{"digest": layer}]}
    return Digest.parse(store_blob(cache, json.dumps(document).encode())), cache.blob(Digest.parse(layer))


def test_blobs_are_verified_by_their_names(cache, stored):
    assert cache.damaged_blobs(stored[0]) == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "link"])
def test_a_damaged_layer_is_found(cache, stored, damage):
    manifest, layer = stored
    content = layer.read_bytes()
    if damage == "flip":
        layer.write_bytes(b"LAYER" + content[5:])
    elif damage == "truncate":
        layer.write_bytes(content[:-1])
    else:
        layer.unlink()
    if damage == "link":
        (layer.parent / "copy").write_bytes(content)
        layer.symlink_to("copy")
    assert cache.damaged_blobs(manifest) == [layer]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"config": {"digest": "../../x"}, "layers": []}', b'{"config":1,"layers":2}']
)
def test_a_manifest_of_another_form_names_nothing(cache, content):
    digest = Digest.parse(store_blob(cache, content))
    assert cache.damaged_blobs(digest) is None


def test_a_manifest_that_is_not_what_its_name_says_names_nothing(cache, stored):
    manifest, _ = stored
    cache.blob(manifest).write_bytes(cache.blob(manifest).read_bytes() + b" ")
    assert cache.damaged_blobs(manifest) is None


def test_a_cache_that_is_not_there_yet_is_ours_to_make(tmp_path):
    assert CacheFolder(root=tmp_path / "new/cache").usable


def test_a_cache_that_we_may_not_write_is_not_usable(tmp_path):
    (tmp_path / "cache/oci-tmp").mkdir(parents=True, mode=0o700)
    (tmp_path / "cache/oci-tmp").chmod(0o555)
    code = (
        "from pathlib import Path; from snakemake_apptainer_freshness.apptainer.cache import CacheFolder;"
        f"print(CacheFolder(root=Path({str(tmp_path / 'cache')!r})).usable)"
    )
    said = subprocess.run([*unprivileged(), *python(code)], capture_output=True, text=True, check=True).stdout
    assert said == "False\n"


def test_a_cache_under_a_file_is_not_usable(tmp_path):
    (tmp_path / "file").touch()
    assert not CacheFolder(root=tmp_path / "file/cache").usable
