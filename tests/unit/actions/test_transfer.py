"""How much of the images that Apptainer downloads is there."""

import time
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.actions.transfer import Transfer, sizes_of
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
from snakemake_apptainer_freshness.common.progress import Amount
from snakemake_apptainer_freshness.errors import NotFound
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from tests.support.pins import pin

BASE, TOOL = (Digest.parse("sha256:" + letter * 64) for letter in "ab")
SIZES = {BASE: 1000, TOOL: 500}


@pytest.fixture
def blobs(tmp_path, monkeypatch):
    """The folder of layers in a cache; the temporary folder is empty."""
    monkeypatch.setenv("APPTAINER_TMPDIR", str(tmp_path / "tmp"))
    folder = tmp_path / "cache" / "blob" / "blobs" / "sha256"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def transfer(tmp_path, blobs):
    (tmp_path / "images").mkdir()
    return Transfer(tmp_path / "images", CacheFolder(root=tmp_path / "cache"), ask=lambda _: SIZES)


def begun(transfer):
    """Begin to measure one image, and wait until the sizes of its layers are known."""
    transfer.begin(pin())
    deadline = time.monotonic() + 10
    while not transfer._sizes and time.monotonic() < deadline:
        time.sleep(0.005)
    return transfer


def test_a_layer_counts_as_it_grows_and_once_it_is_whole(transfer, blobs):
    begun(transfer)
    (blobs / BASE.hex).write_bytes(bytes(1000))
    (blobs / f"{TOOL.hex}2917767900").write_bytes(bytes(200))
    (blobs / ("c" * 64)).write_bytes(bytes(9999))

    assert transfer.measure() == Amount(1200, 1500)


def test_what_apptainer_removes_after_unpacking_it_stays_counted(transfer, tmp_path):
    begun(transfer)
    folder = tmp_path / "tmp" / "apptainer-freshness-x" / "bundle-temp-1" / "layout-2" / "blobs" / "sha256"
    folder.mkdir(parents=True)
    layer = folder / BASE.hex
    layer.write_bytes(bytes(1000))
    first = transfer.measure()
    layer.unlink()

    assert (first, transfer.measure()) == (Amount(1000, 1500), Amount(1000, 1500))


def test_where_no_size_is_known_the_file_that_grows_is_measured(transfer, tmp_path):
    def fail(_):
        raise NotFound("it is gone")

    transfer._ask = fail
    transfer.begin(pin())
    from snakemake_apptainer_freshness.store.prefix import PARTIAL, image_name

    partial = tmp_path / "images" / f"{image_name(pin().url)}{PARTIAL}x"
    partial.mkdir()
    (partial / "image.sif").write_bytes(bytes(700))

    assert transfer.measure() == Amount(700)


class Asked:
    """What has no manifest, and is asked for none."""

    def manifest(self, reference, digest):
        pytest.fail(f"asked for {digest} of {reference}")


def test_docker_hub_is_not_asked_for_sizes():
    assert sizes_of(Asked(), replace(pin(), pinned=parse("docker://busybox:1"))) == {}
