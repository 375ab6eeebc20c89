import json

import pytest

from snakemake_apptainer_freshness.errors import DamagedAnswer
from snakemake_apptainer_freshness.image import manifest
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.manifest import Index, Manifest, ManifestKind, choose, parse, platforms
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.lockfile import platform_texts

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
SIGNATURE = "application/vnd.dev.cosign.simplesigning.v1+json"


def digest(letter):
    return "sha256:" + letter * 64


def descriptor(letter="a", media_type=LAYER, **more):
    return {"mediaType": media_type, "digest": digest(letter), "size": 7, **more}


def entry(letter, platform=None, media_type=manifest.OCI_MANIFEST, **more):
    if platform is not None:
        names = ("os", "architecture", "variant")
        more["platform"] = dict(zip(names, platform.split("/"), strict=False))
    return descriptor(letter, media_type, **more)


def image(**changes):
    document = {
        "schemaVersion": 2,
        "mediaType": manifest.OCI_MANIFEST,
        "config": descriptor("c", manifest.OCI_CONFIG),
        "layers": [descriptor("1"), descriptor("2")],
    }
    return {key: value for key, value in (document | changes).items() if value is not ...}


def index(*entries, **changes):
    document = {"schemaVersion": 2, "mediaType": manifest.OCI_INDEX, "manifests": list(entries)} | changes
    return {key: value for key, value in document.items() if value is not ...}


def read(document, content_type=None):
    return parse(json.dumps(document).encode(), content_type)


def test_an_image_manifest_has_a_configuration_and_layers():
    found = read(image(annotations={"k": "v"}, subject=descriptor("5")), manifest.OCI_MANIFEST)
    assert isinstance(found, Manifest)
    assert found.media_type == manifest.OCI_MANIFEST
    assert (found.config.digest, found.config.size) == (Digest.parse(digest("c")), 7)
    assert [str(layer.digest) for layer in found.layers] == [digest("1"), digest("2")]
    assert found.annotations == {"k": "v"}
    assert str(found.subject.digest) == digest("5")


def test_an_index_keeps_its_entries_in_order_with_their_platforms():
    found = read(index(entry("b", "linux/arm64/v8"), entry("a", "linux/amd64")), manifest.OCI_INDEX)
    assert isinstance(found, Index)
    assert [str(e.digest) for e in found.entries] == [digest("b"), digest("a")]
    assert [str(e.platform) for e in found.entries] == ["linux/arm64/v8", "linux/amd64"]


@pytest.mark.parametrize(
    ("own", "header", "expected"),
    [
        (manifest.OCI_MANIFEST, manifest.OCI_MANIFEST, manifest.OCI_MANIFEST),
        (manifest.DOCKER_MANIFEST, manifest.DOCKER_MANIFEST, manifest.DOCKER_MANIFEST),
        (manifest.DOCKER_MANIFEST, None, manifest.DOCKER_MANIFEST),
        (manifest.DOCKER_MANIFEST, "application/json", manifest.DOCKER_MANIFEST),
        (manifest.DOCKER_MANIFEST, "text/plain; charset=utf-8", manifest.DOCKER_MANIFEST),
        (manifest.OCI_MANIFEST, "Application/vnd.oci.Image.manifest.v1+json ; a=b", manifest.OCI_MANIFEST),
        (..., manifest.DOCKER_MANIFEST, manifest.DOCKER_MANIFEST),
        (..., None, manifest.OCI_MANIFEST),
        (None, None, manifest.OCI_MANIFEST),
    ],
)
def test_the_document_and_the_header_agree_on_the_type_of_a_manifest(own, header, expected):
    assert read(image(mediaType=own), header).media_type == expected


