"""Attacks through what a registry serves as a manifest, each test named after its attack."""

import json
import tracemalloc

import pytest

from snakemake_apptainer_freshness.common import strict_json
from snakemake_apptainer_freshness.errors import DamagedAnswer
from snakemake_apptainer_freshness.image import manifest
from snakemake_apptainer_freshness.image.manifest import parse, platforms
from snakemake_apptainer_freshness.lockfile import platform_texts
from snakemake_apptainer_freshness.settings import LIMITS

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": A, "size": 1}
CONFIG = {"mediaType": manifest.OCI_CONFIG, "digest": A, "size": 1}
ENTRY = {"mediaType": manifest.OCI_MANIFEST, "digest": A, "size": 1}
IMAGE = {"schemaVersion": 2, "config": CONFIG, "layers": [LAYER]}
INDEX = {"schemaVersion": 2, "manifests": [ENTRY]}


def refuse(body, match, content_type=None):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    with pytest.raises(DamagedAnswer, match=match):
        parse(body, content_type)


@pytest.mark.parametrize("content_type", [None, manifest.OCI_INDEX, manifest.OCI_MANIFEST])
@pytest.mark.parametrize("own", [None, manifest.OCI_INDEX, manifest.OCI_MANIFEST])
@pytest.mark.parametrize("key", ["config", "layers", "fsLayers", "history"])
def test_manifest_index_confusion_cve_2021_41190(key, own, content_type):
    document = INDEX | {key: IMAGE.get(key, [])} | ({"mediaType": own} if own else {})
    refuse(document, "an index and a manifest at once|mediaType is .* sent it as", content_type)


@pytest.mark.parametrize("value", [None, [], {}])
def test_manifest_index_confusion_by_an_empty_member(value):
    refuse(IMAGE | {"manifests": value}, "an index and a manifest at once")
    refuse(INDEX | {"config": value}, "an index and a manifest at once")


@pytest.mark.parametrize(
    ("document", "own", "content_type"),
    [
        (IMAGE, manifest.OCI_MANIFEST, manifest.OCI_INDEX),
        (IMAGE, manifest.OCI_MANIFEST, manifest.DOCKER_MANIFEST),
        (INDEX, manifest.OCI_INDEX, manifest.DOCKER_LIST),
        (INDEX, manifest.DOCKER_LIST, manifest.DOCKER_SCHEMA1_SIGNED),
    ],
)
def test_a_media_type_that_contradicts_the_header(document, own, content_type):
    refuse(document | {"mediaType": own}, "its mediaType is .* and the registry sent it as", content_type)


@pytest.mark.parametrize(
    ("document", "content_type"),
    [(IMAGE, manifest.OCI_INDEX), (INDEX, manifest.DOCKER_MANIFEST), (IMAGE, manifest.DOCKER_SCHEMA1)],
)
def test_a_shape_that_contradicts_the_header(document, content_type):
    refuse(document, "has not the shape of its type", content_type)


def test_schema_1_in_the_clothes_of_schema_2():
    refuse(IMAGE | {"schemaVersion": 1}, "schemaVersion must be 2")
    refuse({"schemaVersion": 1, "fsLayers": [], "mediaType": manifest.OCI_MANIFEST}, "has not the shape")
    refuse({"schemaVersion": 2, "fsLayers": []}, "neither a manifest")
    refuse({"schemaVersion": True, "fsLayers": []}, "neither a manifest")


def test_equal_keys_of_which_go_takes_the_last():
    body = json.dumps(INDEX).encode()
    refuse(body[:-1] + b', "manifests": []}', "the same key twice")
    refuse(body.replace(b'"size": 1', b'"size": 1, "size": 1'), "the same key twice")
    refuse(body.replace(b'"size": 1', b'"size": 1, "annotations": {"a": "b", "a": "b"}'), "the same key twice")


def test_equal_keys_that_are_spelled_with_escapes():
    body = json.dumps(INDEX | {"x": 1}).encode()
    refuse(body.replace(b'"x"', rb'"m\u0061nifests"'), "the same key twice")


