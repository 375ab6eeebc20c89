"""What is told of one file, once as proven and once as not; a label is a claim however good."""

import hashlib

import pytest

from snakemake_apptainer_freshness.actions.inspect import inspect, what_next
from snakemake_apptainer_freshness.actions.survey import LockedPins
from snakemake_apptainer_freshness.freshness import DiskState
from tests.support import pins, sifs
from tests.support.pins import DIGEST, REPOSITORY, lock_entry, pin

NOTHING = LockedPins()
LOCKED = LockedPins.of([lock_entry(f"docker://{REPOSITORY}:1.0", DIGEST)])
SOUND = "It is a sound SIF: all its parts lie within the file."


@pytest.fixture
def image(tmp_path):
    return pins.put(tmp_path, pin())


def write(path, content):
    path.write_bytes(content)
    return path


def test_a_proven_image_leaves_nothing_open(image):
    known = pins.record(image, pin())
    found = inspect(image, LOCKED)

    assert found.image.fact.state is DiskState.VERIFIED
    assert found.proven == (
        SOUND,
        "Its bytes have not changed since they were recorded on 2026-01-02T03:04:05Z.",
        f"They are what {DIGEST} names: pulled by digest with apptainer 1.4.5.",
    )
    assert (found.unproven, found.record, found.sha256) == ((), known, known.sha256)
    assert found.locked is LOCKED.pins[0]
    assert what_next(found.image) == ""


def test_a_label_alone_is_a_claim(image):
    found = inspect(image, LOCKED)
    assert (found.image.fact.state, found.proven) == (DiskState.BOUND, (SOUND,))
    assert "a user who may write the file may write the label" in found.unproven[0]
    assert found.sha256 == hashlib.sha256(image.read_bytes()).hexdigest()
    assert "verify --deep" in what_next(found.image)


def test_an_image_that_has_changed_is_said_to_be_something_unknown(image):
    pins.record(image, pin())
    pins.flip_seven_bytes(image)
    found = inspect(image, LOCKED)
    assert found.image.fact.state is DiskState.ALTERED
    assert found.proven[1].startswith("It has changed: ")
    assert "What it is now." in found.unproven
    assert what_next(found.image) == f"fetch a proven one by its digest: {pin().url}"


def test_another_image_under_the_name_is_said_to_be_one(tmp_path):
    image = pins.put(tmp_path, pin(), sifs.pulled(f"{REPOSITORY}@{pins.OTHER}"))
    found = inspect(image, LOCKED)
    assert found.image.fact.state is DiskState.STALE
    assert found.proven[1].startswith(f"It is another image than {pin().url}: ")


def test_nothing_of_a_damaged_file_is_believed(tmp_path):
    found = inspect(write(tmp_path / "half.sif", sifs.pulled(f"{REPOSITORY}@{DIGEST}")[:5000]), NOTHING)
    assert (found.content, found.labels, found.signed, found.locked) == (None, {}, False, None)
    assert found.proven[0].startswith("It is not a sound image: ")
    assert found.unproven == ("Anything else: what it says cannot be believed.",)


def test_a_file_that_is_not_there_has_no_hash(tmp_path):
    found = inspect(tmp_path / "none", NOTHING)
    assert (found.image.fact.state, found.sha256) == (DiskState.ABSENT, "")


def test_an_image_of_a_tag_can_be_anything(tmp_path):
    found = inspect(write(tmp_path / "tool.sif", sifs.pulled("alpine:3")), NOTHING)
    assert found.image.fact.state is DiskState.UNBOUND
    assert found.unproven[0].startswith("Which digest it is: it was pulled by a tag, alpine:3")
    assert "apptainer-freshness resolve" in what_next(found.image)


def test_labels_are_those_that_tell_what_it_is(tmp_path):
    labels = sifs.labels_of("alpine:3", extra={"maintainer": "me", "software": "", "build": "x"})
    found = inspect(write(tmp_path / "tool.sif", sifs.pulled("alpine:3", labels=labels)), NOTHING)
    assert found.labels == {"maintainer": "me"}


def test_a_file_that_others_would_get_too_is_said_to_claim_that(tmp_path):
    same = inspect(write(tmp_path / "same.sif", sifs.pulled("alpine:3", image_id=bytes(16))), NOTHING)
    own = inspect(write(tmp_path / "own.sif", sifs.pulled("alpine:3")), NOTHING)
    said = [any("That others get the same file" in one for one in each.unproven) for each in (same, own)]
    assert said == [True, False]
