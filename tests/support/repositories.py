"""Repositories in a real registry: what a test pushes, and which requests were made for it."""

from __future__ import annotations

from typing import Any

from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.pin import Pin
from tests.support import images
from tests.support.registry import RealRegistry


class Repository:
    """A repository of its own in the real registry, with tags that can be moved."""

    def __init__(self, registry: RealRegistry, name: str) -> None:
        self.registry = registry
        self.name = name

    @property
    def reference(self) -> str:
        """What a rule says."""
        return self.tagged("1.0")

    def tagged(self, tag: str) -> str:
        """The reference of another tag."""
        return f"docker://{self.registry.host}/{self.name}:{tag}"

    def pinned(self, digest: str) -> str:
        """The reference of a digest."""
        return f"docker://{self.registry.host}/{self.name}@{digest}"

    def push(self, message: str, tag: str = "1.0", **image: Any) -> str:
        """Push an image whose ``/message`` says `message`; gives its digest."""
        return images.push(images.tiny_image(message, **image), self.registry.host, self.name, tag)

    def pin(self, content: images.Image | images.Index, platform: str | None = None) -> Pin:
        """Push an image or index as ``1.0``; gives the pin of it."""
        digest = images.push(content, self.registry.host, self.name, "1.0")
        members = content.children if isinstance(content, images.Index) else [content]
        manifests = {f"{one.os}/{one.architecture}": one.digest for one in members if isinstance(one, images.Image)}
        platform = platform or str(Platform.here())
        return Pin(
            pinned=parse(self.pinned(digest)),
            reference=parse(self.reference),
            digest=Digest.parse(digest),
            manifest=Digest.parse(manifests[platform]),
            platform=Platform.parse(platform),
        )

    def requests(self) -> list[tuple[str, str, str]]:
        """The requests for this repository so far, as (method, path, user agent)."""
        return [
            (request.method, request.path, request.user_agent)
            for request in self.registry.requests()
            if f"/v2/{self.name}/" in request.path
        ]

    def our_requests(self) -> list[tuple[str, str, str]]:
        """Those that this project's client made."""
        return [request for request in self.requests() if "freshness" in request[2]]

    def our_questions(self) -> list[str]:
        """The methods of those that asked where a tag points: what is asked by digest cannot move."""
        return [method for method, path, _ in self.our_requests() if "sha256:" not in path]
