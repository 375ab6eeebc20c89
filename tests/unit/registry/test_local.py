"""Files of this machine, and sources without a digest."""

import hashlib
import json
import subprocess
import sys

import pytest

from snakemake_apptainer_freshness.errors import InvalidReference, LocalIOError, Unpinnable, Unpullable
from snakemake_apptainer_freshness.freshness import RemoteState
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Lock, dumps, loads
from snakemake_apptainer_freshness.registry.local import FileSource
from snakemake_apptainer_freshness.registry.resolver import Resolver
from snakemake_apptainer_freshness.settings import LIMITS
from tests.support.digests import sha256
from tests.support.lab import manifest

SOURCE = FileSource(limits=LIMITS)


def resolve(text):
    return SOURCE.resolve(parse(text))


def check(entry):
    return SOURCE.check(entry.reference, entry).state


@pytest.mark.parametrize("prefix", ["", "docker-archive:", "oci-archive:"])
def test_a_file_is_pinned_by_its_content(tmp_path, prefix):
    path = tmp_path / "x.sif"
    path.write_bytes(b"one")
    entry = resolve(f"{prefix}{path}")
    assert str(entry.digest) == "sha256:" + hashlib.sha256(b"one").hexdigest()
    assert entry.pinned.text == entry.reference.text
    assert loads(dumps(Lock.of([entry]))) == Lock.of([entry])
    assert check(entry) is RemoteState.CURRENT
    path.write_bytes(b"two")
    assert check(entry) is RemoteState.MOVED
    path.unlink()
    assert check(entry) is RemoteState.LOST


def test_an_archive_may_name_a_tag(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(b"one")
    assert str(resolve(f"docker-archive:{path}:latest").digest) == "sha256:" + hashlib.sha256(b"one").hexdigest()


def test_a_sandbox_is_unpinnable(tmp_path):
    with pytest.raises(Unpinnable, match="sandbox"):
        resolve(str(tmp_path))


@pytest.mark.parametrize("text", ["shub://vsoch/hello", "docker-daemon:tool:latest"])
def test_what_has_no_digest_is_unpinnable(text):
    with pytest.raises(Unpinnable, match="cannot be pinned"):
        resolve(text)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LocalIOError, match="absent"):
        resolve(str(tmp_path / "absent.sif"))


def test_a_file_that_cannot_be_read_is_an_error_and_not_lost(tmp_path):
    path = tmp_path / "x.sif"
    path.write_bytes(b"one")
    entry = resolve(str(path))
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(LocalIOError):
        check(entry)


def layout(folder, *bodies):
    (folder / "blobs/sha256").mkdir(parents=True)
    entries = []
    for body in bodies:
        digest = sha256(body)
        (folder / "blobs/sha256" / digest.removeprefix("sha256:")).write_bytes(body)
        media_type = "application/vnd.oci.image.manifest.v1+json"
        entries.append({"mediaType": media_type, "digest": digest, "size": len(body)})
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}), encoding="utf-8")
    return f"oci:{folder}"


def test_a_layout_with_one_image_is_pinned_by_its_manifest(tmp_path):
    entry = resolve(layout(tmp_path / "l", manifest(1)))
    assert str(entry.digest) == sha256(manifest(1))
    assert check(entry) is RemoteState.CURRENT


def test_a_layout_with_two_images_needs_a_digest(tmp_path):
    text = layout(tmp_path / "l", manifest(1), manifest(2))
    with pytest.raises(Unpullable, match="2 images"):
        resolve(text)
    assert str(resolve(f"{text}@{sha256(manifest(2))}").digest) == sha256(manifest(2))


def test_a_layout_whose_manifest_is_damaged_is_refused(tmp_path):
    text = layout(tmp_path / "l", manifest(1))
    (tmp_path / "l/blobs/sha256" / sha256(manifest(1)).removeprefix("sha256:")).write_bytes(manifest(2))
    with pytest.raises(Unpullable, match="damaged"):
        resolve(text)


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    "cid",
    [
        "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n",
        "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
        "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
    ],
)
def test_an_ipfs_address_is_its_own_pin(cid):
    entry = resolve(f"ipfs://{cid}")
    assert str(entry.digest) == f"sha256:{EMPTY}"
    assert entry.pinned.text == f"ipfs://{cid}"
    assert check(entry) is RemoteState.CURRENT


@pytest.mark.parametrize("cid", ["Qm", "bafy", "Qm" + "0" * 44, "b" + "1" * 58, "x" * 60, "Qm" + "z" * 60])
def test_what_is_no_ipfs_address_is_refused(cid):
    with pytest.raises(InvalidReference, match="IPFS"):
        resolve(f"ipfs://{cid}")


def test_local_files_need_no_network_library(tmp_path):
    path = tmp_path / "x.sif"
    path.write_bytes(b"one")
    code = (
        "import sys\n"
        "from snakemake_apptainer_freshness.registry.resolver import resolve\n"
        f"resolve({str(path)!r})\n"
        "assert not {'httpx', 'httpcore', 'tenacity', 'ssl'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_resolver_answers_for_files_too(tmp_path):
    path = tmp_path / "x.sif"
    path.write_bytes(b"one")
    with Resolver() as resolver:
        ((_, entry),) = resolver.resolve([parse(str(path))])
        ((_, fact),) = resolver.check([entry])
    assert fact.state is RemoteState.CURRENT


@pytest.mark.parametrize(
    ("text", "hint"), [("quay.io/x/y:1", "did you mean docker://quay.io/x/y:1?"), ("x/y.sif", "check the path")]
)
def test_a_file_that_is_not_there_and_looks_like_a_reference_gets_the_one_that_was_meant(
    tmp_path, monkeypatch, text, hint
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LocalIOError) as caught:
        resolve(text)

    assert caught.value.hint == hint