@pytest.mark.parametrize(
    ("own", "header", "expected"),
    [
        (manifest.DOCKER_LIST, manifest.DOCKER_LIST, manifest.DOCKER_LIST),
        (..., manifest.DOCKER_LIST, manifest.DOCKER_LIST),
        (..., None, manifest.OCI_INDEX),
        (..., "application/octet-stream", manifest.OCI_INDEX),
    ],
)
def test_the_document_and_the_header_agree_on_the_type_of_an_index(own, header, expected):
    assert read(index(mediaType=own), header).media_type == expected


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, ManifestKind.IMAGE),
        ({"config": descriptor("c", manifest.DOCKER_CONFIG)}, ManifestKind.IMAGE),
        (
            {
                "mediaType": manifest.DOCKER_MANIFEST,
                "config": descriptor("c", "application/octet-stream"),
            },
            ManifestKind.IMAGE,
        ),
        ({"layers": []}, ManifestKind.IMAGE),
        ({"layers": None}, ManifestKind.IMAGE),
        ({"config": descriptor("c", "application/vnd.oci.empty.v1+json")}, ManifestKind.ARTIFACT),
        ({"config": descriptor("c", "application/vnd.cncf.helm.config.v1+json")}, ManifestKind.ARTIFACT),
        ({"layers": [descriptor("1", manifest.SIF_LAYER)]}, ManifestKind.SIF),
        ({"layers": [descriptor("1", manifest.SIF_LAYER_OLD)]}, ManifestKind.SIF),
        (
            {
                "config": descriptor("c", "application/vnd.sylabs.sif.config.v1+json"),
                "layers": [descriptor("1", manifest.SIF_LAYER)],
            },
            ManifestKind.SIF,
        ),
        (
            {
                "config": descriptor("c", "application/vnd.sylabs.sif.config.v1+json"),
                "layers": [descriptor("1", manifest.SIF_LAYER), descriptor("2", manifest.SIF_LAYER)],
            },
            ManifestKind.ARTIFACT,
        ),
    ],
)
def test_images_sif_files_and_other_artifacts_are_told_apart(changes, kind):
    assert read(image(**changes)).kind is kind


def test_the_layer_that_is_the_sif_file_is_found():
    found = read(image(layers=[descriptor("f", manifest.SIF_LAYER)]))
    assert str(found.sif_layer.digest) == digest("f")
    assert read(image()).sif_layer is None


@pytest.mark.parametrize(
    ("document", "header"),
    [
        ({"schemaVersion": 1, "name": "x", "fsLayers": [], "history": []}, None),
        ({"schemaVersion": 1, "fsLayers": [], "signatures": [{}]}, manifest.DOCKER_SCHEMA1_SIGNED),
        ({"schemaVersion": 1, "mediaType": manifest.DOCKER_SCHEMA1}, "application/json"),
    ],
)
def test_schema_1_is_recognised_and_called_by_its_name(document, header):
    found = read(document, header)
    assert isinstance(found, Manifest)
    assert (found.kind, found.config, found.layers) == (ManifestKind.SCHEMA1, None, ())


def test_schema_1_is_not_asked_for_and_all_others_are():
    assert manifest.ACCEPT.split(", ") == [
        manifest.OCI_INDEX,
        manifest.OCI_MANIFEST,
        manifest.DOCKER_LIST,
        manifest.DOCKER_MANIFEST,
    ]


MIXED = index(
    entry("0", "unknown/unknown"),
    entry("1", "windows/amd64"),
    entry("2", "linux/arm/v6"),
    entry("3", "linux/arm/v7"),
    entry("4", "linux/amd64"),
    entry("5", "linux/amd64"),
    entry("6", "linux/s390x", manifest.OCI_INDEX),
)


def test_the_first_entry_of_each_platform_counts_and_attestations_do_not():
    assert platform_texts(platforms(read(MIXED))) == {
        "windows/amd64": digest("1"),
        "linux/arm": digest("2"),
        "linux/amd64": digest("4"),
        "linux/s390x": digest("6"),
    }


def test_all_that_is_offered_has_its_variants():
    offered = {str(platform) for platform in manifest.offered(read(MIXED))}
    assert offered == {"windows/amd64", "linux/arm/v6", "linux/arm/v7", "linux/amd64", "linux/s390x"}


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("linux/amd64", "4"),
        ("linux/arm", "2"),
        ("linux/arm/v7", "3"),
        ("linux/s390x", "6"),
    ],
)
def test_the_first_entry_of_equal_os_and_architecture_is_chosen_and_the_variant_only_on_demand(wanted, chosen):
    assert str(choose(read(MIXED), Platform.parse(wanted)).digest) == digest(chosen)


@pytest.mark.parametrize("wanted", ["linux/ppc64le", "linux/arm/v5", "linux/amd64/v2", "darwin/amd64"])
def test_no_entry_is_chosen_where_none_serves(wanted):
    assert choose(read(MIXED), Platform.parse(wanted)) is None


def test_an_entry_without_a_platform_counts_as_linux_amd64():
    found = read(index(entry("a"), entry("b", "linux/amd64")))
    assert found.entries[0].platform is None
    assert platform_texts(platforms(found)) == {"linux/amd64": digest("a")}
    assert str(choose(found, Platform.parse("linux/amd64")).digest) == digest("a")
    assert choose(found, Platform.parse("linux/arm64")) is None


def test_a_nested_index_is_known_as_one():
    nested = choose(read(MIXED), Platform.parse("linux/s390x"))
    assert nested.is_index
    assert not choose(read(MIXED), Platform.parse("linux/amd64")).is_index


