"""Container images made from nothing, in memory, and pushed to any registry.

The same description always gives the same bytes (on one machine: compression is zlib's), so a test may
compare digests. Values are immutable; bytes, digests and descriptors are computed from them, never stored
beside them:

    image = tiny_image("original")                      # a shell, and a file /message
    digest = push(image, registry.host, "team/tool", "1.0")
    push(tiny_image("changed"), registry.host, "team/tool", "1.0")      # the tag has moved

Nothing here checks what it is given: a test may well want an image that is wrong.
"""

from __future__ import annotations

import json
import platform
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import httpx

from tests.support import programs
from tests.support.digests import sha256
from tests.support.layers import OCI_LAYER, OCI_LAYER_GZIP, File, Layer, busybox_layer

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
IN_TOTO = "application/vnd.in-toto+json"

CREATED = "2024-01-01T00:00:00Z"
USER_AGENT = "tests-support-images"
PUSH_TIMEOUT = 30.0  # seconds, for one request

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_DOCKER_LAYERS = {OCI_LAYER: DOCKER_LAYER, OCI_LAYER_GZIP: DOCKER_LAYER_GZIP}


def native_architecture() -> str:
    """This machine's architecture in Go's words, as images name it."""
    machine = platform.machine()
    return _MACHINES.get(machine, machine)


# --- Images and indexes -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Image:
    """One platform's image. ``docker`` chooses Docker's schema 2 media types instead of OCI's."""

    layers: tuple[Layer, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    entrypoint: Sequence[str] = ()
    cmd: Sequence[str] = ()
    env: Sequence[str] = ("PATH=/usr/bin:/bin",)
    created: str = CREATED
    os: str = "linux"
    architecture: str = field(default_factory=native_architecture)
    variant: str = ""
    docker: bool = False

    @property
    def media_type(self) -> str:
        """The manifest's media type."""
        return DOCKER_MANIFEST if self.docker else OCI_MANIFEST

    @property
    def platform(self) -> dict[str, str]:
        """The platform as an index names it."""
        parts = {"os": self.os, "architecture": self.architecture, "variant": self.variant}
        return {key: value for key, value in parts.items() if value}

    @cached_property
    def config(self) -> bytes:
        """The configuration blob."""
        settings: dict[str, Any] = {
            "Env": list(self.env),
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.cmd),
            "Labels": dict(self.labels),
        }
        return _json(
            {
                **self.platform,
                "created": self.created,
                "config": {key: value for key, value in settings.items() if value},
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
                "history": [{"created": self.created, "created_by": "tests"} for _ in self.layers],
            }
        )

    @cached_property
    def manifest(self) -> bytes:
        """The manifest as it is served."""
        config_type = DOCKER_CONFIG if self.docker else OCI_CONFIG
        content: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": {"mediaType": config_type, "digest": sha256(self.config), "size": len(self.config)},
            "layers": [self._layer_descriptor(layer) for layer in self.layers],
        }
        if self.annotations:
            content["annotations"] = dict(self.annotations)
        return _json(content)

    @cached_property
    def digest(self) -> str:
        """The manifest's digest."""
        return sha256(self.manifest)

    @property
    def blobs(self) -> list[bytes]:
        """What a registry has to hold before it takes the manifest."""
        return [*(layer.content for layer in self.layers), self.config]

    def _layer_descriptor(self, layer: Layer) -> dict[str, Any]:
        media_type = _DOCKER_LAYERS.get(layer.media_type, layer.media_type) if self.docker else layer.media_type
        return {"mediaType": media_type, "digest": layer.digest, "size": len(layer.content)}


