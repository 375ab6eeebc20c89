"""Whether each output could be made again from an archive alone, and why not."""

import json
import shutil

import pytest

from tests.support import archives
from tests.support.archives import answers, rebagged
from tests.support.images import Image, multi_arch
from tests.support.proofs import file, folder, layer

CONTENT = Image(layers=(layer(folder("bin"), file("bin/tool", "good", 0o755)),))
INDEX = multi_arch(CONTENT, "s390x")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return archives.archived(tmp_path_factory.mktemp("good"), INDEX)


@pytest.fixture
def archive(good, tmp_path):
    return archives.copied(good, tmp_path / "archive")


def record(archive):
    [path] = (archive / "data/project/.snakemake/apptainer-freshness/runs").iterdir()
    return path


def test_all_of_a_good_one_and_why(archive):
    found = archives.replayed(archive)
    assert found.answer == "All 2 outputs could be made again from the archive alone."
    assert found.possible
    assert [(one.path, one.rule, one.digest) for one in found.outputs] == [
        ("plain.txt", "plain", ""),
        ("result.txt", "count", INDEX.digest),
    ]
    assert found.notes == ("the newest run ran with Snakemake 9.27.1 and Apptainer 1.4.5",)
    assert "vouched for by nothing" in found.seals.text


def test_the_archive_of_a_single_image_without_an_index(tmp_path):
    assert archives.replayed(archives.archived(tmp_path, CONTENT)).possible


def test_an_input_that_is_not_there_and_what_is_made_of_the_output(archive):
    (archive / "data/project/text.txt").unlink()
    assert answers(rebagged(archive)) == {
        "plain.txt": (False, "it is made of result.txt, which cannot be made again"),
        "result.txt": (False, "its input text.txt is not in the archive"),
    }


def test_an_input_that_is_a_folder_of_the_archive_or_in_an_output(archive):
    (archive / "data/project/in").mkdir()
    (archive / "data/project/in/x").write_text("x")
    made_of = [
        {"path": "result.txt", "inputs": ["in", "./text.txt"]},
        {"path": "plain.txt", "inputs": ["result.txt/part"]},
    ]
    archives.announced(archive, output=made_of)
    assert {possible for possible, _ in answers(rebagged(archive)).values()} == {True}


def test_an_output_that_no_record_knows(archive):
    archives.announced(archive, output=[{"path": "other.txt", "inputs": []}])
    assert answers(rebagged(archive))["other.txt"] == (False, "how it was made was not recorded")


def test_an_image_without_a_digest(archive):
    path = record(archive)
    path.write_bytes(path.read_bytes().replace(f'"digest":"{INDEX.digest}",'.encode(), b""))
    assert answers(rebagged(archive))["result.txt"] == (False, "its image has no digest")


def test_an_image_of_another_platform(archive):
    path = record(archive)
    path.write_bytes(
        path.read_bytes().replace(b'"linux/amd64"', b'"linux/s390x"').replace(b'"linux/arm64"', b'"linux/s390x"')
    )
    possible, why = answers(rebagged(archive))["result.txt"]
    assert (possible, why.startswith("it was made on linux/s390x, and this machine is ")) == (False, True)


def test_a_reference_that_the_lock_does_not_name(archive):
    path = record(archive)
    path.write_bytes(path.read_bytes().replace(b"team/tool:1.0", b"team/tool:2.0"))
    possible, why = answers(rebagged(archive))["result.txt"]
    assert (possible, "does not name docker://registry.example.org/team/tool:2.0" in why) == (False, True)


def test_a_record_that_is_cut_short(archive):
    path = record(archive)
    path.write_bytes(path.read_bytes()[:-3])
    found = archives.replayed(rebagged(archive))
    assert found.answer == "0 of 2 outputs could be made again from the archive alone."
    assert all("is damaged" in one.why for one in found.outputs)


def test_no_records_at_all(archive):
    shutil.rmtree(archive / "data/project/.snakemake")
    assert not archives.replayed(rebagged(archive)).possible


def test_another_snakefile_than_the_recorded_one_is_told(archive):
    (archive / "data/project/Snakefile").write_text("other")
    assert (
        "project/Snakefile is not the Snakefile that the newest run recorded"
        in archives.replayed(rebagged(archive)).notes
    )


def test_a_snakefile_that_is_gone_is_told(archive):
    (archive / "data/project/Snakefile").unlink()
    assert "the archive has no Snakefile project/Snakefile" in archives.replayed(rebagged(archive)).notes


def test_the_table_says_where_it_was_made(archive):
    table = json.loads((archive / "data/archive.json").read_text())
    assert (table["snakefile"], table["lock"]) == ("project/Snakefile", "project/containers.lock")
