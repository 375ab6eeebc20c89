"""The image builder: what it promises to the tests that are built on it."""

import gzip
import hashlib
import io
import json
import tarfile

import httpx
import pytest

from tests.support import images, layers
from tests.support.digests import sha256
from tests.support.images import Image, Index, Listed
from tests.support.layers import File, Folder, Hardlink, Layer, Symlink


def small(text="content", **settings):
    return Image(layers=(Layer.of({"file": text}),), **settings)


def members(layer):
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer.content))) as archive:
        return {member.name: member for member in archive.getmembers()}


def test_the_same_description_gives_the_same_bytes_whatever_the_order():
    one = Layer.of({"a": "1", "b/c": "2"})
    other = Layer.of({"b/c": b"2", "a": b"1"})

    assert one.content == other.content


def test_a_layer_carries_no_time():
    layer = Layer.of({"a": "1"})

    assert layer.content[4:8] == bytes(4)  # gzip's MTIME
    assert members(layer)["a"].mtime == 0


def test_a_layer_is_named_by_its_bytes_and_its_archive_before_compression():
    layer = Layer.of({"a": "1"})

    assert layer.digest == "sha256:" + hashlib.sha256(layer.content).hexdigest()
    assert layer.diff_id == "sha256:" + hashlib.sha256(gzip.decompress(layer.content)).hexdigest()


def test_a_plain_layer_is_the_archive_itself():
    layer = Layer.of({"a": "1"}, compress=False)

    assert layer.digest == layer.diff_id == Layer.of({"a": "1"}).diff_id
    assert layer.media_type == layers.OCI_LAYER


def test_every_kind_of_entry_arrives_in_the_archive():
    layer = Layer.of(
        {
            "/bin/tool": File(b"#!", 0o755, uid=7, gid=8),
            "bin/a-second-name": Hardlink("/bin/tool"),
            "bin/link": Symlink("tool"),
            "tmp": Folder(0o1777),
            "text": "grün",
        }
    )
    found = members(layer)

    assert (found["bin/tool"].mode, found["bin/tool"].uid, found["bin/tool"].gid) == (0o755, 7, 8)
    assert (found["bin/link"].issym(), found["bin/link"].linkname) == (True, "tool")
    assert (found["bin/a-second-name"].islnk(), found["bin/a-second-name"].linkname) == (True, "bin/tool")
    assert (found["tmp"].isdir(), found["tmp"].mode) == (True, 0o1777)
    assert found["text"].size == len("grün".encode())


def test_a_hard_link_follows_the_file_that_it_names():
    names = list(members(Layer.of({"a-link": Hardlink("z-file"), "z-file": "1"})))

    assert names.index("z-file") < names.index("a-link")


def test_folders_on_the_way_are_made():
    found = members(Layer.of({"usr/share/doc/readme": "x"}))

    assert [name for name in found if found[name].isdir()] == ["usr", "usr/share", "usr/share/doc"]


def test_whiteouts_are_named_as_the_image_specification_says():
    assert layers.whiteout("etc/motd") == "etc/.wh.motd"
    assert layers.opaque("etc/") == "etc/.wh..wh..opq"


def test_a_manifest_describes_its_config_and_layers():
    image = small()
    manifest = json.loads(image.manifest)
    layer = image.layers[0]

    assert manifest["mediaType"] == images.OCI_MANIFEST
    assert manifest["config"] == {
        "mediaType": images.OCI_CONFIG,
        "digest": sha256(image.config),
        "size": len(image.config),
    }
    assert manifest["layers"] == [
        {"mediaType": layers.OCI_LAYER_GZIP, "digest": layer.digest, "size": len(layer.content)}
    ]
    assert image.digest == sha256(image.manifest)


def test_a_config_says_what_the_image_was_given():
    image = small(labels={"k": "v"}, entrypoint=["/tool"], cmd=["--help"], created="2020-02-02T00:00:00Z", variant="v8")
    config = json.loads(image.config)

    assert config["config"]["Labels"] == {"k": "v"}
    assert (config["config"]["Entrypoint"], config["config"]["Cmd"]) == (["/tool"], ["--help"])
    assert (config["created"], config["variant"]) == ("2020-02-02T00:00:00Z", "v8")
    assert config["rootfs"]["diff_ids"] == [image.layers[0].diff_id]


def test_docker_images_have_docker_media_types_throughout():
    index = Index(manifests=(small(docker=True),), docker=True)
    (image,) = index.children
    manifest = json.loads(image.manifest)

    assert index.media_type == json.loads(index.manifest)["mediaType"] == images.DOCKER_INDEX
    assert image.media_type == manifest["mediaType"] == images.DOCKER_MANIFEST
    assert manifest["config"]["mediaType"] == images.DOCKER_CONFIG
    assert manifest["layers"][0]["mediaType"] == images.DOCKER_LAYER_GZIP


