"""Each verification of a bundle is what stops its attack: with it taken away, the attack succeeds.

A refusal that is never seen to matter proves nothing; here each lets another image in once it is gone. With the real
Apptainer.
"""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest

from snakemake_apptainer_freshness.actions import pack, rebuild, unpack
from snakemake_apptainer_freshness.actions.bundle import BundleSelection, gather
from snakemake_apptainer_freshness.actions.pack import partial_of, save
from snakemake_apptainer_freshness.actions.prove import prove
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from tests.support import pins, sifs
from tests.support.attacks.bundles import CONTENT, EVIL, INDEX, with_ready
from tests.support.bundles import Place, TakenApart, entry_text, saved
from tests.support.digests import sha256
from tests.support.images import multi_arch
from tests.support.pins import lock_entry
from tests.support.proofs import Served, built, environment, pin_of


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    return Place.of_a_user(tmp_path, monkeypatch)


def is_evil(place, image) -> bool:
    """Whether the image that was put in place is made of the attacker's layers."""
    proof = prove(
        pin_of(EVIL),
        image,
        registry=Served(content=EVIL),
        environment=environment(place.folder.with_name("home")),
        remember=False,
    )
    return proof.state == "verified"


def succeeds(place, content, *patches) -> bool:
    """Whether another image is in place once the `patches` are; without them it is refused."""
    path = place.folder.with_name("hostile.tar")
    path.write_bytes(content)
    with pytest.raises(FreshnessError):
        place.load(path)
    for patch in patches:
        patch.start()
    try:
        [loaded] = place.load(path).images
    finally:
        for patch in patches:
            patch.stop()
    return is_evil(place, loaded.path)


def test_another_ready_image_comes_in_where_it_is_not_compared(tmp_path, place):
    bundle = TakenApart.of(saved(INDEX, tmp_path / "good"))
    evil = built(EVIL, tmp_path)
    believed = mock.patch.object(rebuild, "_proven", return_value=sha256(evil.read_bytes())[7:])

    assert succeeds(place, with_ready(bundle, evil.read_bytes()), believed)


def test_another_index_comes_in_where_documents_are_not_hashed(tmp_path, place, monkeypatch):
    bundle = TakenApart.of(saved(INDEX, tmp_path / "good"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))  # who has not hashed the index before
    bundle.put(bundle.position(INDEX.digest), multi_arch(EVIL, "s390x").manifest)
    for content in (EVIL.manifest, *EVIL.blobs):
        if sha256(content) not in str(bundle.table):
            bundle.add(content)

    assert succeeds(place, bundle.bytes, mock.patch.object(Digest, "matches", return_value=True))


def test_another_workflows_image_comes_in_where_the_committed_lock_does_not_count(tmp_path, place):
    place.folder.mkdir()
    place.lock.write_text(entry_text(CONTENT))
    hostile = saved(EVIL, tmp_path / "evil").read_bytes()

    assert succeeds(place, hostile, mock.patch.object(unpack, "read_lock", return_value=Lock()))


def test_another_sif_comes_in_where_blobs_are_not_hashed(tmp_path, place):
    content = sifs.pulled("", labels={})
    url = f"library://team/tool:sha256.{sha256(content)[7:]}"
    source = tmp_path / "source"
    source.mkdir()
    lock = source / "containers.lock"
    lock.write_text(dumps(Lock.of([lock_entry(url, sha256(content), media_type="application/vnd.sylabs.sif")])))
    pins.put(source, replace(pins.pin(), pinned=parse(url)), content)
    bundle = gather(lock, BundleSelection(prefix=source), registry=Served(content=CONTENT), advance=lambda _: None)
    save(bundle, source / "all.tar", lambda _: None)
    hostile = TakenApart.of(source / "all.tar")
    hostile.put(hostile.position(sha256(content)), built(EVIL, tmp_path).read_bytes())
    unchecked = mock.patch.object(rebuild, "checked", lambda pieces, *_, **__: pieces)

    assert succeeds(place, hostile.bytes, unchecked)


def test_bytes_swapped_in_an_unfinished_bundle_stay_where_what_is_there_is_not_hashed(tmp_path):
    good = saved(CONTENT, tmp_path / "good").read_bytes()
    layer = CONTENT.layers[-1].content
    there = bytearray(good[: good.index(layer) + len(layer) - 1])
    there[-3] ^= 1
    for folder in (tmp_path / "with", tmp_path / "without"):
        folder.mkdir()
        partial_of(folder / "all.tar").write_bytes(there)

    assert saved(CONTENT, tmp_path / "with").read_bytes() == good
    with mock.patch.object(pack, "_is_whole", return_value=True):
        assert saved(CONTENT, tmp_path / "without").read_bytes() != good
