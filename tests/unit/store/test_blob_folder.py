"""A folder of blobs: what is found under which name, and what is never opened."""

from __future__ import annotations

import os

import pytest

from snakemake_apptainer_freshness.errors import LocalIOError, NotFound
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.store import blob_folder
from snakemake_apptainer_freshness.store.blob_folder import BlobFolder

REFERENCE = parse("docker://quay.io/team/tool:1.0")
CONTENT = b"content" * 500_000
DIGEST = Digest.of(CONTENT)


@pytest.fixture
def folder(tmp_path):
    return BlobFolder(root=tmp_path)


@pytest.mark.parametrize(
    "name", ["blobs/sha256/{0}", "sha256.{0}", "{0}", "{0}.sif", "sha256.{0}.sif"], ids=lambda name: name.format("…")
)
def test_a_blob_is_found_under_each_of_its_names(folder, name):
    path = folder.root / name.format(DIGEST.hex)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(CONTENT)

    assert folder.size_of(DIGEST) == len(CONTENT)
    assert b"".join(folder.blob(REFERENCE, DIGEST)) == CONTENT
    assert folder.manifest(REFERENCE, DIGEST) == CONTENT


def test_a_link_is_followed_since_only_the_hash_counts(folder, tmp_path):
    (tmp_path / "elsewhere").write_bytes(CONTENT)
    (tmp_path / DIGEST.hex).symlink_to("elsewhere")

    assert b"".join(folder.blob(REFERENCE, DIGEST)) == CONTENT


def test_what_is_not_there_is_not_found(folder):
    assert folder.size_of(DIGEST) is None
    with pytest.raises(NotFound, match="does not have sha256"):
        folder.manifest(REFERENCE, DIGEST)
    with pytest.raises(NotFound):
        next(folder.blob(REFERENCE, DIGEST))


@pytest.mark.parametrize("kind", ["FIFO", "device", "folder", "dangling"])
def test_what_is_no_file_is_not_waited_for(folder, kind):
    path = folder.root / DIGEST.hex
    match kind:
        case "FIFO":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to("nothing")

    assert folder.size_of(DIGEST) is None
    with pytest.raises(NotFound):
        folder.manifest(REFERENCE, DIGEST)


def test_what_cannot_be_read_is_told(folder, monkeypatch):
    (folder.root / DIGEST.hex).write_bytes(CONTENT)

    def failing(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(blob_folder, "opened_target", failing)
    with pytest.raises(LocalIOError, match="cannot read sha256"):
        next(folder.blob(REFERENCE, DIGEST))
