"""``audit --archive`` and ``audit --replay`` of what it wrote: what is printed, and wrong use."""

import json
import os
import signal
import subprocess

import bagit
import pytest

from snakemake_apptainer_freshness.actions import elsewhere
from tests.support import archives
from tests.support.fake_apptainer import python
from tests.support.images import Image
from tests.support.proofs import file, layer

CONTENT = Image(layers=(layer(file("data", "x" * 100)),))


@pytest.fixture
def archive(tmp_path):
    return archives.archived(tmp_path, CONTENT)


def test_each_output_has_a_line(place, archive):
    answer = place.run("audit", "--replay", archive)
    assert answer.status == 0
    assert answer.rows[0] == ["answer", "All 2 outputs could be made again from the archive alone."]
    assert answer.rows[1][0] == "seal"
    assert answer.rows[2:] == [
        ["yes", "plain.txt", "plain", "its rule needs no image"],
        ["yes", "result.txt", "count", "all that its image is made of is here, and proven"],
    ]
    assert "note: the newest run ran with Snakemake" in answer.err


def test_what_cannot_be_made_again_is_status_1(place, archive):
    (archive / "data/project/text.txt").unlink()
    archives.rebagged(archive)
    answer = place.run("audit", "--replay", archive, "--json")
    assert answer.status == 1
    assert answer.json["possible"] is False
    assert [one["possible"] for one in answer.json["output"]] == [False, False]


def test_a_damaged_archive_is_status_2(place, archive):
    (archive / "data/project/Snakefile").write_text("x")
    answer = place.run("audit", "--replay", archive)
    assert (answer.status, answer.out) == (2, "")
    assert "error: the archive" in answer.err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "is an archive, and no work directory"),
        (["--replay", "."], "is an archive, and no work directory"),
        (["--replay", "--html", "x.html"], "of an archive there is text or --json"),
        (["--replay", "--allowed-signers", "none"], "are not a file"),
        (["--archive", "x"], "no run was recorded"),
    ],
)
def test_what_cannot_be_asked_of_an_archive(place, archive, arguments, problem):
    answer = place.run("audit", archive, *arguments)
    assert answer.status == 2
    assert problem in answer.err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--archive-with", "x"], "--archive-with needs --archive DIR"),
        (["--archive", "x", "--run", "2026"], "an archive holds all runs"),
        (["--archive", "x", "--output", "result.txt"], "an archive holds all runs"),
        (["--archive", "containers.lock"], "something else is there"),
    ],
)
def test_what_cannot_be_archived(place, arguments, problem):
    archives.project(place.folder, CONTENT)
    answer = place.run("audit", *arguments)
    assert answer.status == 2
    assert problem in answer.err


@pytest.fixture
def mirrored(place, tmp_path, monkeypatch):
    """A work directory whose registry is gone, on a machine that has the image in a mirror."""
    archives.project(place.folder, CONTENT)
    layout = tmp_path / "layout/blobs/sha256"
    layout.mkdir(parents=True)
    for blob in (CONTENT.manifest, *CONTENT.blobs):
        (layout / archives.sha256(blob)[7:]).write_bytes(blob)
    (tmp_path / "mirrors.toml").write_text(f'[[mirror]]\nprefix = ""\nplaces = ["{layout.parent.parent}"]\n')
    monkeypatch.setenv(elsewhere.VARIABLE, str(tmp_path / "mirrors.toml"))
    return place


def test_an_archive_is_written_from_a_mirror_where_the_registry_is_gone(mirrored, tmp_path):
    answer = mirrored.run("audit", "--archive", tmp_path / "made", "--archive-with", "text.txt", "--fail-on", "error")

    assert answer.status == 0, answer.err
    assert answer.err.startswith("archive: 1 image, ")
    assert f"{tmp_path / 'made'} is whole" in answer.err
    assert json.loads((tmp_path / "made/data/archive.json").read_text())["version"] == 1


def test_a_bundle_is_saved_from_a_mirror_where_the_registry_is_gone(mirrored):
    assert mirrored.run("bundle", "save", "all.tar").status == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["INT", "TERM", "KILL"])
def test_an_archive_that_is_ended_has_no_name_and_is_gone_on_with(mirrored, tmp_path, number):
    """It is ended in the middle of its files, when all layers are written."""
    target = tmp_path / "made"
    code = (
        "import time; from snakemake_apptainer_freshness import cli\n"
        "from snakemake_apptainer_freshness.audit import archive\n"
        "def slow(*_):\n"
        "    print('going', flush=True); time.sleep(30)\n"
        "archive._copied = slow\n"
        f"cli.main(['audit', '--archive', {str(target)!r}])"
    )
    process = subprocess.Popen(
        python(code), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=mirrored.folder, text=True
    )
    assert process.stdout.readline() == "going\n"
    os.kill(process.pid, number)
    _, said = process.communicate()

    assert ("the same command goes on with it" in said) is (number != signal.SIGKILL)
    assert not target.exists()
    assert target.with_name("made.partial").is_dir()
    answer = mirrored.run("audit", "--archive", target, "--fail-on", "error")
    assert answer.status == 0, answer.err
    assert "are there already" in answer.err
    bagit.Bag(str(target)).validate(processes=1)
    assert not target.with_name("made.partial").exists()


def test_what_was_written_is_named_where_no_layer_can_be_had(place, tmp_path):
    archives.project(place.folder, CONTENT)
    answer = place.run("audit", "--archive", tmp_path / "made")
    assert answer.status == 3
    assert not (tmp_path / "made").exists()