@pytest.mark.parametrize("key", ["Digest", "DIGEST", "diGest", "Size", "\u017fize", "MediaType", "Platform"])
def test_keys_that_go_does_not_tell_apart_from_the_real_ones(key):
    # Seen with Apptainer 1.4.5: of {"digest": A, "Digest": B} it pulls B.
    refuse(INDEX | {"manifests": [ENTRY | {key: B}]}, r"manifests\[0\] has the key")
    refuse(IMAGE | {"layers": [LAYER | {key: B}]}, r"layers\[0\] has the key")


@pytest.mark.parametrize("key", ["Manifests", "MANIFESTS", "Config", "mediatype", "schemaversion", "manife\u017fts"])
def test_members_that_go_does_not_tell_apart_from_the_real_ones(key):
    refuse(IMAGE | {key: []}, "the document has the key")


def test_platform_members_that_go_does_not_tell_apart_from_the_real_ones():
    for key in ("OS", "Architecture", "Variant", "Os.Version"):
        refuse(INDEX | {"manifests": [ENTRY | {"platform": {key: "linux"}}]}, "platform has the key")


@pytest.mark.parametrize(
    "size",
    ["-1", "1.0", "1.5", "1e3", "true", "false", '"1"', "null", "[]", "{}", str(manifest.MAX_SIZE + 1), str(2**63),
     str(2**64 - 1)],
)  # fmt: skip
def test_sizes_that_are_negative_not_integers_or_absurd(size):
    refuse(
        json.dumps(IMAGE).replace('"size": 1', f'"size": {size}').encode(),
        r"config\.size (must be|cannot be)",
    )


def test_a_descriptor_without_a_size():
    refuse(IMAGE | {"config": {k: v for k, v in CONFIG.items() if k != "size"}}, "config.size must be an integer")


@pytest.mark.parametrize("number", ["9" * 21, "9" * 5_000, "-" + "9" * 1_000_000])
def test_numbers_that_take_quadratic_time(number):
    refuse(json.dumps(IMAGE | {"x": 7}).replace("7", number).encode(), "more than 20 digits")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"])
def test_numbers_that_are_none(number):
    refuse(json.dumps(IMAGE | {"x": 7}).replace("7", number).encode(), "is not JSON|too large")


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_deep_nesting(opening):
    refuse(opening * 1_000_000, "nested more than")
    refuse(opening * (strict_json.MAX_DEPTH + 1), "nested more than")


def test_deep_nesting_hidden_behind_closing_brackets_and_strings():
    deep = b"[" * 100_000
    refuse(b"]" * 100_000 + deep, "it is not JSON|nested")
    refuse(b'{"a":"]]]]]]]]\\"]]]]", "b":' + deep, "nested more than")


def test_nesting_just_within_the_limit_is_no_attack():
    depth = strict_json.MAX_DEPTH - 1
    value = json.loads("[" * depth + "]" * depth)
    assert parse(json.dumps(IMAGE | {"x": value, "y": "[{" * 1_000}).encode(), None)


@pytest.mark.parametrize("string", [rb"\ud800", rb"\udc00", rb"\udc00\ud800", rb"a\uD83Dz", rb"\ud83d\n"])
def test_lone_surrogates(string):
    for document in (IMAGE | {"x": "?"}, IMAGE | {"annotations": {"a": "?"}}, IMAGE | {"?": 1}):
        refuse(json.dumps(document).encode().replace(b"?", string), "half of a surrogate pair")


