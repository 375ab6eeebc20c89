"""``apptainer-freshness pull``."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from snakemake_apptainer_freshness.store import facts
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import pins
from tests.support.pins import entry_of

OTHER = "docker://quay.io/team/other"


def two(place):
    """A lock of two images, both of which the fake Apptainer has."""
    from dataclasses import replace

    first = pins.pin()
    second = replace(
        first, reference=parse(f"{OTHER}:2"), pinned=parse(f"{OTHER}@{pins.OTHER}"), digest=pins.OTHER, manifest=None
    )
    Path("containers.lock").write_text(dumps(Lock.of([entry_of(first), entry_of(second)])))
    place.fake.serve(first)
    place.fake.serve(second)
    return first, second


def test_every_image_of_the_lock_is_fetched_a_line_each(place):
    wanted = two(place)
    answer = place.run("pull")

    assert answer.status == 0
    assert sorted(answer.rows) == sorted(["pulled", pin.reference.text, "pulled by digest"] for pin in wanted)
    assert all(image_path(place.prefix, pin.url).exists() for pin in wanted)


def test_what_is_there_is_kept(place):
    two(place)
    place.run("pull")
    pulled = place.fake.pulls
    answer = place.run("pull")

    assert [row[0] for row in answer.rows] == ["kept", "kept"]
    assert place.fake.pulls == pulled


@pytest.mark.parametrize("text", [f"{OTHER}:2", f"{OTHER}@{pins.OTHER}"])
def test_only_the_references_that_are_given_are_fetched(place, text):
    two(place)
    assert [row[1] for row in place.run("pull", text).rows] == [f"{OTHER}:2"]


def test_another_spelling_of_a_reference_of_the_lock_is_understood(place):
    from dataclasses import replace

    wanted = replace(
        pins.pin(),
        reference=parse("docker://alpine:3"),
        pinned=parse(f"docker://docker.io/library/alpine@{pins.DIGEST}"),
    )
    place.lock(wanted)
    place.fake.serve(wanted)

    assert place.run("pull", "docker://docker.io/library/alpine:3").rows[0][:2] == ["pulled", "docker://alpine:3"]


@pytest.mark.parametrize(
    ("text", "says"),
    [("docker://quay.io/team/othr:2", "did you mean docker://quay.io/team/other:2?"), ("docker://BAD", "BAD")],
)
def test_a_reference_that_the_lock_lacks_is_wrong_use(place, text, says):
    two(place)
    answer = place.run("pull", text)

    assert answer.status == 2
    assert says in answer.err
    assert place.fake.pulls == []


def test_one_failure_stops_no_other_and_json_has_both(place):
    first, second = two(place)
    place.fake.behave('case "$url" in *other*) echo unauthorized; exit 1;; esac; cp "$image" "$destination"')
    answer = place.run("pull", "--json")

    assert answer.status == 3
    assert {one["reference"]: one["action"] for one in answer.json["image"]} == {
        first.reference.text: "pulled",
        second.reference.text: "failed",
    }
    assert [one["reference"] for one in answer.json["error"]] == [second.reference.text]
    assert "log in with" in answer.err


def test_what_came_and_is_not_the_image_is_a_finding(place):
    place.lock(pins.pin())
    place.fake.serve(pins.pin(), b"not a SIF")

    assert place.run("pull").status == 1
    assert not image_path(place.prefix, pins.pin().url).exists()


def test_the_image_of_pin_platform_is_fetched_where_that_is_asked_for(place):
    place.lock(pins.pin())
    place.run("pull", "--pin", "platform")

    assert place.fake.pulls[0] == f"docker://{pins.REPOSITORY}@{pins.MANIFEST}"


def test_the_image_folder_is_made(place):
    two(place)
    answer = place.run("pull", "--prefix", "new/images", "--json")

    assert answer.json["prefix"] == str(place.folder / "new/images")
    assert len(list(Path("new/images").glob("*.simg"))) == 2


def test_without_apptainer_nothing_is_fetched_and_that_is_said(place, monkeypatch):
    two(place)
    monkeypatch.setenv("PATH", "/nowhere")
    answer = place.run("pull")

    assert answer.status == 2
    assert "neither apptainer nor singularity is on PATH" in answer.err


@pytest.mark.parametrize("arguments", [["--jobs", "0"], ["--pin", "none"], ["--lockfile", "gone"]])
def test_wrong_use_is_told(place, arguments):
    two(place)
    assert place.run("pull", *arguments).status == 2


def test_without_a_lock_there_is_nothing_to_fetch(place):
    answer = place.run("pull")

    assert answer.status == 2
    assert "there is no lock file here" in answer.err


def test_ctrl_c_leaves_nothing_half_written(place):
    place.lock(pins.pin())
    place.fake.behave('echo half > "$destination"; touch started; sleep 60')
    code = "from snakemake_apptainer_freshness.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "pull"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    deadline = time.monotonic() + 20
    while not Path("started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)

    assert process.returncode == 130
    assert "Traceback" not in err
    assert [path for path in place.prefix.iterdir() if ".freshness-claim-" not in path.name] == []


@pytest.fixture
def shelf(place):
    """A library that no machine names, with the image of a lock, of which it is known what it is."""
    folder = place.folder.parent / "shelf"
    folder.mkdir()
    place.lock(pins.pin())
    content = place.fake.serve(pins.pin())
    (folder / "tool.sif").write_bytes(content)
    facts.keep(pins.fact_of(content, pins.pin()))
    return folder


def test_a_library_that_only_the_workflow_names_is_looked_in_where_it_is_said(place, shelf):
    answer = place.run("pull", "--images", shelf)
    assert answer.rows[0][0] == "in_library"
    assert place.fake.pulls == []

    assert [row[0] for row in place.run("pull").rows] == ["pulled"]


def test_what_lies_there_is_known_to_verify_and_status_where_it_is_said(place, shelf):
    place.run("pull", "--images", shelf)
    seen = place.run("verify", "--images", shelf)
    assert (seen.status, seen.rows[0][0], seen.rows[0][3]) == (0, "verified", str(shelf / "tool.sif"))
    assert place.run("status", "--offline", "--images", shelf).rows[0][3] == "verified"

    for verb in (["verify"], ["status", "--offline"]):
        unsaid = place.run(*verb)
        assert "absent" in unsaid.out
        assert "say it with --images" in unsaid.err


def test_repair_uses_what_lies_there_where_it_is_said(place, shelf):
    answer = place.run("verify", "--repair", "--images", shelf)
    assert answer.rows[0][:1] == ["verified"]
    assert place.fake.pulls == []


def test_a_library_is_relative_to_where_the_command_runs(place, shelf):
    assert place.run("pull", "--images", "../shelf").rows[0][0] == "in_library"


@pytest.mark.parametrize("verb", ["pull", "verify", "status"])
@pytest.mark.parametrize(("name", "says"), [("none", "there is no image library"), ("a b", "without quotes")])
def test_a_library_that_cannot_be_used_is_wrong_use(place, verb, name, says):
    place.lock(pins.pin())
    Path("a b").mkdir()
    answer = place.run(verb, "--images", name)
    assert (answer.status, says in answer.err) == (2, True)