def test_an_index_names_each_image_with_its_platform():
    arm = small(architecture="arm64", variant="v8")
    amd = small(architecture="amd64")

    listed = json.loads(Index(manifests=(amd, arm)).manifest)["manifests"]

    assert [entry["digest"] for entry in listed] == [amd.digest, arm.digest]
    assert {entry["mediaType"] for entry in listed} == {images.OCI_MANIFEST}
    assert [entry["platform"] for entry in listed] == [
        {"os": "linux", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm64", "variant": "v8"},
    ]


def test_an_index_can_hold_an_index():
    inner = Index(manifests=(small(),))

    (entry,) = json.loads(Index(manifests=(inner,)).manifest)["manifests"]

    assert entry == {"mediaType": images.OCI_INDEX, "digest": inner.digest, "size": len(inner.manifest)}


def test_an_index_can_say_another_platform_than_the_image():
    image = small(architecture="amd64")
    said = {"os": "linux", "architecture": "s390x"}

    (entry,) = json.loads(Index(manifests=(Listed(of=image, platform=said),)).manifest)["manifests"]

    assert (entry["platform"], entry["digest"]) == (said, image.digest)


def test_an_attestation_is_listed_the_way_that_buildkit_does():
    image = small(architecture="amd64")
    index = images.multi_arch(image, "arm64", attested=True)

    entries = json.loads(index.manifest)["manifests"]

    assert [entry["platform"]["architecture"] for entry in entries] == [
        "amd64",
        "arm64",
        "unknown",
        "unknown",
    ]
    assert entries[2]["platform"] == {"os": "unknown", "architecture": "unknown"}
    assert entries[2]["annotations"] == {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image.digest,
    }


class Shelf:
    """A registry of a few lines that notes what it is sent and wants parts before the whole."""

    def __init__(self, status=201):
        self.calls = []
        self.blobs = set()
        self.manifests = {}
        self.status = status

    def __call__(self, request):
        path = request.url.path.removeprefix("/v2/team/tool")
        self.calls.append((request.method, path.split("sha256:")[0]))
        if request.method == "HEAD":
            return httpx.Response(200 if path.removeprefix("/blobs/") in self.blobs else 404)
        if request.method == "POST":
            return httpx.Response(202, headers={"Location": "/v2/team/tool/blobs/uploads/1?state=x"})
        if path.startswith("/blobs/"):
            assert request.url.params["state"] == "x"
            assert request.url.params["digest"] == sha256(request.content)
            self.blobs.add(request.url.params["digest"])
            return httpx.Response(201)
        return self.take_manifest(path.removeprefix("/manifests/"), request)

    def take_manifest(self, reference, request):
        content = json.loads(request.content)
        for blob in [*content.get("layers", []), *([content["config"]] if "config" in content else [])]:
            assert blob["digest"] in self.blobs
        for manifest in content.get("manifests", []):
            assert manifest["digest"] in self.manifests
        self.manifests[reference] = (request.headers["Content-Type"], request.content)
        return httpx.Response(self.status)


def push(content, shelf, tag="1.0"):
    return images.push(content, "registry.test", "team/tool", tag, transport=httpx.MockTransport(shelf))


def test_pushing_sends_the_parts_before_the_whole():
    shelf, image = Shelf(), small()

    assert push(image, shelf) == image.digest
    assert shelf.manifests == {"1.0": (images.OCI_MANIFEST, image.manifest)}


def test_pushing_an_index_sends_its_images_by_digest_first():
    shelf = Shelf()
    inner = Index(manifests=(small("a"),))
    index = Index(manifests=(inner, small("b")))

    push(index, shelf)

    assert list(shelf.manifests) == [
        inner.children[0].digest,
        inner.digest,
        index.children[1].digest,
        "1.0",
    ]


def test_pushing_without_a_tag_names_the_manifest_by_its_digest():
    shelf, image = Shelf(), small()

    push(image, shelf, tag=None)

    assert list(shelf.manifests) == [image.digest]


def test_pushing_again_sends_no_blob_twice():
    shelf, image = Shelf(), small()
    push(image, shelf)
    shelf.calls.clear()

    push(image, shelf)

    assert shelf.calls == [("HEAD", "/blobs/"), ("HEAD", "/blobs/"), ("PUT", "/manifests/1.0")]


def test_a_refused_push_is_an_error():
    with pytest.raises(httpx.HTTPStatusError):
        push(small(), Shelf(status=403))
