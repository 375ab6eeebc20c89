"""Each verification of an archive is what stops its attack: with it taken away, the archive is believed."""

from __future__ import annotations

import shutil
import stat
from types import SimpleNamespace
from unittest import mock

import pytest

from snakemake_apptainer_freshness.audit import archive_replay
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.store import bag, bundle_folder
from tests.support import archives
from tests.support.archives import blob, reannounced, rebagged, retagged
from tests.support.attacks.bundles import CONTENT, EVIL, INDEX
from tests.support.digests import sha256


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return archives.archived(tmp_path_factory.mktemp("good"), INDEX)


@pytest.fixture
def archive(good, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
    return archives.copied(good, tmp_path / "archive")


def believed(archive, *patches) -> bool:
    """Whether the archive is said to make everything again once the `patches` are; without them it is not."""

    def possible():
        try:
            return archives.replayed(archive).possible
        except FreshnessError:
            return False

    assert not possible()
    for patch in patches:
        patch.start()
    try:
        return possible()
    finally:
        for patch in patches:
            patch.stop()


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_damaged_layer_is_believed_where_the_payload_is_not_hashed(archive):
    flip(blob(archive, CONTENT.layers[1].digest))
    assert believed(archive, mock.patch.object(bag.Bag, "verify", return_value=()))


def test_another_layer_is_believed_where_checksums_need_not_be_the_names_of_blobs(archive):
    flip(blob(archive, CONTENT.layers[1].digest))
    assert believed(rebagged(archive), mock.patch.object(archive_replay, "_hold_blobs"))


def test_another_list_is_believed_where_it_is_not_held_to_the_last_one(archive):
    flip(archive / "data/project/Snakefile")
    rebagged(archive)
    (archive / "tagmanifest-sha256.txt").write_text("")
    assert believed(archive, mock.patch.object(bag, "_hold_tags"))


def test_a_path_that_leads_out_is_believed_where_names_are_not_looked_at(archive):
    (archive.parent / "outside").write_bytes(b"x")
    manifest = archive / "manifest-sha256.txt"
    manifest.write_text(f"{manifest.read_text()}{sha256(b'x')[7:]}  data/../../outside\n")
    walk = bag._walk
    found = mock.patch.object(bag, "_walk", lambda *a: [*walk(*a), "data/../../outside"])
    assert believed(retagged(archive), mock.patch.object(bag, "can_be_named", return_value=True), found)


def test_a_link_is_followed_where_it_is_not_refused(archive, tmp_path):
    path = archive / "data/project/Snakefile"
    shutil.move(path, tmp_path / "outside")
    path.symlink_to(tmp_path / "outside")
    followed = mock.patch.object(bag, "stat", SimpleNamespace(S_ISDIR=stat.S_ISDIR, S_ISREG=lambda _mode: True))
    opened = mock.patch.object(bag, "opened", lambda path: path.open("rb", buffering=0))
    assert believed(archive, followed, opened)


def test_an_image_with_a_layer_missing_is_believed_where_nothing_is_looked_for(archive):
    blob(archive, CONTENT.layers[1].digest).unlink()
    reannounced(archive)
    assert believed(rebagged(archive), mock.patch.object(archive_replay, "refuse_incomplete"))


def test_another_index_is_believed_where_documents_are_not_hashed(archive):
    body = blob(archive, INDEX.digest).read_bytes().replace(b"s390x", b"s390y")
    blob(archive, INDEX.digest).write_bytes(body)
    reannounced(archive)
    hashes = mock.patch.object(archive_replay, "_hold_blobs")
    assert believed(rebagged(archive), hashes, mock.patch.object(Digest, "matches", return_value=True))


def test_another_image_is_believed_where_the_record_does_not_say_which_ran(archive, tmp_path):
    [record] = (archive / "data/project/.snakemake/apptainer-freshness/runs").iterdir()
    record.write_bytes(record.read_bytes().replace(CONTENT.digest.encode(), EVIL.digest.encode()))
    manifest = mock.patch.object(archive_replay._Judge, "_complete", return_value="")
    assert believed(rebagged(archive), manifest)


def test_another_platforms_output_is_believed_where_the_platform_is_not_asked(archive):
    here = str(Platform.here())
    [record] = (archive / "data/project/.snakemake/apptainer-freshness/runs").iterdir()
    record.write_bytes(record.read_bytes().replace(f'"{here}"'.encode(), b'"linux/s390x"'))
    asked = mock.patch.object(Platform, "__str__", return_value="linux/s390x")
    assert believed(rebagged(archive), asked, mock.patch.object(archive_replay._Judge, "_complete", return_value=""))


def test_a_file_that_is_not_announced_is_taken_where_sizes_are_not_compared(archive):
    (archive / "data/images/evil").write_text("x")
    rebagged(archive)
    table = {name: size for name, size in bundle_folder._sizes(archive / "data/images") if name != "evil"}
    assert believed(archive, mock.patch.object(bundle_folder, "_sizes", return_value=table.items()))
