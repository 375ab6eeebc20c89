"""What a digest names, from the cache where that is sound, else from the registry; none of it believed."""

import threading

import pytest

from snakemake_apptainer_freshness.actions.image_content import Blobs, configuration, image_manifest, merged, sif_layer
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
from snakemake_apptainer_freshness.errors import NotFound
from snakemake_apptainer_freshness.image.blobs import DamagedBlob
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.manifest import parse
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.store import facts
from tests.support import layers
from tests.support.digests import sha256
from tests.support.images import Image, multi_arch
from tests.support.proofs import Served, file, layer, pin_of

CONTENT = Image(layers=(layer(file("data", "x" * 1000)), layer(file("more", "two"))))
MANIFEST = parse(CONTENT.manifest, None)
INDEX = multi_arch(CONTENT, "s390x")


@pytest.fixture
def cache(tmp_path):
    """A cache that has all of CONTENT."""
    found = CacheFolder(root=tmp_path / "cache")
    for blob in (CONTENT.manifest, *CONTENT.blobs):
        path = found.blob(Digest.parse(sha256(blob)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(blob)
    return found


def blobs(registry=None, cache=None, content=CONTENT, **more):
    return Blobs(pin=pin_of(content), registry=registry, cache=cache, **more)


def damage(cache, descriptor):
    path = cache.blob(descriptor.digest)
    path.write_bytes(bytes(path.stat().st_size))


def test_what_is_in_the_cache_is_not_asked_for(cache):
    registry = Served(content=CONTENT)
    source = blobs(registry, cache)
    digest, content = image_manifest(pin_of(CONTENT), source)

    assert (str(digest), content) == (CONTENT.digest, MANIFEST)
    assert configuration(content, source) == CONTENT.config
    assert dict(merged(content, source).walk())[b"data"].size == 1000
    assert registry.asked == []


def test_what_the_cache_lacks_comes_from_the_registry():
    registry = Served(content=CONTENT)
    source = blobs(registry)
    assert dict(merged(image_manifest(pin_of(CONTENT), source)[1], source).walk())[b"more"].size == 3
    assert registry.asked == [CONTENT.digest, *(one.digest for one in CONTENT.layers)]


@pytest.mark.parametrize("number", [0, 1])
def test_a_damaged_layer_of_the_cache_is_replaced_by_the_registrys(cache, number):
    damage(cache, MANIFEST.layers[number])
    registry = Served(content=CONTENT)
    assert dict(merged(MANIFEST, blobs(registry, cache)).walk()).keys() == {b"data", b"more"}
    assert registry.asked == [CONTENT.layers[number].digest]


def test_a_damaged_layer_of_the_cache_that_is_left_out_is_not_read(cache):
    damage(cache, MANIFEST.layers[0])
    source = blobs(Served(content=CONTENT), cache)
    source.leave_damaged(MANIFEST.layers[0].digest)
    assert b"".join(source.blob(MANIFEST.layers[0])) == CONTENT.layers[0].content


def test_a_damaged_manifest_of_the_cache_is_not_used(cache):
    cache.blob(Digest.parse(CONTENT.digest)).write_bytes(b"{}")
    registry = Served(content=CONTENT)
    assert blobs(registry, cache).document(Digest.parse(CONTENT.digest)) == CONTENT.manifest
    assert registry.asked == [CONTENT.digest]


def test_without_a_registry_the_cache_has_to_do(cache):
    damage(cache, MANIFEST.layers[0])
    with pytest.raises(NotComparable, match="not in Apptainer's cache"):
        merged(MANIFEST, blobs(None, cache))
    with pytest.raises(NotComparable, match="not in Apptainer's cache"):
        image_manifest(pin_of(CONTENT), blobs())


def test_a_registry_that_serves_another_manifest_is_not_believed():
    lies = {CONTENT.digest: INDEX.manifest}
    with pytest.raises(DamagedBlob, match="is something else"):
        image_manifest(pin_of(CONTENT), blobs(Served(content=CONTENT, lies=lies)))


@pytest.mark.parametrize("lie", [b"short", CONTENT.layers[0].content + b"x"])
def test_a_registry_that_serves_another_layer_is_not_believed(lie):
    lies = {CONTENT.layers[0].digest: lie}
    with pytest.raises(NotComparable):
        merged(MANIFEST, blobs(Served(content=CONTENT, lies=lies)))


def test_what_the_registry_lacks_is_its_error():
    with pytest.raises(NotFound):
        image_manifest(pin_of(INDEX), blobs(Served(content=CONTENT), content=INDEX))


def test_of_an_index_the_manifest_of_this_platform_is_taken_and_remembered(cache):
    pin = pin_of(INDEX)
    digest, content = image_manifest(pin, blobs(Served(content=INDEX), content=INDEX))
    assert (str(digest), content) == (CONTENT.digest, MANIFEST)
    assert facts.manifest_of(pin.digest, pin.platform) == digest
    assert image_manifest(pin, blobs(None, cache, INDEX))[0] == digest  # no index is in the cache


def test_an_index_without_this_platform_is_no_image():
    other = multi_arch(Image(layers=CONTENT.layers, architecture="s390x"))
    with pytest.raises(NotComparable, match="has nothing for"):
        image_manifest(pin_of(other), blobs(Served(content=other), content=other))


def test_the_manifest_of_an_image_is_none_of_a_sif():
    with pytest.raises(NotComparable, match="is not the manifest of a SIF"):
        sif_layer(pin_of(CONTENT), blobs(Served(content=CONTENT)))


def test_a_layer_of_an_unknown_type_is_not_guessed_at():
    odd = Image(layers=(layers.Layer.raw(b"x", "application/x-odd"),))
    with pytest.raises(NotComparable, match="has the type application/x-odd"):
        merged(parse(odd.manifest, None), blobs(Served(content=odd), content=odd))


def test_reading_can_be_stopped(cache):
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedError):
        merged(MANIFEST, blobs(None, cache, stop=stop))
