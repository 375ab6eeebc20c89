"""The guard of an image gives its path while the file there is what its pin names, and says each time what it is."""

import os

import pytest

from snakemake_apptainer_freshness.actions import library_images as actions
from snakemake_apptainer_freshness.engine.guard import WHAT_NEXT, Guard
from snakemake_apptainer_freshness.errors import UnprovenImage
from snakemake_apptainer_freshness.freshness import FileHash
from snakemake_apptainer_freshness.settings import OnUnverified, Options
from snakemake_apptainer_freshness.store import image_library
from snakemake_apptainer_freshness.store.held import is_untouched, key_of
from tests.support import pins
from tests.support.pins import flip_seven_bytes

PIN = pins.pin()


class Guarded:
    """A guard, with what it tells of the image."""

    def __init__(self, place, *, options=None, **more):
        self.told, self.hashes = [], {}
        on_image = lambda *said: self.told.append(said)  # noqa: E731
        self.guard = Guard(PIN, place, options=options or Options(), hashes=self.hashes, on_image=on_image, **more)


@pytest.fixture
def image(tmp_path):
    """The file of the image, proven."""
    path = pins.put(tmp_path / "images", PIN)
    pins.record(path, PIN)
    return path


def test_the_path_of_a_proven_image_is_given_with_the_key_that_it_had_before(image):
    guarded = Guarded(image)
    assert guarded.guard.path() == str(image)
    [(url, fact, key)] = guarded.told
    assert (url, fact.state, key) == (PIN.url, "verified", key_of(image))


def test_what_an_image_hashed_to_is_kept_where_its_owner_has_the_hashes(image):
    guarded = Guarded(image)
    guarded.guard.path()
    assert guarded.hashes[PIN.url].sha256 == pins.fact_of(image.read_bytes(), PIN).sha256


@pytest.mark.parametrize("is_local", [False, True])
def test_an_image_that_changed_is_refused_and_told(image, is_local):
    guarded = Guarded(image, is_local=is_local, what_next="ask the site")
    guarded.guard.path()
    flip_seven_bytes(image)
    with pytest.raises(UnprovenImage, match=r"will not run the image of .* is altered") as raised:
        guarded.guard.path()
    assert raised.value.hint == "ask the site"
    assert [fact.state for _, fact, _ in guarded.told] == ["verified", "altered"]


def test_a_hash_that_was_handed_over_counts_and_no_record(image):
    guarded = Guarded(image)
    guarded.hashes[PIN.url] = FileHash(sha256="0" * 64)
    with pytest.raises(UnprovenImage, match="its SHA-256 is not the one that this run proved") as raised:
        guarded.guard.path()
    assert raised.value.hint == WHAT_NEXT


def test_a_user_who_wants_to_be_warned_gets_the_path(image):
    flip_seven_bytes(image)
    assert Guarded(image, options=Options(on_unverified=OnUnverified.WARN)).guard.path() == str(image)


def test_of_an_image_that_is_missing_the_job_tells_itself(tmp_path):
    guarded = Guarded(tmp_path / "absent.simg")
    assert guarded.guard.path() == str(tmp_path / "absent.simg")
    assert [fact.state for _, fact, _ in guarded.told] == ["absent"]


@pytest.fixture
def shelf(tmp_path, image):
    """A library in which the image was found before."""
    shelf = tmp_path / "library"
    shelf.mkdir()
    image.rename(shelf / "tool.sif")
    pins.record(shelf / "tool.sif", PIN)
    image_library.remember(PIN, shelf / "tool.sif")
    return shelf


def test_an_image_that_a_library_has_is_run_there_with_its_key(shelf, tmp_path):
    guarded = Guarded(tmp_path / "absent.simg", options=Options(images=(shelf,)))
    assert guarded.guard.where() == shelf / "tool.sif"
    assert guarded.guard.path() == str(shelf / "tool.sif")
    [(_, fact, key)] = guarded.told
    assert (fact.state, key) == ("verified", key_of(shelf / "tool.sif"))


def test_the_key_of_an_image_is_taken_before_the_look_that_proves_it(shelf, tmp_path, monkeypatch):
    """What is touched right after that look has another key when its job ended."""
    image, look = shelf / "tool.sif", actions.look_at

    def touched_after(*said, **more):
        fact = look(*said, **more)
        os.utime(image)
        return fact

    monkeypatch.setattr(actions, "look_at", touched_after)
    guarded = Guarded(tmp_path / "absent.simg", options=Options(images=(shelf,)))
    guarded.guard.path()
    [(_, fact, key)] = guarded.told
    assert fact.state == "verified"
    assert not is_untouched(image, key)


def test_an_image_that_was_changed_in_its_library_is_refused(shelf, tmp_path):
    flip_seven_bytes(shelf / "tool.sif")
    guarded = Guarded(tmp_path / "absent.simg", options=Options(images=(shelf,)))
    assert guarded.guard.where() == tmp_path / "absent.simg"
    with pytest.raises(UnprovenImage, match=r"tool\.sif is altered"):
        guarded.guard.path()


def test_what_lies_in_its_place_is_there_whatever_it_is(image):
    image.write_text("x")
    assert Guarded(image).guard.where() == image
