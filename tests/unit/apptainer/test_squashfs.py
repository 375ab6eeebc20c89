"""The file system of an image as a tree: each path once, each file with its SHA-256."""

import hashlib

import pytest

from snakemake_apptainer_freshness.apptainer import squashfs
from snakemake_apptainer_freshness.image.tree import FileType, NotComparable
from tests.support import squashfses
from tests.support.squashfs_tables import Patched, read


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return squashfses.small(tmp_path_factory.mktemp("squashfs"))


def test_every_path_is_there_once(image):
    root = image.with_name("root")
    expected = {str(path.relative_to(root)) for path in root.rglob("*")} | {"null"}
    walked = [path.decode() for path, _ in squashfses.tree_of(image).walk()]

    assert sorted(walked) == sorted(expected)


def test_every_file_has_the_sha256_of_its_content(image):
    root = image.with_name("root")
    for path, node in squashfses.tree_of(image).walk():
        if node.kind is FileType.FILE:
            assert node.sha256 == hashlib.sha256((root / path.decode()).read_bytes()).digest()


def test_names_alone_are_the_same_paths_without_contents(image):
    with image.open("rb") as file:
        names = dict(squashfs.names(file, 0, image.stat().st_size).walk())

    assert names.keys() == dict(squashfses.tree_of(image).walk()).keys()
    assert {node.sha256 for node in names.values()} == {b""}


def test_it_is_read_where_it_lies_in_a_larger_file(image, tmp_path):
    content = image.read_bytes()
    (tmp_path / "larger").write_bytes(b"before" + content + b"behind")
    with (tmp_path / "larger").open("rb") as file:
        assert squashfs.read(file, 6, len(content)) == squashfses.tree_of(image)


def test_hard_links_are_one_node(image):
    found = dict(squashfses.tree_of(image).walk())
    assert found[b"bin/hard"] == found[b"bin/tool"]
    assert found[b"bin/tool"].size == 8


def test_two_entries_of_one_name_are_refused(image):
    patched = Patched(image.read_bytes()).replace(b"nothing-too", b"nothing\0too")
    with pytest.raises(NotComparable):
        patched.read()


def test_an_entry_that_leads_to_another_file_is_seen(image):
    with pytest.raises(NotComparable):
        Patched(image.read_bytes()).leads_to("tool", "evil").read()


def test_what_breaks_off_is_refused(image):
    with pytest.raises(NotComparable):
        read(image.read_bytes()[:5000])
