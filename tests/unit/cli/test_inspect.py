"""``apptainer-freshness inspect``."""

import hashlib
import os
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import pins, sifs


def test_a_recorded_image_is_proven_and_nothing_is_left_open(good):
    answer = good.run("inspect", image_path(good.prefix, pins.pin().url), "--json")

    assert answer.status == 0
    assert (answer.json["state"], answer.json["locked"]) == ("verified", pins.pin().reference.text)
    assert answer.json["record"]["digest"] == answer.json["digest"] == str(pins.DIGEST)
    assert len(answer.json["proven"]) == 3
    assert answer.json["unproven"] == []
    assert answer.json["sha256"] == answer.json["record"]["sha256"]


def test_a_bound_image_is_a_finding_and_its_label_is_called_a_claim(place):
    Path("tool.sif").write_bytes(sifs.pulled(f"{pins.REPOSITORY}@{pins.DIGEST}"))
    answer = place.run("inspect", "tool.sif")

    assert answer.status == 1
    assert "Not proven" in answer.out
    assert "a user who may write the file may write the label" in answer.out
    assert f"pulled as     {pins.REPOSITORY}@{pins.DIGEST}" in answer.out
    assert "built by      apptainer 1.4.5" in answer.out
    assert "record        nothing is known of it" in answer.out


def test_the_sha256_is_told_and_whether_others_can_compare_theirs_which_is_a_claim(place):
    for name, identifier in (("own.sif", sifs.IDENTIFIER), ("same.sif", bytes(16))):
        Path(name).write_bytes(sifs.pulled(f"{pins.REPOSITORY}@{pins.DIGEST}", image_id=identifier))
    own, same = (place.run("inspect", name, "--json").json for name in ("own.sif", "same.sif"))

    assert (own["reproducible"], same["reproducible"]) == (False, True)
    assert own["sha256"] == hashlib.sha256(Path("own.sif").read_bytes()).hexdigest()
    assert any("That others get the same file" in sentence for sentence in same["unproven"])
    assert same["state"] == "bound"
    text = place.run("inspect", "own.sif").out
    assert f"SHA-256       {own['sha256']}" in text
    assert "reproducible  no: it has times and an identifier of its own" in text


def test_labels_that_tell_what_it_is_are_shown_and_apptainers_own_are_not(place):
    labels = sifs.labels_of("quay.io/a/b:1", extra={"org.opencontainers.image.version": "1.10\x1b[2J", "build": "x"})
    Path("tool.sif").write_bytes(sifs.pulled("quay.io/a/b:1", labels=labels))
    answer = place.run("inspect", "tool.sif")

    assert "labels        org.opencontainers.image.version = 1.10" in answer.out
    assert "deffile" not in answer.out
    assert "\x1b" not in answer.out


def test_a_damaged_file_is_a_finding_and_nothing_it_says_is_believed(place):
    Path("tool.sif").write_bytes(sifs.pulled()[:-100])
    answer = place.run("inspect", "tool.sif", "--json")

    assert (answer.status, answer.json["state"], answer.json["builder"]) == (1, "corrupt", None)
    assert answer.json["labels"] == {}


def test_a_record_beside_the_image_changes_nothing(good):
    image = image_path(good.prefix, pins.pin().url)
    before = good.run("inspect", image, "--json").json
    image.with_name(image.name + ".freshness.json").write_text("{")

    assert good.run("inspect", image, "--json").json == before


def test_a_link_is_followed_since_a_person_gave_it(good):
    Path("link.sif").symlink_to(image_path(good.prefix, pins.pin().url))

    assert good.run("inspect", "link.sif", "--json").json["state"] == "verified"


def test_a_fifo_is_not_waited_for(place):
    os.mkfifo("pipe.sif")

    assert "not a file but a FIFO" in place.run("inspect", "pipe.sif").out


@pytest.mark.parametrize("path", ["gone.sif", "."])
def test_what_is_no_file_is_wrong_use(place, path):
    assert place.run("inspect", path).status == 2


def test_a_damaged_lock_is_one_clear_message(place):
    Path("tool.sif").write_bytes(sifs.pulled())
    Path("containers.lock").write_text("[")
    answer = place.run("inspect", "tool.sif")

    assert answer.status == 2
    assert answer.err.startswith("error: cannot use the lock file")
