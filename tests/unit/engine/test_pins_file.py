"""A run with many images hands them to its jobs by a file."""

import contextlib
import hashlib
import os
import time
import types
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.engine.handover import Handover, decode
from snakemake_apptainer_freshness.engine.pins_file import FOLDER, LONGEST, PinsFile, read
from snakemake_apptainer_freshness.errors import LocalIOError, UsageError
from snakemake_apptainer_freshness.freshness import FileHash
from snakemake_apptainer_freshness.settings import Mode, OnUnverified
from tests.support.pins import run_as


def many(count, first=0):
    found = {}
    for n in range(first, first + count):
        digest = f"sha256:{hashlib.sha256(str(n).encode()).hexdigest()}"
        name = f"docker://quay.io/biocontainers/tool{n}"
        text = f"{name}:{n}--hdfd78af_0"
        found[text] = run_as(text, f"{name}@{digest}", digest)
    return found


def handover_of(pins):
    return Handover(pins=pins, mode=Mode.LOCK, on_unverified=OnUnverified.REPAIR)


@pytest.fixture
def workflow(tmp_path, monkeypatch):
    """As much of a workflow as is looked at."""
    monkeypatch.chdir(tmp_path)
    return types.SimpleNamespace(
        persistence=types.SimpleNamespace(lock=contextlib.nullcontext),
        dag=types.SimpleNamespace(get_sources=lambda: {"Snakefile"}),
        remote_execution_settings=types.SimpleNamespace(immediate_submit=False),
    )


def in_job(word):
    return decode(word, read).pins


def files():
    return sorted(FOLDER.glob("*")) if FOLDER.exists() else []


def test_two_hundred_images_need_no_file(workflow):
    word = PinsFile(workflow).word(handover_of(many(200)))

    assert in_job(word) == many(200)
    assert files() == []


def test_three_thousand_images_take_a_short_word_and_one_file(workflow):
    word = PinsFile(workflow).word(handover_of(many(3000)))

    assert len(word) < 500
    assert in_job(word) == many(3000)
    assert len(files()) == 1


def test_a_hash_that_is_known_later_stands_beside_the_file(workflow):
    file = PinsFile(workflow)
    pins = many(3000)
    file.word(handover_of(pins))
    url = next(iter(pins.values())).url
    hashes = {url: FileHash(sha256="5" * 64)}
    word = file.word(replace(handover_of(pins), hashes=hashes))

    assert len(word) < 700
    assert len(files()) == 1
    assert decode(word, read).hashes == hashes
    assert in_job(word) == pins


def test_what_is_met_later_stands_beside_the_file_while_it_is_little(workflow):
    file = PinsFile(workflow)
    first = file.word(handover_of(many(3000)))
    second = file.word(handover_of(many(3010)))
    assert len(files()) == 1
    third = file.word(handover_of(many(6000)))

    assert len(files()) == 2
    assert max(map(len, (first, second, third))) < LONGEST
    assert [len(in_job(word)) for word in (first, second, third)] == [3000, 3010, 6000]


def test_the_file_travels_with_the_sources_and_goes_with_the_run(workflow):
    file = PinsFile(workflow)
    file.attach()
    assert workflow.dag.get_sources() == {"Snakefile"}
    with workflow.persistence.lock():
        file.word(handover_of(many(3000)))
        [path] = files()
        assert workflow.dag.get_sources() == {"Snakefile", os.path.relpath(path)}

    assert files() == []


def test_the_file_stays_for_jobs_that_are_only_submitted(workflow):
    workflow.remote_execution_settings.immediate_submit = True
    file = PinsFile(workflow)
    file.attach()
    with workflow.persistence.lock():
        word = file.word(handover_of(many(3000)))

    assert len(in_job(word)) == 3000


def test_what_a_killed_run_left_is_removed_after_a_month(workflow):
    old, young = (FOLDER / f"{name * 64}.pins" for name in "ab")
    FOLDER.mkdir(parents=True)
    for path in (old, young):
        path.touch()
    month_ago = time.time() - 31 * 86400
    os.utime(old, (month_ago, month_ago))
    PinsFile(workflow).word(handover_of(many(3000)))

    assert not old.exists()
    assert young.exists()


@pytest.mark.parametrize(
    ("damage", "told"),
    [("removed", "it is not there"), ("altered", "not the one that the main process"), ("a folder", "it is a folder")],
)
def test_a_job_that_has_not_the_file_stops_and_says_so(workflow, damage, told):
    word = PinsFile(workflow).word(handover_of(many(3000)))
    [path] = files()
    if damage == "altered":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    if damage == "a folder":
        path.mkdir()

    with pytest.raises((LocalIOError, UsageError), match=told):
        in_job(word)


def test_a_folder_that_cannot_be_written_is_said_with_what_to_do(workflow):
    FOLDER.parent.mkdir(parents=True)
    FOLDER.touch()
    with pytest.raises(LocalIOError, match="cannot write the pins of this run") as raised:
        PinsFile(workflow).word(handover_of(many(3000)))

    assert "make room" in raised.value.hint