def test_whole_surrogate_pairs_are_no_attack():
    body = json.dumps(IMAGE | {"annotations": {"a": "\N{GRINNING FACE}"}}).encode()
    assert rb"\ud83d" in body
    assert parse(body, None).annotations == {"a": "\N{GRINNING FACE}"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-7"])
def test_another_encoding_than_utf_8(encoding):
    body = json.dumps(IMAGE | {"x": "+é"}, ensure_ascii=False).encode(encoding)
    refuse(body, "not UTF-8|not JSON|byte order mark") if encoding != "utf-7" else parse(body, None)


def test_bytes_that_are_not_utf_8():
    for garbage in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"):
        refuse(json.dumps(IMAGE | {"x": "?"}).encode().replace(b"?", garbage), "not UTF-8")


def test_a_byte_order_mark():
    refuse(b"\xef\xbb\xbf" + json.dumps(IMAGE).encode(), "byte order mark")


def test_bytes_after_the_end():
    refuse(json.dumps(IMAGE).encode() + json.dumps(INDEX).encode(), "not JSON")
    refuse(json.dumps(IMAGE).encode() + b"\0", "not JSON")


@pytest.mark.parametrize("value", ["sha256:../../x", A.upper(), A[:-1], A + "\n", "", f"{A} ", "md5:" + "0" * 32])
def test_digest_strings_as_paths_in_a_descriptor(value):
    refuse(INDEX | {"manifests": [ENTRY | {"digest": value}]}, r"manifests\[0\].digest: ")


def test_a_platform_that_cannot_be_written_is_never_listed():
    for name in ("linux\n", "../x", "linux/amd64", "", "l\u0456nux", "\x1b[31m", "LINUX"):
        document = INDEX | {"manifests": [ENTRY | {"platform": {"os": name, "architecture": "amd64"}}]}
        assert platforms(parse(json.dumps(document).encode(), None)) == {}


def test_an_odd_variant_that_hides_the_entry_that_apptainer_takes():
    first = ENTRY | {"digest": B, "platform": {"os": "linux", "architecture": "amd64", "variant": "\n"}}
    second = ENTRY | {"platform": {"os": "linux", "architecture": "amd64"}}
    found = parse(json.dumps(INDEX | {"manifests": [first, second]}).encode(), None)
    assert platform_texts(platforms(found)) == {"linux/amd64": B}


def test_a_media_type_with_control_characters():
    refuse(IMAGE | {"layers": [LAYER | {"mediaType": "a/b\x1b[31m"}]}, "not a media type")
    refuse(IMAGE | {"artifactType": "a/b\n"}, "not a media type")


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        (IMAGE, "x" * 100_000),
        (IMAGE | {"mediaType": "a/" + "b" * 100_000}, None),
        (IMAGE | {"config": CONFIG | {"digest": "b" * 100_000}}, None),
        (IMAGE | {"config": CONFIG | {"mediaType": "b" * 100_000}}, None),
    ],
)
def test_the_error_repeats_no_more_than_a_little_of_the_answer(document, content_type):
    with pytest.raises(DamagedAnswer) as caught:
        parse(json.dumps(document).encode(), content_type)
    assert len(str(caught.value)) < 600


def _hostile_bodies():
    size = LIMITS.manifest_size
    yield "empty lists", b"[" + b"[]," * (size // 3 - 1) + b"[]]"
    yield "empty objects", b"[" + b"{}," * (size // 3 - 1) + b"{}]"
    yield "numbers", b"[" + b"1," * (size // 2 - 1) + b"1]"
    yield "keys", b"{" + b",".join(b'"%d":1' % n for n in range(size // 12)) + b"}"
    yield "objects below the limit", b"[" + b"{}," * (strict_json.MAX_TOKENS // 3 - 4) + b"{}]"
    yield (
        "members below the limit",
        b"{" + b",".join(b'"%d":[]' % n for n in range(strict_json.MAX_TOKENS // 4 - 4)) + b"}",
    )
    yield "escaped quotes", b'"' + b'\\"' * (size // 2)
    yield "quotes", b'"' * size
    yield "backslashes", b'{"a":"' + b"\\" * size
    yield "one string", b'{"a":"' + b"a" * size + b'"}'
    yield "white space", b" " * size
    yield "closing brackets", b"]" * size
    yield "nothing", b"\0" * size


@pytest.mark.parametrize(("name", "body"), [pytest.param(n, b, id=n) for n, b in _hostile_bodies()])
def test_the_largest_answer_costs_bounded_memory(name, body):
    tracemalloc.start()
    try:
        with pytest.raises(DamagedAnswer):
            parse(body, None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * LIMITS.manifest_size, name
