"""An image is held to the hash that a run proved, by the file alone."""

import hashlib
import os
import time
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.apptainer import sandbox
from snakemake_apptainer_freshness.common import files
from snakemake_apptainer_freshness.common.files import StatKey
from snakemake_apptainer_freshness.freshness import FileHash
from snakemake_apptainer_freshness.store import clock, state
from snakemake_apptainer_freshness.store import held as module
from snakemake_apptainer_freshness.store.held import held, is_untouched, key_of

CONTENT = b"an image" * 1000
KNOWN = FileHash(sha256=hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.simg"
    path.write_bytes(CONTENT)
    path.chmod(0o755)
    return path


def flip(image):
    """Change a byte, and neither size nor modification time."""
    before = image.stat()
    image.write_bytes(b"A" + CONTENT[1:])
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_file_of_the_hash_is_verified_and_of_any_other_altered(image):
    assert held(image, KNOWN).state == "verified"
    flip(image)
    assert held(image, KNOWN).state == "altered"


def test_a_stat_key_stands_for_the_hash_while_the_file_has_it(image, monkeypatch):
    known = replace(KNOWN, stat=key_of(image))
    monkeypatch.setattr(module, "opened", lambda path: pytest.fail(f"{path} was opened"))
    assert held(image, known).state == "verified"
    assert held(image, known).known == known


def test_a_file_that_was_changed_is_hashed_although_its_size_and_time_are_the_same(image):
    known = replace(KNOWN, stat=key_of(image))
    time.sleep(0.02)
    flip(image)
    assert held(image, known).state == "altered"


def test_a_file_that_was_touched_and_is_the_same_is_verified(image):
    known = replace(KNOWN, stat=key_of(image))
    time.sleep(0.02)
    os.utime(image, (1, 1))
    assert held(image, known).state == "verified"


def test_a_hashed_file_is_known_by_its_stat_key_once_its_times_are_old(image, monkeypatch):
    assert held(image, KNOWN).known == KNOWN
    real = clock.time_in
    monkeypatch.setattr(clock, "time_in", lambda folder: real(folder) + 60_000_000_000)
    assert held(image, KNOWN).known == replace(KNOWN, stat=key_of(image))


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (lambda path: path.unlink(), "absent"),
        (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "corrupt"),
        (lambda path: (path.unlink(), path.mkdir()), "corrupt"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "corrupt"),
        (lambda path: path.write_bytes(b""), "altered"),
        (lambda path: path.chmod(0o777), "unbound"),
    ],
)
def test_whatever_lies_there_has_a_word(image, harm, word):
    known = replace(KNOWN, stat=key_of(image))
    time.sleep(0.02)
    harm(image)
    assert held(image, known).state == word


def test_where_a_file_system_gives_every_file_that_mode_it_says_nothing(image):
    image.chmod(0o777)
    assert held(image, replace(KNOWN, writable_by_all=True)).state == "verified"


def test_a_file_that_is_replaced_while_it_is_hashed_is_not_believed(image, monkeypatch):
    def hash_and_swap(file):
        result = files.sha256_of(file)
        other = image.with_name("other")
        other.write_bytes(b"other")
        other.replace(image)
        return result

    monkeypatch.setattr(module, "sha256_of", hash_and_swap)
    assert held(image, KNOWN).state == "altered"


def test_no_store_is_asked(image, monkeypatch):
    monkeypatch.setattr(state, "folder", lambda: pytest.fail("the state folder was looked for"))
    assert held(image, KNOWN).state == "verified"


def test_the_key_of_what_is_no_file_is_none(tmp_path):
    assert key_of(tmp_path) is None
    assert key_of(tmp_path / "absent") is None
    assert isinstance(key_of(__file__), StatKey)


@pytest.mark.parametrize("is_sandbox", [False, True])
def test_an_image_is_untouched_until_a_file_of_it_changes(image, is_sandbox):
    path = image.parent if is_sandbox else image
    key = sandbox.survey(path).key if is_sandbox else key_of(path)

    assert is_untouched(path, key)
    flip(image)
    assert not is_untouched(path, key)


@pytest.mark.parametrize("is_sandbox", [False, True])
def test_an_image_that_is_gone_or_cannot_be_read_for_certain_is_not_untouched(image, is_sandbox):
    path = image.parent if is_sandbox else image
    key = sandbox.survey(path).key if is_sandbox else key_of(path)
    path.rename(path.with_name("elsewhere"))
    assert not is_untouched(path, key)
    path.symlink_to("elsewhere")
    assert not is_untouched(path, key)
