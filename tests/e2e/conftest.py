"""One real registry for all tests of a process, and a fresh workspace for each test."""

import itertools

import pytest

from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.pin import Pin
from tests.support import images
from tests.support.homes import Home
from tests.support.registry import RealRegistry
from tests.support.workflow import Workspace

_numbers = itertools.count()


@pytest.fixture(scope="session")
def shared_registry(tmp_path_factory):
    with RealRegistry(tmp_path_factory.mktemp("registry")) as running:
        yield running


class Repository:
    """A repository of its own in the real registry, with tags that can be moved."""

    def __init__(self, registry, name):
        self.registry = registry
        self.name = name

    @property
    def reference(self):
        return self.tagged("1.0")

    def tagged(self, tag):
        return f"docker://{self.registry.host}/{self.name}:{tag}"

    def pinned(self, digest):
        return f"docker://{self.registry.host}/{self.name}@{digest}"

    def push(self, message, tag="1.0", **image):
        """Push an image whose ``/message`` says `message`; gives its digest."""
        return images.push(images.tiny_image(message, **image), self.registry.host, self.name, tag)

    def pin(self, content, platform=None):
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

    def requests(self):
        """The requests for this repository so far, as (method, path, user agent)."""
        return [
            (request.method, request.path, request.user_agent)
            for request in self.registry.requests()
            if f"/v2/{self.name}/" in request.path
        ]

    def our_requests(self):
        """Those that this project's client made."""
        return [request for request in self.requests() if "freshness" in request[2]]

    def our_questions(self):
        """The methods of those that asked where a tag points: what is asked by digest cannot move."""
        return [method for method, path, _ in self.our_requests() if "sha256:" not in path]


@pytest.fixture
def repository(shared_registry):
    """Makes repositories that no other test uses."""

    def make(name="tool"):
        return Repository(shared_registry, f"test{next(_numbers)}/{name}")

    return make


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workflow", tmp_path / "home")


@pytest.fixture
def home(tmp_path):
    """The home of a user who has never pulled anything."""
    return Home.of(tmp_path)
