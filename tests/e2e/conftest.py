"""One real registry for all tests of a process, and a fresh workspace for each test."""

import itertools

import pytest

from tests.support.homes import Home
from tests.support.registry import RealRegistry
from tests.support.repositories import Repository
from tests.support.workflow import READS_MESSAGE, Workspace

_numbers = itertools.count()


@pytest.fixture(scope="session")
def shared_registry(tmp_path_factory):
    with RealRegistry(tmp_path_factory.mktemp("registry")) as running:
        yield running


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


@pytest.fixture
def tool(repository, workspace):
    """The repository of the image that the one rule of the workflow names; nothing was pushed yet."""
    found = repository()
    workspace.write("Snakefile", READS_MESSAGE.format(image=found.reference))
    return found
