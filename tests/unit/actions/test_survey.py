"""To which pin an image file belongs, by where it lies and what it says; and what it is then."""

import hashlib
from itertools import product

import pytest

from snakemake_apptainer_freshness.actions.survey import (
    Candidate,
    ImageLocation,
    LockedPins,
    SurveyedImage,
    attribute,
    examine,
    in_cache,
    in_lock,
    in_prefix,
    size_of,
    unattributed,
    worst_first,
)
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder, keys
from snakemake_apptainer_freshness.freshness import Action, DiskFact, DiskState
from snakemake_apptainer_freshness.store.prefix import image_name, image_path
from tests.support import pins, sifs
from tests.support.pins import DIGEST, MANIFEST, OTHER, REPOSITORY, lock_entry, pin

REFERENCE = f"docker://{REPOSITORY}:1.0"
ENTRY = lock_entry(REFERENCE, DIGEST)
LOCKED = LockedPins.of([ENTRY])
NOTHING = LockedPins()


def sif_at(path, said=f"{REPOSITORY}@{DIGEST}", **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sifs.pulled(said, **changes))
    path.chmod(0o755)
    return path


def given(path):
    return Candidate(place=ImageLocation.PATH, path=path)


def surveyed(state, place=ImageLocation.PATH, path="/x"):
    return SurveyedImage(place=place, fact=DiskFact(state=state, path=path, detail=""))


@pytest.mark.parametrize(
    ("state", "place", "finding", "ours"),
    [
        (DiskState.VERIFIED, ImageLocation.LOCK, False, False),
        (DiskState.BOUND, ImageLocation.LOCK, True, False),
        (DiskState.ABSENT, ImageLocation.LOCK, True, False),
        (DiskState.UNBOUND, ImageLocation.PREFIX, False, False),
        (DiskState.CORRUPT, ImageLocation.PREFIX, True, True),
        (DiskState.STALE, ImageLocation.CACHE, True, True),
        (DiskState.STALE, ImageLocation.PATH, True, False),
        (DiskState.ALTERED, ImageLocation.LOCK, True, False),
    ],
)
def test_whose_image_it_is_decides_what_counts_and_what_may_be_moved(state, place, finding, ours):
    found = surveyed(state, place)
    assert (found.is_finding, found.is_ours_to_move) == (finding, ours)


def test_the_worst_comes_first_and_of_equals_what_the_lock_names():
    order = [
        surveyed(DiskState.CORRUPT), surveyed(DiskState.STALE),
        surveyed(DiskState.BOUND, ImageLocation.LOCK), surveyed(DiskState.BOUND, path="/a"),
        surveyed(DiskState.BOUND, path="/b"), surveyed(DiskState.VERIFIED),
    ]  # fmt: skip
    assert worst_first(reversed(order)) == order


def test_the_pins_of_a_lock_are_found_by_all_that_leads_to_them():
    [wanted] = LOCKED.pins
    assert LOCKED.by_name == {image_name(wanted.url): wanted}
    assert set(LOCKED.by_key) == set(keys(wanted))
    assert LOCKED.naming(DIGEST) is wanted
    assert LOCKED.naming(OTHER) is None
    assert LOCKED.meaning(f"{REPOSITORY}:1.0") is wanted
    assert (LOCKED.meaning(f"{REPOSITORY}:2"), LOCKED.meaning(""), LOCKED.meaning("no reference!")) == (None,) * 3


def test_an_entry_of_the_lock_is_looked_for_by_each_digest_and_asked_for_by_the_index(tmp_path):
    here = str(pins.Platform.here())
    entry = lock_entry(REFERENCE, DIGEST, {here: MANIFEST})
    [absent] = in_lock([entry], tmp_path)
    assert (absent.place, absent.path) == (ImageLocation.LOCK, image_path(tmp_path, f"docker://{REPOSITORY}@{DIGEST}"))
    there = sif_at(image_path(tmp_path, f"docker://{REPOSITORY}@{MANIFEST}"))
    assert [candidate.path for candidate in in_lock([entry], tmp_path)] == [there]


def test_the_folder_has_what_the_lock_does_not_name(tmp_path):
    sif_at(tmp_path / next(iter(LOCKED.by_name)))
    other = sif_at(tmp_path / image_name("docker://alpine:3"))
    (tmp_path / f"{other.name}.quarantine-1").touch()
    assert [(one.place, one.path) for one in in_prefix(tmp_path, LOCKED)] == [(ImageLocation.PREFIX, other)]


def test_the_cache_has_its_entries(tmp_path):
    path = sif_at(tmp_path / "oci-tmp" / ("a" * 64))
    assert list(in_cache(CacheFolder(root=tmp_path))) == [Candidate(place=ImageLocation.CACHE, path=path)]


@pytest.mark.parametrize("said", [f"{REPOSITORY}@{DIGEST}", f"{REPOSITORY}:1.0"])
def test_a_given_file_belongs_to_the_lock_by_its_label(tmp_path, said):
    assert attribute(given(sif_at(tmp_path / "tool.sif", said)), LOCKED) is LOCKED.pins[0]


def test_a_given_file_belongs_to_the_lock_by_its_name_whatever_it_says(tmp_path):
    path = sif_at(tmp_path / next(iter(LOCKED.by_name)), f"{REPOSITORY}@{OTHER}")
    assert attribute(given(path), LOCKED) is LOCKED.pins[0]
    assert examine(given(path), LOCKED).fact.state is DiskState.STALE


