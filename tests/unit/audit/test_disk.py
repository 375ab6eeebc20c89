"""Outputs as they lie on the disk, and very many of them."""

import os
import threading
import time
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.audit.disk import look, place
from snakemake_apptainer_freshness.common import batches
from snakemake_apptainer_freshness.common.batches import in_batches
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


@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
def test_all_are_answered_in_their_order_on_any_file_system(slow, monkeypatch):
    if slow:
        monkeypatch.setattr(batches, "_SLOW", 0.0)
    threads = set()

    def work(names):
        threads.add(threading.get_ident())
        time.sleep(0.001)
        return names

    answers = [name for batch in in_batches(range(20_000), work) for name in batch]

    assert answers == list(range(20_000))
    assert (len(threads) > 1) is slow


def test_a_path_is_found_where_the_folder_is_now():
    assert place("/old/a/b.simg", recorded_in="/old/a", workdir=Path("/new")) == Path("/new/b.simg")
    assert place("/shared/b.simg", recorded_in="/old/a", workdir=Path("/new")) == Path("/shared/b.simg")
