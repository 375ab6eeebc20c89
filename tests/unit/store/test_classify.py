"""What evidence says of a pin, in DESIGN's words."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.apptainer import sif
from snakemake_apptainer_freshness.common.files import StatKey
from snakemake_apptainer_freshness.freshness import DiskState
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import PinKind
from snakemake_apptainer_freshness.store.classify import FoundFile, classify, known_by_stat, needs_hash
from snakemake_apptainer_freshness.store.facts import ContentFact, ProvenBy
from snakemake_apptainer_freshness.store.places import PlaceFact
from tests.support import sifs
from tests.support.pins import DIGEST, MANIFEST, OTHER, REPOSITORY, lock_entry, pin

SHA256 = "5a" * 32
KEY = StatKey(host="here", device=1, inode=2, size=3, mtime_ns=4, ctime_ns=5)
FACT = ContentFact(
    sha256=SHA256,
    size=3,
    digest=DIGEST,
    platform=Platform.parse("linux/amd64"),
    pinned=pin().url,
    reference=pin().reference.text,
    proven_by=ProvenBy.PULLED,
    proven_at="2026-01-02T03:04:05Z",
    apptainer="apptainer 1.4.5",
)
PLACE = PlaceFact.of(FACT)
SETTLED = replace(PLACE, stat=KEY)


def image(reference: str, **wanted) -> sif.Sif:
    return sif.read(io.BytesIO(sifs.pulled(reference, **wanted)))


BOUND = image(f"{REPOSITORY}@{DIGEST}")
FOUND = FoundFile(path="x.simg", sif=BOUND, stat=KEY, mode=0o100755)


def state(evidence: FoundFile, wanted: Pin | None = None) -> str:
    return classify(evidence, wanted or pin()).state


def test_no_file_is_absent():
    assert state(FoundFile(path="x.simg", exists=False)) == "absent"


def test_no_sound_sif_is_corrupt_whatever_is_recorded():
    broken = replace(FOUND, sif=None, problem="truncated", place=PLACE, fact=FACT, sha256=SHA256)
    assert classify(broken, pin()).state == "corrupt"
    assert classify(broken, pin()).detail == "truncated"


def test_the_recorded_hash_verifies():
    assert state(replace(FOUND, place=PLACE, fact=FACT, sha256=SHA256)) == "verified"


def test_another_hash_than_the_recorded_one_is_altered():
    assert state(replace(FOUND, place=PLACE, fact=FACT, sha256=OTHER.hex)) == "altered"


def test_a_label_never_verifies():
    assert state(FOUND) == "bound"
    assert state(replace(FOUND, sha256=SHA256)) == "bound"


def test_an_image_pulled_by_this_platforms_manifest_is_bound():
    assert state(replace(FOUND, sif=image(f"{REPOSITORY}@{MANIFEST}"))) == "bound"


def test_an_image_of_the_same_digest_from_another_repository_is_bound():
    assert state(replace(FOUND, sif=image(f"mirror.example.org/x@{DIGEST}"))) == "bound"


def test_an_image_pulled_by_another_digest_is_stale():
    assert state(replace(FOUND, sif=image(f"{REPOSITORY}@{OTHER}"))) == "stale"


def test_an_image_pulled_by_a_tag_is_unbound():
    assert state(replace(FOUND, sif=image(f"{REPOSITORY}:1.0"))) == "unbound"


def test_an_image_without_labels_is_unbound():
    assert state(replace(FOUND, sif=image("", labels={}))) == "unbound"


@pytest.mark.parametrize(
    ("version", "digest", "expected"),
    [
        ("1.5.0", DIGEST, "bound"),
        ("1.5.0", MANIFEST, "bound"),
        ("1.5.0", OTHER, "stale"),
        ("1.4.5", DIGEST, "unbound"),
        ("1.4.5", OTHER, "unbound"),
    ],
)
def test_a_base_digest_binds_or_refutes_from_apptainer_1_5_on(version, digest, expected):
    labels = sifs.labels_of(f"{REPOSITORY}:1.0", version=version, extra={sif.BASE_DIGEST: str(digest)})
    assert state(replace(FOUND, sif=image(f"{REPOSITORY}:1.0", labels=labels))) == expected


def test_an_image_for_another_machine_is_stale():
    wrong = image(f"{REPOSITORY}@{DIGEST}", architecture=sifs.ARM64)
    assert classify(replace(FOUND, sif=wrong), pin()).state == "stale"
    assert classify(replace(FOUND, sif=wrong), pin()).detail == "it is for arm64, the pin is for amd64"


def test_an_image_of_32_bit_programs_runs_on_a_64_bit_machine():
    assert state(replace(FOUND, sif=image(f"{REPOSITORY}@{DIGEST}", architecture=sifs.I386))) == "bound"


def test_a_fact_about_another_digest_or_platform_says_nothing():
    for other in (replace(FACT, digest=OTHER), replace(FACT, platform=Platform.parse("linux/arm64"))):
        assert state(replace(FOUND, place=PLACE, fact=other, sha256=SHA256)) == "bound"
        assert not needs_hash(replace(FOUND, place=PLACE, fact=other), pin())


def test_a_fact_about_the_manifest_proves_a_pin_to_that_manifest():
    of_index = replace(FACT, manifest=MANIFEST)
    assert state(replace(FOUND, candidates=(of_index,), sha256=SHA256), pin(MANIFEST)) == "verified"
    assert state(replace(FOUND, place=PLACE, fact=of_index, sha256=SHA256), pin(MANIFEST)) == "verified"


def test_a_manifest_that_only_the_lock_names_proves_nothing():
    of_manifest = replace(FACT, digest=MANIFEST)
    assert state(replace(FOUND, place=PLACE, fact=of_manifest, sha256=SHA256), pin()) == "bound"


def test_a_file_that_is_known_by_its_hash_is_verified_wherever_it_lies():
    moved = replace(FOUND, size=3, candidates=(replace(FACT, sha256=OTHER.hex), FACT))
    assert needs_hash(moved, pin())
    assert state(replace(moved, sha256=SHA256)) == "verified"


def test_a_file_of_a_size_that_no_known_image_has_is_not_hashed():
    assert not needs_hash(replace(FOUND, size=4, candidates=(FACT,)), pin())


def test_a_refuted_file_is_stale_whatever_its_label_says():
    refuted = replace(FACT, refuted="it holds other files")
    judged = classify(replace(FOUND, candidates=(refuted,), sha256=SHA256), pin())
    assert (judged.state, judged.detail) == ("stale", "it holds other files")


def test_what_no_pull_makes_is_stale_whatever_its_label_says():
    started_otherwise = replace(BOUND, launch=b"#!/bin/sh -c evil\n")
    assert state(replace(FOUND, sif=started_otherwise)) == "stale"


def test_an_untouched_file_is_verified_without_being_opened():
    known = replace(FOUND, sif=None, place=SETTLED, fact=FACT)
    assert known_by_stat(known, pin())
    assert state(known) == "verified"


@pytest.mark.parametrize("field", ["inode", "size", "mtime_ns", "ctime_ns", "device"])
def test_a_touched_file_is_not_known_by_its_stat_key(field):
    touched = replace(KEY, **{field: 99})
    assert not known_by_stat(replace(FOUND, stat=touched, place=SETTLED, fact=FACT), pin())


def test_another_hosts_device_number_means_nothing():
    elsewhere = replace(KEY, host="elsewhere", device=99)
    assert known_by_stat(replace(FOUND, stat=elsewhere, place=SETTLED, fact=FACT), pin())


@pytest.mark.parametrize("mode", [0o100777, 0o100666, 0o100757])
def test_what_anyone_may_write_proves_nothing(mode):
    open_to_all = replace(FOUND, mode=mode)
    assert state(open_to_all) == "unbound"
    assert state(replace(open_to_all, place=SETTLED, fact=FACT, sha256=SHA256)) == "unbound"
    assert state(replace(open_to_all, place=PLACE, fact=FACT, sha256=OTHER.hex)) == "altered"


def test_a_file_system_that_gives_every_file_that_mode_is_no_reason():
    place = replace(SETTLED, writable_by_all=True)
    assert state(replace(FOUND, mode=0o100777, place=place, fact=FACT, sif=None)) == "verified"


def test_a_content_digest_proves_or_refutes_by_itself():
    library = Pin(
        pinned=parse(f"library://team/tool:sha256.{SHA256}"),
        reference=parse("library://team/tool:1.0"),
        platform=Platform.parse("linux/amd64"),
        digest=DIGEST,
        content=replace(DIGEST, hex=SHA256),
    )
    plain = replace(FOUND, sif=image("", labels={}))
    assert needs_hash(plain, library)
    assert state(replace(plain, sha256=SHA256), library) == "verified"
    assert state(replace(plain, sha256=OTHER.hex), library) == "stale"
    assert state(plain, library) == "unbound"


def test_the_labels_of_an_image_that_was_not_built_from_docker_say_nothing():
    oras = replace(pin(), pinned=parse(f"oras://{REPOSITORY}@{DIGEST}"))
    assert state(FOUND, oras) == "unbound"


def test_a_pin_is_made_from_a_lock_entry():
    locked = lock_entry("docker://quay.io/team/tool:1.0", DIGEST, {"linux/amd64": MANIFEST})
    index = Pin.of(locked, platform=Platform.parse("linux/amd64"))
    assert index == pin()
    platform = Pin.of(locked, platform=Platform.parse("linux/amd64"), kind=PinKind.PLATFORM)
    assert (platform.url, platform.digest, platform.manifest) == (
        f"docker://quay.io/team/tool@{MANIFEST}",
        MANIFEST,
        MANIFEST,
    )


def test_a_library_pin_names_the_content():
    locked = lock_entry("library://team/tool:1.0", DIGEST)
    wanted = Pin.of(locked, platform=Platform.parse("linux/amd64"))
    assert wanted.content == DIGEST
    assert wanted.url == f"library://team/tool:sha256.{DIGEST.hex}"


def test_every_word_has_a_test_here():
    assert {"verified", "bound", "unbound", "stale", "altered", "corrupt", "absent"} == {s.value for s in DiskState}
