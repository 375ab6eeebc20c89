import json

from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.errors import DamagedAnswer
from snakemake_apptainer_freshness.image import manifest
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.manifest import Index, Manifest, choose, parse, platforms

CONTENT_TYPES = st.sampled_from([None, *manifest.ACCEPT.split(", "), manifest.DOCKER_SCHEMA1, "text/html"]) | st.text()
DIGESTS = st.builds(Digest.of, st.binary(max_size=2)).map(str)
MEDIA_TYPES = st.sampled_from([*manifest.ACCEPT.split(", "), manifest.SIF_LAYER, manifest.OCI_CONFIG])
OSES = st.sampled_from(["linux", "windows", "unknown"])
ARCHITECTURES = st.sampled_from(["amd64", "arm64", "unknown"])
VARIANTS = st.sampled_from(["v7", "v8", ""])
PLATFORMS = st.fixed_dictionaries({"os": OSES, "architecture": ARCHITECTURES}, optional={"variant": VARIANTS})
DESCRIPTORS = st.fixed_dictionaries(
    {"mediaType": MEDIA_TYPES, "digest": DIGESTS, "size": st.integers(0, manifest.MAX_SIZE)},
    optional={"platform": PLATFORMS, "annotations": st.dictionaries(st.text("ab"), st.text("ab"))},
)
INDEXES = st.fixed_dictionaries({"schemaVersion": st.just(2), "manifests": st.lists(DESCRIPTORS, max_size=8)})
MANIFESTS = st.fixed_dictionaries(
    {"schemaVersion": st.just(2), "config": DESCRIPTORS, "layers": st.lists(DESCRIPTORS, max_size=4)}
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | DIGESTS | MEDIA_TYPES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["schemaVersion", "mediaType", "config", "layers", "manifests", "digest", "size", "Size"])
            | st.text(max_size=4),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


def read_or_refuse(body, content_type):
    try:
        return parse(body, content_type)
    except DamagedAnswer:
        return None


@given(st.binary(), CONTENT_TYPES)
def test_any_bytes_are_a_value_or_our_own_error(body, content_type):
    read_or_refuse(body, content_type)


@given(JSON, CONTENT_TYPES)
def test_any_json_is_a_value_or_our_own_error(document, content_type):
    read_or_refuse(json.dumps(document).encode(), content_type)


@given(MANIFESTS | INDEXES, st.data())
def test_a_document_with_any_bytes_changed_is_a_value_or_our_own_error(document, data):
    body = bytearray(json.dumps(document).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    read_or_refuse(bytes(body), None)


@given(MANIFESTS)
def test_a_manifest_is_read_as_it_was_written(document):
    found = parse(json.dumps(document).encode(), None)
    assert isinstance(found, Manifest)
    assert [str(layer.digest) for layer in found.layers] == [layer["digest"] for layer in document["layers"]]
    assert found.config.size == document["config"]["size"]
    assert found.kind in manifest.ManifestKind


@given(INDEXES)
def test_the_list_of_platforms_and_the_choice_agree(document):
    found = parse(json.dumps(document).encode(), None)
    assert isinstance(found, Index)
    listed = platforms(found)
    for name, digest in listed.items():
        assert choose(found, name).digest == digest
    assert "unknown/unknown" not in map(str, listed)
    assert set(map(str, listed.values())) <= {entry["digest"] for entry in document["manifests"]}


@given(MANIFESTS, INDEXES)
def test_a_document_that_is_both_is_always_refused(one, other):
    assert read_or_refuse(json.dumps(one | other).encode(), None) is None
