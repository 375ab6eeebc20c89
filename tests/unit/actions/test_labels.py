"""What images say of themselves, from configurations that are well or badly made."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.actions.labels import Details, details, parse_configuration
from snakemake_apptainer_freshness.errors import TimedOut
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from tests.support.images import multi_arch, native_architecture, tiny_image
from tests.support.pins import lock_entry

HERE = f"linux/{native_architecture()}"
LABELS = {"org.opencontainers.image.version": "1.10.2", "org.opencontainers.image.revision": "abc"}
SAID = Details(created="2026-01-02T03:04:05Z", version="1.10.2", revision="abc", platform=Platform.parse(HERE))


def said_of(image):
    """What is told of an image with those labels: what its configuration says, and the bytes of its layers."""
    return replace(SAID, size=sum(len(layer.content) for layer in image.layers))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["created", "config", "Labels", "x"]), inner),
)


def test_the_date_and_the_labels_are_read():
    image = tiny_image(labels=LABELS, created="2026-01-02T03:04:05Z")

    assert parse_configuration(image.config) == SAID


def test_the_label_goes_before_the_date_of_a_reproducible_build():
    label = {"org.opencontainers.image.created": "2026-01-02T03:04:05.123456789+01:00"}
    image = tiny_image(labels=label, created="1970-01-01T00:00:01Z")

    assert parse_configuration(image.config).created == label["org.opencontainers.image.created"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"config": []}', b'{"created": "soon"}', b"[" * 100_000])
def test_what_is_no_configuration_says_nothing(content):
    assert parse_configuration(content) == Details()


def test_a_label_cannot_move_a_cursor_or_fill_the_screen():
    said = parse_configuration(tiny_image(labels={"org.opencontainers.image.version": "1\x1b[2J\n" + "x" * 500}).config)

    assert "\x1b" not in said.version
    assert "\n" not in said.version
    assert len(said.version) <= 80


@given(json_values)
def test_whatever_the_json_it_is_read_or_left(value):
    for content in (value, {"config": value}, {"config": {"Labels": value}}):
        found = parse_configuration(json.dumps(content).encode())
        assert all(isinstance(part, str) for part in (found.created, found.version, found.revision))


class Registry:
    """Serves what `images` consist of, and remembers what it was asked for."""

    def __init__(self, *images):
        self.served = {
            str(Digest.of(body)): body for one in images for body in (one.manifest, *getattr(one, "blobs", []))
        }
        self.asked = []

    def manifest(self, reference, digest):
        self.asked.append(str(digest))
        if str(digest) not in self.served:
            raise TimedOut("no answer")
        return self.served[str(digest)]

    def blob(self, reference, digest, start=0):
        yield self.manifest(reference, digest)


def entry(name, digest, platforms=None):
    reference = f"docker://quay.io/team/{name}:1"
    return lock_entry(
        reference=reference,
        digest=digest,
        media_type="application/vnd.oci.image.index.v1+json",
        platforms=platforms or {},
    )


@pytest.fixture(autouse=True)
def no_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("APPTAINER_CACHEDIR", str(tmp_path / "cache"))


def test_three_small_files_of_this_platforms_image_are_asked_for(tmp_path):
    image = tiny_image(labels=LABELS, created="2026-01-02T03:04:05Z")
    index = multi_arch(image, "s390x")
    registry = Registry(image, index)
    locked = entry("tool", index.digest, {HERE: image.digest})

    assert details([locked], registry, platform=Platform.parse(HERE)) == {locked.pinned.text: said_of(image)}
    assert registry.asked == [index.digest, image.digest, str(Digest.of(image.config))]
    registry.asked.clear()
    details([locked], registry, platform=Platform.parse(HERE))
    assert registry.asked == [image.digest, str(Digest.of(image.config))]


def test_what_cannot_be_had_is_left_out_and_stops_nothing():
    image = tiny_image(labels=LABELS, created="2026-01-02T03:04:05Z")
    there, gone = entry("tool", image.digest), entry("gone", "sha256:" + "0" * 64)
    sif = lock_entry("oras://quay.io/a:1")

    assert details([there, gone, sif], Registry(image), platform=Platform.parse(HERE)) == {
        there.pinned.text: said_of(image)
    }
    assert details([sif], Registry(), platform=Platform.parse(HERE)) == {}


def test_a_registry_that_serves_another_configuration_is_not_believed():
    image, forged = tiny_image(labels=LABELS), tiny_image(labels={"org.opencontainers.image.version": "99"})
    registry = Registry(image)
    registry.served[str(Digest.of(image.config))] = forged.config

    assert details([entry("tool", image.digest)], registry, platform=Platform.parse(HERE)) == {}
