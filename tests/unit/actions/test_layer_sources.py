"""Where layers come from: what is here already, local mirrors, the registry, mirrors on a network, in that order."""

import contextlib

import pytest

from snakemake_apptainer_freshness.actions.elsewhere import VARIABLE, Elsewhere
from snakemake_apptainer_freshness.actions.layer_sources import LayerSources
from snakemake_apptainer_freshness.errors import ConnectionFailed, NotFound
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from tests.support import images
from tests.support.bundles import saved
from tests.support.images import Image
from tests.support.proofs import REPOSITORY, Served, file, layer
from tests.support.registry import RealRegistry

CONTENT = Image(layers=(layer(file("data", "x" * 100)),))
REFERENCE = parse(f"docker://{REPOSITORY}@{CONTENT.digest}")
LAYER = CONTENT.layers[0]
MANIFEST = Digest.parse(CONTENT.digest)
PREFIX = REPOSITORY.rsplit("/", 1)[0]


class Dead:
    """A registry that does not answer."""

    def manifest(self, *_):
        raise ConnectionFailed("no connection")

    def blob(self, *_):
        raise ConnectionFailed("no connection")
        yield b""


@pytest.fixture
def sources(tmp_path):
    """Makes sources with mirrors at these places."""

    def make(*places, registry=None, folders=()):
        listed = ", ".join(f'"{place}"' for place in places)
        text = f'[[mirror]]\nprefix = "{PREFIX}"\nplaces = [{listed}]\n' if places else ""
        (tmp_path / "mirrors.toml").write_text(text)
        environment = {
            "HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path / "none"), VARIABLE: str(tmp_path / "mirrors.toml"),
            "APPTAINER_NOHTTPS": "1",
        }  # fmt: skip
        mirrors = opened.enter_context(Elsewhere(environment))
        return LayerSources(registry=registry or Dead(), mirrors=mirrors, folders=folders)

    with contextlib.ExitStack() as opened:
        yield make


def both(found):
    return found.manifest(REFERENCE, MANIFEST), b"".join(found.blob(REFERENCE, Digest.parse(LAYER.digest)))


GOOD = (CONTENT.manifest, LAYER.content)


def layout(folder, manifest=CONTENT.manifest, content=LAYER.content):
    (folder / "blobs/sha256").mkdir(parents=True)
    (folder / "blobs" / CONTENT.digest.replace(":", "/")).write_bytes(manifest)
    (folder / "blobs" / LAYER.digest.replace(":", "/")).write_bytes(content)
    return folder


def test_a_folder_that_has_them_asks_no_registry(sources, tmp_path):
    registry = Served(content=CONTENT)
    assert both(sources(folders=(layout(tmp_path / "a"),), registry=registry)) == GOOD
    assert registry.asked == []


def test_a_local_mirror_asks_no_registry(sources, tmp_path):
    registry = Served(content=CONTENT)
    assert both(sources(layout(tmp_path / "a"), registry=registry)) == GOOD
    assert registry.asked == []


def test_a_bundle_is_a_mirror(sources, tmp_path):
    assert both(sources(saved(CONTENT, tmp_path / "source"))) == GOOD


def test_a_local_mirror_that_has_something_else_is_left_out(sources, tmp_path):
    lies = layout(tmp_path / "a", manifest=b"{}", content=b"x" * len(LAYER.content))
    registry = Served(content=CONTENT)
    assert both(sources(lies, registry=registry)) == GOOD
    assert registry.asked == [CONTENT.digest, LAYER.digest]


def test_a_damaged_bundle_is_left_out(sources, tmp_path):
    (tmp_path / "a.tar").write_bytes(b"x" * 1024)
    assert both(sources(tmp_path / "a.tar", registry=Served(content=CONTENT))) == GOOD


def test_a_mirror_on_a_network_is_asked_where_the_registry_fails(sources, tmp_path):
    with RealRegistry(tmp_path / "registry") as registry:
        images.push(CONTENT, registry.host, "mirror/tool", "1.0")
        assert both(sources(f"docker://{registry.host}/mirror")) == GOOD


def test_where_no_place_has_it_the_registry_says_why(sources, tmp_path):
    for ask in (
        lambda: sources().manifest(REFERENCE, MANIFEST),
        lambda: list(sources().blob(REFERENCE, MANIFEST)),
        lambda: list(sources("docker://127.0.0.1:1/x").blob(REFERENCE, MANIFEST)),
    ):
        with pytest.raises(ConnectionFailed, match="no connection"):
            ask()
    with pytest.raises(NotFound):
        sources(layout(tmp_path / "a"), registry=Served(content=CONTENT)).manifest(REFERENCE, Digest.of(b"other"))
