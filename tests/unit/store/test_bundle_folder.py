"""A bundle that tar unpacked is read as the bundle itself, and is held to its table of contents."""

import json
import tarfile

import pytest

from snakemake_apptainer_freshness.errors import InvalidBundle, NotFound
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.store.bundle_folder import BundleFolder
from snakemake_apptainer_freshness.store.bundle_tar import Archive
from tests.support.bundles import saved
from tests.support.images import Image
from tests.support.proofs import REPOSITORY, file, layer

CONTENT = Image(layers=(layer(file("data", "x" * 100)),))
REFERENCE = parse(f"docker://{REPOSITORY}:1.0")


@pytest.fixture
def unpacked(tmp_path):
    with tarfile.open(saved(CONTENT, tmp_path / "source")) as archive:
        archive.extractall(tmp_path / "layout", filter="data")
    return tmp_path / "layout"


def test_it_has_what_the_archive_has(unpacked, tmp_path):
    folder = BundleFolder(unpacked)
    with (tmp_path / "source/all.tar").open("rb") as file:
        archive = Archive(file)
        assert (folder.contents, folder.lock, folder.index) == (archive.contents, archive.lock, archive.index)
        digest = Digest.parse(CONTENT.digest)
        assert folder.manifest(REFERENCE, digest) == archive.manifest(REFERENCE, digest)
        assert folder.size_of(digest) == archive.size_of(digest)


def test_what_it_lacks_is_not_found(unpacked):
    folder = BundleFolder(unpacked)
    other = Digest.of(b"other")
    assert folder.size_of(other) is None
    for ask in (lambda: folder.manifest(REFERENCE, other), lambda: list(folder.blob(REFERENCE, other))):
        with pytest.raises(NotFound, match="lacks"):
            ask()


def test_a_blob_that_became_a_link_meanwhile_is_not_followed(unpacked, tmp_path):
    folder = BundleFolder(unpacked)
    path = unpacked / "blobs" / CONTENT.layers[0].digest.replace(":", "/")
    path.rename(tmp_path / "outside")
    path.symlink_to(tmp_path / "outside")
    with pytest.raises(InvalidBundle, match="symbolic link"):
        list(folder.blob(REFERENCE, Digest.parse(CONTENT.layers[0].digest)))


@pytest.mark.parametrize("name", ["bundle.json", "containers.lock", "index.json", "oci-layout"])
def test_a_missing_file(unpacked, name):
    (unpacked / name).unlink()
    with pytest.raises(InvalidBundle, match=name):
        BundleFolder(unpacked)


def test_a_missing_folder(unpacked):
    for path in (unpacked / "blobs/sha256").iterdir():
        path.unlink()
    (unpacked / "blobs/sha256").rmdir()
    with pytest.raises(InvalidBundle, match="is no folder"):
        BundleFolder(unpacked)


@pytest.mark.parametrize("name", ["evil", "blobs/evil", "blobs/sha256/evil"])
def test_a_file_or_a_folder_too_many(unpacked, name):
    (unpacked / name).write_text("x")
    with pytest.raises(InvalidBundle, match="does not announce"):
        BundleFolder(unpacked)
    (unpacked / name).unlink()
    (unpacked / name).mkdir()
    with pytest.raises(InvalidBundle, match="no regular file"):
        BundleFolder(unpacked)


def test_a_lock_that_is_not_the_announced_one(unpacked):
    content = (unpacked / "containers.lock").read_bytes()
    (unpacked / "containers.lock").write_bytes(content.replace(b"1.0", b"2.0"))
    with pytest.raises(InvalidBundle, match=r"containers.lock is not what"):
        BundleFolder(unpacked)


def test_a_size_that_is_not_the_announced_one(unpacked):
    table = json.loads((unpacked / "bundle.json").read_text())
    table["file"][-1]["size"] += 1
    (unpacked / "bundle.json").write_text(json.dumps(table))
    with pytest.raises(InvalidBundle, match="announced size"):
        BundleFolder(unpacked)
