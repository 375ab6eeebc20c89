"""Attacks through the archive of an audit, one test each: what is said of it was checked, and nothing outside is read.

Each starts from a good archive and changes one thing; where an attacker would, the lists of checksums are changed with
it, for every user can write them.
"""

from __future__ import annotations

import json
import os
import shutil

import pytest

from snakemake_apptainer_freshness.errors import FreshnessError, InvalidArchive, InvalidBundle, UsageError
from snakemake_apptainer_freshness.record import seal
from snakemake_apptainer_freshness.record.journal import read_all
from snakemake_apptainer_freshness.store.bag import Bag
from tests.support import archives, ssh
from tests.support.archives import answers, blob, reannounced, rebagged, retagged
from tests.support.attacks.bundles import CONTENT, EVIL, INDEX
from tests.support.bundles import Place, entry_text
from tests.support.digests import sha256

BLOBS = [INDEX.digest, CONTENT.digest, sha256(CONTENT.config), CONTENT.layers[1].digest]
OF_BLOBS = pytest.mark.parametrize("digest", BLOBS, ids=["index", "manifest", "configuration", "layer"])


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return archives.archived(tmp_path_factory.mktemp("good"), INDEX)


@pytest.fixture
def archive(good, tmp_path, monkeypatch):
    """A copy to be changed, at another user's, who knows nothing of its images."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
    return archives.copied(good, tmp_path / "archive")


def refused(archive, reason, kind=InvalidArchive):
    with pytest.raises(kind, match=reason):
        archives.replayed(archive)


def test_the_good_one_says_yes(archive):
    assert answers(archive) == {
        "plain.txt": (True, "its rule needs no image"),
        "result.txt": (True, "all that its image is made of is here, and proven"),
    }


# --- Checksums and what is missing -----------------------------------------------------------------------------------


@OF_BLOBS
def test_a_flipped_byte_in_a_blob(archive, digest):
    path = blob(archive, digest)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    refused(archive, "has another SHA-256 than manifest-sha256.txt says")


@OF_BLOBS
def test_a_flipped_byte_in_a_blob_whose_checksum_was_changed_with_it(archive, digest):
    path = blob(archive, digest)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    refused(rebagged(archive), f"what is there as {digest[:14]}.* is something else")


@OF_BLOBS
def test_a_missing_blob(archive, digest):
    blob(archive, digest).unlink()
    refused(archive, "it lacks data/images/blobs")


@OF_BLOBS
def test_a_missing_blob_that_no_list_names(archive, digest):
    """Everything fits; only the digest in the lock leads to what is not there."""
    blob(archive, digest).unlink()
    reannounced(archive)
    rebagged(archive)
    assert answers(archive)["result.txt"][0] is False
    assert "its image is not whole in the archive" in answers(archive)["result.txt"][1]


def test_a_missing_blob_that_the_table_of_contents_announces(archive):
    blob(archive, CONTENT.layers[1].digest).unlink()
    refused(rebagged(archive), "is not there with the announced size", InvalidBundle)


def test_a_flipped_byte_in_a_record(archive):
    [record] = (archive / "data/project/.snakemake/apptainer-freshness/runs").iterdir()
    record.write_bytes(record.read_bytes().replace(b"login1", b"login2"))
    refused(archive, "runs/.* has another SHA-256")


@pytest.mark.parametrize("name", ["manifest-sha256.txt", "tagmanifest-sha256.txt", "bagit.txt"])
def test_a_list_that_is_gone(archive, name):
    (archive / name).unlink()
    refused(archive, f"lacks {name}|does not say that it is a bag|cannot be used")


def test_a_manifest_that_was_changed_without_its_own_checksum(archive):
    manifest = archive / "manifest-sha256.txt"
    manifest.write_text(manifest.read_text().replace("0", "1"))
    refused(archive, "manifest-sha256.txt has another SHA-256")


def test_a_last_list_that_leaves_the_manifest_out(archive):
    manifest, tags = archive / "manifest-sha256.txt", archive / "tagmanifest-sha256.txt"
    manifest.write_text("")
    tags.write_text("".join(line for line in tags.read_text().splitlines(keepends=True) if " manifest-" not in line))
    refused(archive, "does not list manifest-sha256.txt")


def test_a_file_that_no_list_names(archive):
    (archive / "data/project/evil.sh").write_text("x")
    refused(archive, "holds 'data/project/evil.sh', which manifest-sha256.txt does not list")


def test_an_archive_that_was_stopped_before_it_was_whole(archive):
    (archive / "tagmanifest-sha256.txt").unlink()
    refused(archive, "without which it is not whole")


def test_files_that_are_to_be_fetched_from_the_web(archive):
    (archive / "fetch.txt").write_text("http://169.254.169.254/latest/meta-data 100 data/project/x\n")
    refused(archive, "fetch.txt names files that are elsewhere")


def test_a_huge_list(archive):
    with (archive / "manifest-sha256.txt").open("r+b") as out:
        out.truncate(1 << 36)
    refused(archive, "is larger than")


# --- Path tricks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/passwd",
        "data/../../evil",
        "data/project/../../../evil",
        "data//evil",
        "data/./evil",
        "~/.ssh/id_rsa",
        "data/%2e%2e/%2e%2e/evil",
        "data/a\x00b",
        "data/a\x1b[2Jb",
        "data/trailing ",
        "elsewhere/evil",
    ],
)
def test_a_path_that_leads_out(archive, name):
    manifest = archive / "manifest-sha256.txt"
    manifest.write_text(f"{manifest.read_text()}{'0' * 64}  {name}\n")
    refused(retagged(archive), "no path within the archive|not in data/|no SHA-256 and path")


def test_a_path_that_leads_out_as_the_name_of_a_file_that_describes_the_archive(archive):
    tags = archive / "tagmanifest-sha256.txt"
    tags.write_text(f"{tags.read_text()}{'0' * 64}  ../../etc/passwd\n")
    refused(archive, "no path within the archive")


def test_a_path_that_is_listed_twice(archive):
    manifest = archive / "manifest-sha256.txt"
    manifest.write_text(manifest.read_text() + manifest.read_text().splitlines(keepends=True)[0])
    refused(retagged(archive), "twice")


@pytest.mark.parametrize("where", ["data/project/Snakefile", "data/archive.json", "data/images/bundle.json"])
def test_a_symbolic_link_in_the_place_of_a_file(archive, tmp_path, where):
    secret = tmp_path / "secret"
    shutil.copyfile(archive / where, secret)
    (archive / where).unlink()
    (archive / where).symlink_to(secret)
    refused(archive, f"holds '{where}', which is a link or a device")


def test_a_symbolic_link_in_the_place_of_a_blob(archive, tmp_path):
    path = blob(archive, CONTENT.layers[0].digest)
    shutil.move(path, tmp_path / "outside")
    path.symlink_to(tmp_path / "outside")
    refused(archive, "which is a link or a device")


@pytest.mark.parametrize("name", ["data", "data/images", "data/images/blobs/sha256", "data/project"])
def test_a_symbolic_link_in_the_place_of_a_folder(archive, tmp_path, name):
    shutil.move(archive / name, tmp_path / "outside")
    (archive / name).symlink_to(tmp_path / "outside")
    refused(archive, "is a link or a device|data is no folder")


@pytest.mark.parametrize("name", ["bagit.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt"])
def test_a_symbolic_link_in_the_place_of_a_list(archive, tmp_path, name):
    shutil.move(archive / name, tmp_path / "outside")
    (archive / name).symlink_to(tmp_path / "outside")
    refused(archive, f"{name} is a symbolic link")


def test_a_fifo_that_makes_whoever_reads_it_wait(archive):
    path = archive / "data/project/Snakefile"
    path.unlink()
    os.mkfifo(path)
    refused(archive, "which is a link or a device")


def test_a_hostile_name_of_an_output_moves_no_cursor(archive, capsys):
    from snakemake_apptainer_freshness import cli

    announced = {"path": "\x1b[2Jevil\n\tno", "inputs": []}
    archives.announced(archive, output=[announced])
    rebagged(archive)
    cli.run(["audit", "--replay", str(archive)])
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 100_000, b'{"version": 1}', b'{"version": "1"}', b"\xff"])
def test_a_table_of_outputs_that_is_none(archive, content):
    (archive / "data/archive.json").write_bytes(content)
    refused(rebagged(archive), "archive.json is damaged")


def test_a_table_of_a_newer_version(archive):
    archives.announced(archive, version=2)
    refused(rebagged(archive), "has version 2; this program knows version 1")


# --- Other content ---------------------------------------------------------------------------------------------------


def test_another_image_with_a_lock_of_its_own(archive, tmp_path):
    """The whole bundle is exchanged, and all fits; only the record says what ran."""
    hostile = archives.archived(tmp_path / "hostile", EVIL)
    shutil.rmtree(archive / "data/images")
    shutil.copytree(hostile / "data/images", archive / "data/images")
    possible, why = answers(rebagged(archive))["result.txt"]
    assert (possible, why.startswith("it was made with sha256:")) == (False, True)


def test_another_image_under_the_right_lock(archive, tmp_path):
    hostile = archives.archived(tmp_path / "hostile", EVIL)
    shutil.rmtree(archive / "data/images")
    shutil.copytree(hostile / "data/images", archive / "data/images")
    (archive / "data/images/containers.lock").write_text(entry_text(INDEX))
    reannounced(archive)
    possible, why = answers(rebagged(archive))["result.txt"]
    assert (possible, "not whole in the archive" in why) == (False, True)


def test_an_index_that_leads_to_another_manifest_than_the_one_that_ran(archive):
    [record] = (archive / "data/project/.snakemake/apptainer-freshness/runs").iterdir()
    record.write_bytes(record.read_bytes().replace(CONTENT.digest.encode(), EVIL.digest.encode()))
    possible, why = answers(rebagged(archive))["result.txt"]
    assert (possible, "its digest leads to" in why) == (False, True)


def sealed(archive, tmp_path):
    """The archive with its record sealed, and the file that allows the signer."""
    key = ssh.key(tmp_path / "keys")
    allowed = ssh.allowed(tmp_path / "keys", ada=key)
    [run] = read_all(archive / "data/project")
    seal.sign(run, key)
    rebagged(archive)
    return allowed


def test_records_that_were_made_anew_are_not_believed_where_signers_are_named(archive, tmp_path):
    allowed = sealed(archive, tmp_path)
    assert archives.replayed(archive, allowed=allowed).possible is True

    [record] = (archive / "data/project/.snakemake/apptainer-freshness/runs").glob("*.json")
    record.write_bytes(record.read_bytes().replace(b"login1", b"login2"))
    rebagged(archive)
    found = archives.replayed(archive, allowed=allowed)
    assert {one.why.partition(" of ")[0] for one in found.outputs} == {"the record"}
    assert found.possible is False


def test_records_without_a_seal_are_not_believed_where_signers_are_named(archive, tmp_path):
    allowed = sealed(archive, tmp_path)
    [one] = (archive / "data/project/.snakemake/apptainer-freshness/runs").glob("*.sig")
    one.unlink()
    found = archives.replayed(rebagged(archive), allowed=allowed)
    assert {one.why.partition(" vouches")[0] for one in found.outputs} == {"no seal of an allowed signer"}


# --- Loading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", ["layer", "link", "lock", "more"])
def test_nothing_is_loaded_from_a_hostile_archive(archive, tmp_path, attack):
    """Whatever its lists say; for each, nothing gets a name that a run would use."""
    layer_path = blob(archive, CONTENT.layers[0].digest)
    if attack == "layer":
        layer_path.write_bytes(layer_path.read_bytes()[:-1] + b"?")
    elif attack == "link":
        shutil.move(layer_path, tmp_path / "outside")
        layer_path.symlink_to(tmp_path / "outside")
    elif attack == "lock":
        (archive / "data/images/containers.lock").write_text(entry_text(EVIL))
        reannounced(archive)
    else:
        (archive / "data/images/evil").write_text("x")
    rebagged(archive)
    place = Place(folder=tmp_path / "target")
    place.folder.mkdir()
    with pytest.raises(FreshnessError):
        place.load(archive / "data/images")
    assert place.put == []


# --- Writing one -----------------------------------------------------------------------------------------------------


def test_a_record_that_names_a_private_key_as_the_lock(tmp_path):
    work = tmp_path / "work"
    archives.project(work, INDEX)
    (tmp_path / "id_rsa").write_text("secret")
    [record] = (work / ".snakemake/apptainer-freshness/runs").iterdir()
    record.write_bytes(
        record.read_bytes().replace(str(work / "containers.lock").encode(), str(tmp_path / "id_rsa").encode())
    )
    with pytest.raises(UsageError, match="lies outside of"):
        archives.written(work, archives.request(tmp_path / "archive"), INDEX)
    assert not (tmp_path / "archive").exists()


def test_a_link_in_the_work_directory_does_not_lead_out(tmp_path):
    work = tmp_path / "work"
    archives.project(work, INDEX)
    (tmp_path / "secret").write_text("secret")
    (work / "inputs").mkdir()
    (work / "inputs" / "link").symlink_to(tmp_path / "secret")
    (work / "inputs" / "folder").symlink_to(tmp_path)
    made = archives.written(work, archives.request(tmp_path / "archive", work / "inputs"), INDEX)
    assert not (tmp_path / "archive/data/project/inputs").exists()
    [left] = [note for note in made.notes if "no regular file" in note]
    assert "inputs/folder" in left
    assert "inputs/link" in left


def test_a_file_that_leads_out_cannot_be_named(tmp_path):
    work = tmp_path / "work"
    archives.project(work, INDEX)
    (tmp_path / "secret").write_text("secret")
    (work / "link").symlink_to(tmp_path / "secret")
    for path in (work / "link", work / ".." / "secret", tmp_path / "secret"):
        with pytest.raises(UsageError, match="lies outside of"):
            archives.written(work, archives.request(tmp_path / "archive", path), INDEX)


@pytest.mark.parametrize("name", ["archive", "archive.partial"])
def test_a_folder_of_somebody_else_is_not_written_into(tmp_path, name):
    archives.project(tmp_path / "work", INDEX)
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.tex").write_text("mine")
    with pytest.raises(InvalidArchive, match="something else is"):
        archives.written(tmp_path / "work", archives.request(tmp_path / "archive"), INDEX)
    assert [path.name for path in (tmp_path / name).iterdir()] == ["thesis.tex"]


def test_a_link_that_waits_where_the_archive_is_written(tmp_path):
    archives.project(tmp_path / "work", INDEX)
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "thesis.tex").write_text("mine")
    partial = tmp_path / "archive.partial"
    partial.mkdir()
    (partial / "bagit.txt").write_text("BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")
    (partial / "data").symlink_to(tmp_path / "victim")
    with pytest.raises(InvalidArchive, match="it is a link, or not yours"):
        archives.written(tmp_path / "work", archives.request(tmp_path / "archive"), INDEX)
    assert [path.name for path in (tmp_path / "victim").iterdir()] == ["thesis.tex"]


def test_an_archive_of_another_work_directory_is_not_replaced(good, tmp_path):
    target = archives.copied(good, tmp_path / "archive")
    archives.project(tmp_path / "work", INDEX)
    with pytest.raises(InvalidArchive, match="the one that is there is of"):
        archives.written(tmp_path / "work", archives.request(target), INDEX)
    assert json.loads(Bag.of(target).path("archive.json").read_text())["version"] == 1
