"""Bags that are written are whole, also for the published validator; what one is read as."""

import bagit
import pytest

from snakemake_apptainer_freshness.errors import InvalidArchive
from snakemake_apptainer_freshness.store import bag
from snakemake_apptainer_freshness.store.bag import Bag
from tests.support.digests import sha256


@pytest.fixture
def made(tmp_path):
    root = tmp_path / "bag"
    bag.begin(root)
    (root / "data" / "a").mkdir()
    (root / "data" / "a" / "ö b.txt").write_text("x")
    (root / "data" / "empty").write_text("")
    files = {"a/ö b.txt": sha256(b"x")[7:], "empty": sha256(b"")[7:]}
    bag.finish(root, files, [("External-Description", "two\nlines")])
    return root


def test_what_is_written_is_read_again(made):
    read = Bag.of(made)
    assert dict(read.files) == {"a/ö b.txt": sha256(b"x")[7:], "empty": sha256(b"")[7:]}
    assert (read.size, sorted(read.verify())) == (1, [0, 1])


def test_the_published_validator_takes_it(made):
    read = bagit.Bag(str(made))
    read.validate(processes=1)
    assert read.info["External-Description"] == "two lines"
    assert read.info["Payload-Oxum"] == "1.2"


def test_what_the_published_library_wrote_is_read(tmp_path):
    (tmp_path / "x").write_text("x")
    bagit.make_bag(str(tmp_path), checksums=["sha256"])
    (tmp_path / "bagit.txt").write_text("BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")
    lines = (tmp_path / "tagmanifest-sha256.txt").read_text().splitlines()
    declared = f"{sha256((tmp_path / 'bagit.txt').read_bytes())[7:]} bagit.txt"
    (tmp_path / "tagmanifest-sha256.txt").write_text(
        "".join(f"{declared if line.endswith(' bagit.txt') else line}\n" for line in lines)
    )
    assert list(Bag.of(tmp_path).verify()) == [1]


def test_one_that_is_begun_is_not_whole_until_it_is_finished(tmp_path):
    bag.begin(tmp_path / "bag")
    assert bag.is_bag(tmp_path / "bag")
    with pytest.raises(InvalidArchive, match="not whole"):
        Bag.of(tmp_path / "bag")


def test_one_that_is_begun_again_is_not_whole_any_more(made):
    bag.begin(made)
    with pytest.raises(InvalidArchive, match="not whole"):
        Bag.of(made)


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InvalidArchive, match="something else"):
        bag.begin(tmp_path)


@pytest.mark.parametrize("name", ["a", "a/b", ".hidden", "ö", "a b"])
def test_names_that_can_be_listed(name):
    assert bag.can_be_named(name)


@pytest.mark.parametrize("name", ["", "/a", "a//b", "../a", "a/..", "./a", "a\nb", "a%0Ab", " a", "a ", "~a", "\udc80"])
def test_names_that_cannot(name):
    assert not bag.can_be_named(name)