def test_an_index_may_be_empty():
    assert read(index()).entries == ()
    assert read(index(manifests=None)).entries == ()
    assert platforms(read(index())) == {}


def test_fields_that_the_specification_does_not_know_are_ignored():
    assert read(image(future={"a": [1.5, None, True]})) == read(image())


def test_a_size_may_be_nothing_or_very_large():
    sizes = [0, manifest.MAX_SIZE]
    layers = [descriptor() | {"size": size} for size in sizes]
    assert [layer.size for layer in read(image(layers=layers)).layers] == sizes


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ([], "the document must be an object, not a list"),
        ("text", "the document must be an object, not a string"),
        ({}, "it is neither a manifest"),
        (image(schemaVersion=...), "schemaVersion must be 2"),
        (image(schemaVersion=3), "schemaVersion must be 2"),
        (image(schemaVersion="2"), "schemaVersion must be 2"),
        (image(schemaVersion=2.0), "schemaVersion must be 2"),
        (image(mediaType=7), "mediaType must be a string, not a number"),
        (image(mediaType="no type"), "'no type' is not a media type"),
        (image(mediaType="application/json"), "is no type of a manifest"),
        (image(mediaType=manifest.OCI_INDEX), "has not the shape of its type"),
        (image(config=...), "neither a manifest"),
        (image(layers=...), "neither a manifest"),
        (image(config=None), "config must be an object, not null"),
        (image(config=[]), "config must be an object, not a list"),
        (image(layers={}), "layers must be a list, not an object"),
        (image(layers=[7]), r"layers\[0\] must be an object, not a number"),
        (image(layers=[descriptor(), {}]), r"layers\[1\].mediaType is missing"),
        (image(layers=[descriptor(media_type="")]), r"layers\[0\].mediaType is missing"),
        (image(layers=[descriptor(media_type="a")]), r"layers\[0\].mediaType 'a' is not a media type"),
        (image(layers=[descriptor() | {"digest": 1}]), r"layers\[0\].digest must be a string"),
        (image(layers=[descriptor() | {"digest": "sha256:1"}]), r"layers\[0\].digest: .*needs 64 hex"),
        (image(layers=[descriptor() | {"size": "7"}]), r"layers\[0\].size must be an integer, not a string"),
        (image(layers=[descriptor(urls="x")]), r"layers\[0\].urls must be a list of strings"),
        (image(layers=[descriptor(urls=[1])]), r"layers\[0\].urls must be a list of strings"),
        (image(layers=[descriptor(data=1)]), r"layers\[0\].data must be a string"),
        (image(layers=[descriptor(annotations=[])]), r"layers\[0\].annotations must map strings"),
        (image(layers=[descriptor(annotations={"a": 1})]), r"layers\[0\].annotations must map strings"),
        (image(layers=[descriptor(artifactType=1)]), r"layers\[0\].artifactType must be a string"),
        (image(annotations={"a": None}), "annotations must map strings to strings"),
        (image(artifactType="x"), "artifactType 'x' is not a media type"),
        (image(subject=[]), "subject must be an object"),
        (index(manifests={}), "manifests must be a list"),
        (index(entry("a", platform=None) | {"platform": "linux"}), r"manifests\[0\].platform must be an obj"),
        (index(entry("a") | {"platform": {"os": 1}}), r"manifests\[0\].platform.os must be a string"),
        (index(entry("a") | {"platform": {"variant": []}}), r"platform.variant must be a string, not a list"),
        (index(entry("a") | {"platform": {"os.version": 1}}), r"platform.os.version must be a string"),
        (index(entry("a") | {"platform": {"features": "x"}}), r"platform.features must be a list"),
        (index(entry("a") | {"platform": {"os.features": [1]}}), r"platform.os.features must be a list"),
    ],
)
def test_a_document_that_breaks_the_specification_is_refused_with_the_place(document, place):
    with pytest.raises(DamagedAnswer, match=place) as caught:
        read(document)
    assert caught.value.hint


@pytest.mark.parametrize("body", [b"", b"{", b"not json", b"{} {}", b'{"a": 1,}', b"{'a': 1}", b'{"a": "\n"}'])
def test_what_is_not_json_is_refused(body):
    with pytest.raises(DamagedAnswer, match=r"it is not JSON|neither"):
        parse(body, None)


def test_a_web_page_in_place_of_the_registry_is_called_one():
    with pytest.raises(DamagedAnswer, match="'text/html'") as caught:
        read(image(), "text/html; charset=utf-8")
    assert "proxy" in caught.value.hint
