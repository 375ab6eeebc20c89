"""Folders that matter: facts only."""

import os

from snakemake_apptainer_freshness.actions import folders
from snakemake_apptainer_freshness.actions.folders import cache_folders, describe, existing, temporary_folder, total
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support.pins import pin


def test_a_folder_that_is_there_is_described(tmp_path):
    tmp_path.chmod(0o700)
    (tmp_path / "image").write_bytes(b"1234")
    folder = describe("images", tmp_path, existing([tmp_path / "image", tmp_path / "gone"]))
    assert (folder.exists, folder.writable, folder.mode, folder.images, folder.size) == (True, True, 0o700, 1, 4)
    assert folder.free


def test_the_room_of_a_folder_to_be_made_is_that_of_its_disk(tmp_path):
    folder = describe("images", tmp_path / "not" / "yet")
    assert (folder.exists, folder.writable, folder.images) == (False, True, 0)
    assert folder.free


def test_a_file_with_two_names_takes_its_room_once(tmp_path):
    (tmp_path / "a").write_bytes(b"1234")
    os.link(tmp_path / "a", tmp_path / "b")
    assert total(existing([tmp_path / "a", tmp_path / "b"])) == 4


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 10_000)
    (tmp_path / "b").symlink_to("a")
    assert total(existing([tmp_path / "b"])) < 100


def test_one_cache_of_two_families_is_named_once(tmp_path):
    cache = CacheFolder(root=tmp_path)
    assert [folder.name for folder in cache_folders({"apptainer": cache, "singularity": cache})] == [
        "Apptainer's cache"
    ]


def test_a_cache_that_is_turned_off_says_so():
    [folder] = cache_folders({"apptainer": None, "singularity": None})
    assert "APPTAINER_DISABLE_CACHE" in folder.note


def test_apptainers_own_variable_chooses_the_folder_for_temporary_files(tmp_path):
    names = ["TMPDIR", "SINGULARITY_TMPDIR", "APPTAINER_TMPDIR"]
    environment = {}
    for name in names:
        environment[name] = str(tmp_path / name)
        assert temporary_folder(environment).path == environment[name]
    assert temporary_folder({"APPTAINER_TMPDIR": "", "TMPDIR": "/t"}).path == "/t"


def test_a_folder_that_is_no_folder_holds_no_images(tmp_path):
    assert folders.images_in(tmp_path / "gone") == []
    image = image_path(tmp_path, pin().url)
    image.write_bytes(b"")
    assert [file.path for file in folders.images_in(tmp_path)] == [image]