@dataclass(frozen=True, kw_only=True)
class Index:
    """An index (Docker: manifest list) of images, of other indexes, or of :class:`Listed` ones."""

    manifests: tuple[Image | Index | Listed, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    docker: bool = False

    @property
    def media_type(self) -> str:
        """The index's media type."""
        return DOCKER_INDEX if self.docker else OCI_INDEX

    @property
    def children(self) -> list[Image | Index]:
        """What it lists, without how it is listed."""
        return [entry.of if isinstance(entry, Listed) else entry for entry in self.manifests]

    @cached_property
    def manifest(self) -> bytes:
        """The index as it is served."""
        content: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "manifests": [_descriptor(entry) for entry in self.manifests],
        }
        if self.annotations:
            content["annotations"] = dict(self.annotations)
        return _json(content)

    @cached_property
    def digest(self) -> str:
        """The index's digest."""
        return sha256(self.manifest)


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A member of an index whose entry says something else than the member itself does."""

    of: Image | Index
    platform: Mapping[str, str] | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


def attestation(image: Image) -> Listed:
    """What BuildKit lists beside each image: an ``unknown/unknown`` manifest that is no image."""
    statement = _json({"_type": "https://in-toto.io/Statement/v0.1", "subject": [{"digest": image.digest}]})
    manifest = Image(
        layers=(Layer.raw(statement, IN_TOTO),),
        os="unknown",
        architecture="unknown",
        env=(),
        docker=image.docker,
    )
    annotations = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image.digest,
    }
    return Listed(of=manifest, annotations=annotations)


def tiny_image(
    message: str = "original",
    *,
    labels: Mapping[str, str] | None = None,
    architecture: str | None = None,
    variant: str = "",
    created: str = CREATED,
    docker: bool = False,
    bash: bool = False,
) -> Image:
    """An image for a workflow's job: it has a shell, ``/message`` holds ``message``, running it prints that.

    The shell is a real bash with ``bash``, else busybox's under that name too, which costs each pull half as much.
    Another ``architecture`` changes what the image says of itself, not its programs.
    """
    real = {"bin/bash": File(programs.private("bash-static").read_bytes(), 0o755)} if bash else {}
    return Image(
        layers=(busybox_layer(), Layer.of({"message": f"{message}\n", **real})),
        labels=labels or {},
        cmd=("/bin/cat", "/message"),
        architecture=architecture or native_architecture(),
        variant=variant,
        created=created,
        docker=docker,
    )


def multi_arch(image: Image, *architectures: str, attested: bool = False) -> Index:
    """An index of ``image`` and of what it is for other architectures, as build tools publish it."""
    images = [image, *(replace(image, architecture=name, variant="") for name in architectures)]
    attestations = map(attestation, images) if attested else ()
    return Index(manifests=(*images, *attestations), docker=image.docker)


def _descriptor(entry: Image | Index | Listed) -> dict[str, Any]:
    listed = entry if isinstance(entry, Listed) else Listed(of=entry)
    member = listed.of
    content: dict[str, Any] = {
        "mediaType": member.media_type,
        "digest": member.digest,
        "size": len(member.manifest),
    }
    said = listed.platform
    if said is None and isinstance(member, Image):
        said = member.platform
    if said:
        content["platform"] = dict(said)
    if listed.annotations:
        content["annotations"] = dict(listed.annotations)
    return content


def _json(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


# --- Pushing ------------------------------------------------------------------------------------------------


def push(
    content: Image | Index,
    host: str,
    repository: str,
    tag: str | None = None,
    *,
    scheme: str = "http",
    auth: httpx.Auth | tuple[str, str] | None = None,
    verify: ssl.SSLContext | bool = True,
    transport: httpx.BaseTransport | None = None,
) -> str:
    """Push an image or index with all that it consists of, as the distribution specification says.

    Without a ``tag`` it can be pulled by digest alone. Returns the digest; raises
    :class:`httpx.HTTPStatusError`.
    """
    with httpx.Client(
        base_url=f"{scheme}://{host}/v2/{repository}",
        auth=auth,
        verify=verify,
        transport=transport,
        headers={"User-Agent": USER_AGENT},
        timeout=PUSH_TIMEOUT,
        trust_env=False,
    ) as client:
        _push_manifest(client, content, tag or content.digest)
    return content.digest


def _push_manifest(client: httpx.Client, content: Image | Index, reference: str) -> None:
    if isinstance(content, Index):
        for child in content.children:
            _push_manifest(client, child, child.digest)
    else:
        for blob in content.blobs:
            _push_blob(client, blob)
    headers = {"Content-Type": content.media_type}
    client.put(f"/manifests/{reference}", content=content.manifest, headers=headers).raise_for_status()


def _push_blob(client: httpx.Client, blob: bytes) -> None:
    digest = sha256(blob)
    if client.head(f"/blobs/{digest}").is_success:
        return
    upload = client.post("/blobs/uploads/").raise_for_status()
    location = upload.url.join(upload.headers["Location"]).copy_merge_params({"digest": digest})
    client.put(location, content=blob, headers={"Content-Type": "application/octet-stream"}).raise_for_status()
