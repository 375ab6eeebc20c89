"""Images of a site's library: the first that is proven is used where it lies, and known from then on."""

import pytest

from snakemake_apptainer_freshness.actions.attest import Attestor
from snakemake_apptainer_freshness.actions.library_images import find, is_folder, judge, known_images, look_again
from snakemake_apptainer_freshness.freshness import DiskState
from snakemake_apptainer_freshness.store import facts, image_library
from tests.support import sifs
from tests.support.pins import OTHER, REPOSITORY, fact_of, pin

PIN = pin()
CONTENT = sifs.pulled(f"{REPOSITORY}@{PIN.digest}")


@pytest.fixture
def shelf(tmp_path):
    """A library with the image of PIN and another one."""
    folder = tmp_path / "library"
    folder.mkdir()
    for name, content in (("tool.sif", CONTENT), ("other.sif", sifs.pulled(f"{REPOSITORY}@{OTHER}"))):
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o755)
    return folder


def searched(shelf, tmp_path, told=None):
    attestor = Attestor(source=None, environment={"HOME": str(tmp_path), "PATH": "/nowhere"})
    told = [] if told is None else told
    return find([PIN], [shelf], attestor=attestor, begin=lambda _pin, fact: told.append(fact.path))


def test_what_is_known_to_be_it_is_found_without_a_comparison(shelf, tmp_path):
    facts.keep(fact_of(CONTENT, PIN))
    told = []
    found = searched(shelf, tmp_path, told)
    assert (found[PIN.url].state, found[PIN.url].path) == (DiskState.VERIFIED, str(shelf / "tool.sif"))
    assert told == []


def test_only_what_says_that_it_is_it_is_compared_and_what_cannot_be_proven_is_left_out(shelf, tmp_path):
    told = []
    assert searched(shelf, tmp_path, told) == {}
    assert told == [str(shelf / "tool.sif")]
    assert look_again(PIN, [shelf]) is None


def test_nothing_is_looked_for_without_a_library(tmp_path):
    attestor = Attestor(source=None, environment={})
    assert find([PIN], attestor=attestor) == {}
    assert known_images([PIN]) == {}


def test_what_was_found_is_known_from_then_on_until_it_is_another_file(shelf, tmp_path):
    facts.keep(fact_of(CONTENT, PIN))
    searched(shelf, tmp_path)
    assert known_images([PIN], [shelf])[PIN.url].path == str(shelf / "tool.sif")
    (shelf / "tool.sif").write_bytes(sifs.pulled(f"{REPOSITORY}@{PIN.digest}", version="1.4.4"))
    assert known_images([PIN], [shelf]) == {}
    assert look_again(PIN, [shelf]).state is not DiskState.VERIFIED


def test_what_was_found_in_a_library_that_is_none_any_more_is_not_used(shelf, tmp_path):
    facts.keep(fact_of(CONTENT, PIN))
    searched(shelf, tmp_path)
    assert look_again(PIN, [tmp_path / "elsewhere"]) is None
    assert look_again(PIN) is None


def test_a_note_of_where_it_was_proves_nothing(shelf):
    image_library.remember(PIN, shelf / "other.sif")
    assert look_again(PIN, [shelf]).state is not DiskState.VERIFIED
    assert known_images([PIN], [shelf]) == {}


def test_a_file_is_judged_as_one_and_a_folder_as_a_sandbox_and_no_link_is_a_folder(shelf, tmp_path):
    (tmp_path / "box" / ".singularity.d").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "box")
    assert [is_folder(tmp_path / name) for name in ("box", "link", "none")] == [True, False, False]
    assert judge(PIN, shelf / "tool.sif").state is DiskState.BOUND
    assert judge(PIN, tmp_path / "box").state is DiskState.UNBOUND
    assert judge(PIN, tmp_path / "none").state is DiskState.ABSENT
