"""Outputs as they lie on the disk, and very many of them."""

import os
from pathlib import Path

from snakemake_apptainer_freshness.audit.disk import look, place
from tests.support import records


def test_an_untouched_output_is_not_opened(tmp_path):
    left = records.output(tmp_path, "a")
    (tmp_path / "a").chmod(0)

    assert look(tmp_path, {"a": left})["a"].sha256 == ""


def test_a_touched_one_is_hashed_where_that_says_something(tmp_path):
    left = records.output(tmp_path, "a")
    bare = records.output(tmp_path, "b", hashed=False)
    for name in "ab":
        os.utime(tmp_path / name)

    seen = look(tmp_path, {"a": left, "b": bare})

    assert seen["a"].sha256 == left.sha256
    assert seen["b"].sha256 == ""


def test_one_of_another_size_need_not_be_hashed(tmp_path):
    left = records.output(tmp_path, "a")
    (tmp_path / "a").write_bytes(b"longer than it was")

    assert look(tmp_path, {"a": left})["a"].sha256 == ""


def test_whatever_stands_there_is_seen_for_what_it_is(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").write_text("")

    seen = look(tmp_path, dict.fromkeys(["folder", "pipe", "dangling", "file/below", "nul\0", "s3://bucket/key"]))

    assert seen["folder"].folder
    assert seen["pipe"].exists
    assert not seen["dangling"].exists
    assert not seen["file/below"].exists
    assert seen["nul\0"].problem
    assert seen["s3://bucket/key"].elsewhere


def test_a_path_is_found_where_the_folder_is_now():
    assert place("/old/a/b.simg", recorded_in="/old/a", workdir=Path("/new")) == Path("/new/b.simg")
    assert place("/shared/b.simg", recorded_in="/old/a", workdir=Path("/new")) == Path("/shared/b.simg")