def test_a_file_that_the_lock_names_belongs_to_it_by_its_place(tmp_path):
    path = sif_at(tmp_path / "own.sif")
    content = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    locked = LockedPins.of([lock_entry(str(path), content)])
    assert attribute(given(path), locked) is locked.pins[0]
    assert examine(given(path), locked).fact.state is DiskState.VERIFIED


def test_a_given_file_that_no_lock_names_is_held_to_its_own_label_for_its_own_machine(tmp_path):
    found = attribute(given(sif_at(tmp_path / "tool.sif", architecture=sifs.ARM64)), NOTHING)
    assert (found.url, found.platform) == (f"docker://{REPOSITORY}@{DIGEST}", pins.Platform.parse("linux/arm64"))


def test_an_image_in_the_folder_is_held_to_its_label_where_that_fits_its_name(tmp_path):
    url = f"docker://{REPOSITORY}@{DIGEST}"
    right = Candidate(place=ImageLocation.PREFIX, path=sif_at(tmp_path / image_name(url)))
    wrong = Candidate(place=ImageLocation.PREFIX, path=sif_at(tmp_path / image_name("docker://alpine:3")))

    assert attribute(right, NOTHING).url == url
    assert attribute(wrong, NOTHING) is None
    assert "its name is not that of what its label says" in examine(wrong, NOTHING).fact.detail


def test_an_entry_of_the_cache_belongs_to_what_its_key_fits(tmp_path):
    wanted = LOCKED.pins[0]
    path = sif_at(tmp_path / keys(wanted)[0])
    entry = Candidate(place=ImageLocation.CACHE, path=path)
    unknown = Candidate(place=ImageLocation.CACHE, path=sif_at(tmp_path / "oci-tmp" / ("1" * 64)))

    assert attribute(entry, LOCKED) is wanted
    assert attribute(entry, NOTHING).digest == DIGEST
    assert attribute(unknown, LOCKED) is None
    assert examine(unknown, LOCKED) is None


def test_an_entry_whose_name_is_its_hash_is_held_to_it(tmp_path):
    content = sifs.pulled("lab/tool:1")
    name = hashlib.sha256(content).hexdigest()
    right, wrong = (tmp_path / "library" / f"sha256.{one}" for one in (name, "1" * 64))
    right.parent.mkdir()
    for path in (right, wrong):
        path.write_bytes(content)
        path.chmod(0o755)
    states = [examine(Candidate(place=ImageLocation.CACHE, path=path), NOTHING).fact.state for path in (right, wrong)]
    assert states == [DiskState.VERIFIED, DiskState.STALE]


def test_a_damaged_entry_of_the_cache_is_told_though_it_belongs_to_nothing(tmp_path):
    path = tmp_path / "oci-tmp" / ("1" * 64)
    path.parent.mkdir()
    path.write_bytes(b"half")
    assert examine(Candidate(place=ImageLocation.CACHE, path=path), NOTHING).fact.state is DiskState.CORRUPT


def test_a_record_beside_an_image_leads_to_its_pin_and_proves_nothing(tmp_path):
    image = pins.put(tmp_path, pin(), sifs.pulled("some/thing:1"))
    pins.plant_record(image, pin())
    found = examine(Candidate(place=ImageLocation.PREFIX, path=image), NOTHING)
    assert found.pin.url == pin().url
    assert found.fact.state is not DiskState.VERIFIED


def test_a_proven_image_is_verified_and_its_size_told(tmp_path):
    image = pins.put(tmp_path, pin())
    pins.record(image, pin())
    found = examine(Candidate(place=ImageLocation.LOCK, path=image, pin=pin()), LOCKED)
    assert (found.fact.state, found.size) == (DiskState.VERIFIED, image.stat().st_size)
    assert size_of(tmp_path / "none") == 0


@pytest.mark.parametrize(
    ("make", "state", "said"),
    [
        (lambda _: None, DiskState.ABSENT, "no such file"),
        (lambda path: path.write_bytes(b"half"), DiskState.CORRUPT, ""),
        (lambda path: path.mkdir(), DiskState.CORRUPT, "folder"),
        (lambda path: (path / ".singularity.d").mkdir(parents=True), DiskState.UNBOUND, "a sandbox folder"),
        (lambda path: sif_at(path, "alpine:3"), DiskState.UNBOUND, "pulled by a tag, alpine:3"),
        (lambda path: sif_at(path, labels={}), DiskState.UNBOUND, "not pulled from a registry"),
    ],
)
def test_what_belongs_to_nothing_is_described(tmp_path, make, state, said):
    make(tmp_path / "one")
    fact = unattributed(tmp_path / "one")
    assert (fact.state, said in fact.detail) == (state, True), fact


NAMED = (ImageLocation.LOCK, ImageLocation.PATH)
DAMAGED = (DiskState.STALE, DiskState.ALTERED, DiskState.CORRUPT)


@pytest.mark.parametrize(("place", "state"), list(product(ImageLocation, DiskState)))
def test_what_no_lock_and_no_person_names_counts_only_where_it_is_damaged(place, state):
    image = SurveyedImage(place=place, fact=DiskFact(state=state))
    is_bad = state in DAMAGED or (place in NAMED and state is not DiskState.VERIFIED)

    assert image.is_finding is is_bad
    assert image.decision.action is (Action.REFUSE if is_bad else Action.RUN)
    assert image.is_ours_to_move is (place not in NAMED and state in DAMAGED)
