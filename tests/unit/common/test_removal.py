"""A tree is removed through descriptors: whole, however deep and closed, and nothing but it."""

import os

import pytest

from snakemake_apptainer_freshness.common import removal
from snakemake_apptainer_freshness.common.removal import remove_tree


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "tree"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").write_text("x")
    (folder / "link").symlink_to(tmp_path)
    return folder


def test_a_tree_is_removed_and_what_its_links_lead_to_stays(tree, tmp_path):
    (tmp_path / "mine").write_text("mine")
    remove_tree(tree)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_folders_that_their_owner_may_not_write_are_removed(tree):
    (tree / "a" / "b").chmod(0o500)
    (tree / "a").chmod(0)
    remove_tree(tree)
    assert not tree.exists()


def test_a_tree_that_is_deeper_than_python_can_recurse(tree):
    handle = os.open(tree, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d", dir_fd=handle)
        deeper = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = deeper
    os.close(handle)
    remove_tree(tree)
    assert not tree.exists()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_is_no_folder_is_left(tree, tmp_path, kind):
    at = tmp_path / "at"
    at.symlink_to(tree) if kind == "link" else at.write_text("x")
    with pytest.raises(NotADirectoryError):
        remove_tree(at)
    assert at.exists()
    assert (tree / "a" / "b" / "file").exists()


def test_what_can_be_removed_is_removed_where_something_cannot(tree, monkeypatch):
    (tree / "stays").mkdir()
    real = os.rmdir

    def rmdir(name, **options):
        if name == "stays":
            raise PermissionError(13, "no", name)
        real(name, **options)

    monkeypatch.setattr(removal.os, "rmdir", rmdir)
    with pytest.raises(PermissionError):
        remove_tree(tree)
    assert [path.name for path in tree.iterdir()] == ["stays"]
