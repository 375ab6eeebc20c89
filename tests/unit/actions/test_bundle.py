"""What goes into a bundle, writing it, and going on with one that was not finished."""

from __future__ import annotations

import json
import tarfile

import pytest

from snakemake_apptainer_freshness.actions.bundle import BundleSelection, gather
from snakemake_apptainer_freshness.actions.pack import save
from snakemake_apptainer_freshness.errors import UnprovenImage
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from tests.support import images, layers, sifs
from tests.support.bundles import TakenApart, saved
from tests.support.digests import sha256
from tests.support.images import Image, multi_arch
from tests.support.pins import lock_entry
from tests.support.proofs import REPOSITORY, Served, file, layer

CONTENT = Image(layers=(layer(file("one", "1" * 3000)), layer(file("two", "2" * 3000))))
INDEX = multi_arch(CONTENT, "s390x", attested=True)


@pytest.fixture(autouse=True)
def _no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("APPTAINER_CACHEDIR", str(tmp_path / "apptainer"))


def digests(bundle):
    with tarfile.open(bundle) as opened:
        return {name.removeprefix("blobs/sha256/") for name in opened.getnames() if name.startswith("blobs/sha256/")}


def hexes(*contents):
    return {sha256(content).removeprefix("sha256:") for content in contents}


def test_it_has_what_the_digest_leads_to_on_this_platform_and_nothing_else(tmp_path):
    bundle = saved(INDEX, tmp_path)

    assert digests(bundle) == hexes(INDEX.manifest, CONTENT.manifest, *CONTENT.blobs)


def test_all_platforms_has_the_whole_index(tmp_path):
    bundle = saved(INDEX, tmp_path, all_platforms=True)
    everything = [blob for child in INDEX.children for blob in (child.manifest, *child.blobs)]

    assert digests(bundle) == hexes(INDEX.manifest, *everything)
    [listed] = json.loads(TakenApart.of(bundle).files[3][1])["manifests"]
    assert listed["digest"] == INDEX.digest


def test_it_is_an_image_layout_as_the_specification_has_it(tmp_path):
    """image-layout.md 1.1: the version, an index of descriptors, every blob under its own hash and of its own size."""
    taken = TakenApart.of(saved(INDEX, tmp_path))
    files = {member.name: content for member, content in taken.files}

    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads(files["index.json"])
    assert (index["schemaVersion"], index["mediaType"]) == (2, images.OCI_INDEX)
    for entry in index["manifests"]:
        document = files[f"blobs/{entry['digest'].replace(':', '/')}"]
        assert (sha256(document), len(document)) == (entry["digest"], entry["size"])
        for one in [json.loads(document)["config"], *json.loads(document)["layers"]]:
            assert len(files[f"blobs/{one['digest'].replace(':', '/')}"]) == one["size"]
    for name, content in files.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/{sha256(content).replace(':', '/')}"


def test_the_same_images_give_the_same_bundle(tmp_path):
    assert saved(INDEX, tmp_path / "one").read_bytes() == saved(INDEX, tmp_path / "two").read_bytes()


def test_layers_come_from_apptainers_cache_where_they_are_sound(tmp_path):
    blobs = tmp_path / "apptainer" / "cache" / "blob" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    first, second = CONTENT.layers
    (blobs / first.digest.removeprefix("sha256:")).write_bytes(first.content)
    (blobs / second.digest.removeprefix("sha256:")).write_bytes(second.content[:-1] + b"!")
    registry = Served(content=CONTENT)
    bundle = saved(CONTENT, tmp_path / "bundle", registry=registry)

    assert digests(bundle) == hexes(CONTENT.manifest, *CONTENT.blobs)
    assert first.digest not in registry.asked
    assert second.digest in registry.asked


def test_a_registry_that_serves_another_layer_stops_it(tmp_path):
    digest = CONTENT.layers[1].digest
    registry = Served(content=CONTENT, lies={digest: b"other"})
    with pytest.raises(UnprovenImage, match="cannot save a bundle: "):
        saved(CONTENT, tmp_path, registry=registry)
    assert not (tmp_path / "all.tar").exists()


def test_an_index_without_this_platform_stops_it(tmp_path):
    other = images.Index(manifests=(INDEX.children[1],))
    with pytest.raises(UnprovenImage, match="has nothing for linux/"):
        saved(other, tmp_path)


def test_an_index_of_endless_indexes_stops_it(tmp_path, monkeypatch):
    from snakemake_apptainer_freshness.actions import bundle

    monkeypatch.setattr(bundle, "_MOST_DOCUMENTS", 3)
    with pytest.raises(UnprovenImage, match="leads to more than 3 manifests"):
        saved(INDEX, tmp_path, all_platforms=True)


def test_what_is_pinned_by_a_sha512_is_told(tmp_path):
    digest = Digest.of(CONTENT.manifest, "sha512")
    lock = tmp_path / "containers.lock"
    lock.write_text(dumps(Lock.of([lock_entry(f"docker://{REPOSITORY}:1.0", digest, media_type=CONTENT.media_type)])))
    registry = Served(content=CONTENT, lies={str(digest): CONTENT.manifest})
    with pytest.raises(UnprovenImage, match="sha512"):
        gather(lock, BundleSelection(prefix=tmp_path), registry=registry, advance=lambda _: None)


def test_a_sif_in_a_registry_is_carried_as_its_artifact(tmp_path):
    content = sifs.pulled("", labels={})
    empty = layers.Layer.raw(b"{}", "application/vnd.sylabs.sif.config.v1+json")
    sif = {"mediaType": "application/vnd.sylabs.sif.layer.v1.sif", "digest": sha256(content)}
    document = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": images.OCI_MANIFEST,
            "config": {"mediaType": empty.media_type, "digest": empty.digest, "size": 2},
            "layers": [sif | {"size": len(content)}],
        }
    ).encode()
    digest = sha256(document)
    lock = tmp_path / "containers.lock"
    lock.write_text(dumps(Lock.of([lock_entry(f"oras://{REPOSITORY}:1.0", digest, media_type=images.OCI_MANIFEST)])))
    registry = Served(content=CONTENT, lies={digest: document, sif["digest"]: content, empty.digest: b"{}"})
    target = tmp_path / "all.tar"
    save(
        gather(lock, BundleSelection(prefix=tmp_path), registry=registry, advance=lambda _: None),
        target,
        lambda _: None,
    )

    assert digests(target) == hexes(document, content, b"{}")
