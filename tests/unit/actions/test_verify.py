"""Many images looked at; and what is mended: never a file of a person, never what turned out to be sound."""

import pytest

from snakemake_apptainer_freshness.actions.survey import Candidate, ImageLocation, LockedPins, SurveyedImage, examine
from snakemake_apptainer_freshness.actions.verify import deepen, is_fetchable, mend, verify
from snakemake_apptainer_freshness.errors import LocalIOError
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState
from snakemake_apptainer_freshness.pin import pins_of
from snakemake_apptainer_freshness.store import places, records
from tests.support import pins, sifs
from tests.support.fake_apptainer import FakeApptainer
from tests.support.images import Image
from tests.support.pins import REPOSITORY, lock_entry, pin
from tests.support.proofs import Served, file, layer

NOTHING = LockedPins()


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """The Apptainer on PATH."""
    found = FakeApptainer(tmp_path / "fake")
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found


def lies(path, place=ImageLocation.PREFIX, content=b"half"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755)
    return Candidate(place=place, path=path)


def test_each_candidate_is_answered_in_order_and_what_belongs_to_nothing_is_counted(tmp_path):
    candidates = [
        lies(tmp_path / f"{'a' * 32}.simg"),
        lies(tmp_path / "oci-tmp" / ("1" * 64), ImageLocation.CACHE, sifs.pulled("some/thing:1")),
        lies(tmp_path / "given.sif", ImageLocation.PATH, sifs.pulled("some/thing:1")),
    ]
    found, uncounted = verify(candidates, NOTHING)
    assert [(one.fact.path, one.fact.state) for one in found] == [
        (str(candidates[0].path), DiskState.CORRUPT), (str(candidates[2].path), DiskState.UNBOUND),
    ]  # fmt: skip
    assert uncounted == 1


def test_full_does_not_believe_times(tmp_path):
    image = pins.put(tmp_path, pin())
    pins.record(image, pin())
    pins.settle(image)
    candidate = Candidate(place=ImageLocation.LOCK, path=image, pin=pin())
    details = [verify([candidate], NOTHING, full=full)[0][0].fact.detail for full in (False, True)]
    assert details[0] == "untouched since its SHA-256 was checked"
    assert details[1] != details[0]


def test_damage_that_nobody_here_needs_is_moved_aside_with_its_record(tmp_path):
    candidate = lies(tmp_path / f"{'a' * 32}.simg")
    records.path_of(candidate.path).write_text("{}")
    [repair] = mend(verify([candidate], NOTHING)[0], NOTHING, tmp_path)

    assert (repair.path, repair.error, repair.fetched) == (candidate.path, None, False)
    assert repair.aside.read_bytes() == b"half"
    assert not candidate.path.exists()
    assert not records.path_of(candidate.path).exists()
    assert places.load(candidate.path) is None


def test_what_was_replaced_by_a_sound_file_meanwhile_stays(tmp_path):
    candidate = lies(tmp_path / f"{'a' * 32}.simg")
    found, _ = verify([candidate], NOTHING)
    candidate.path.write_bytes(sifs.pulled("some/thing:1"))
    [repair] = mend(found, NOTHING, tmp_path)
    assert (repair.aside, repair.error) == (None, None)
    assert candidate.path.exists()


def test_a_file_that_a_person_gave_is_never_touched(tmp_path):
    candidate = lies(tmp_path / "given.sif", ImageLocation.PATH)
    assert mend(verify([candidate], NOTHING)[0], NOTHING, tmp_path) == []
    assert candidate.path.read_bytes() == b"half"


def test_what_the_lock_names_is_fetched_and_the_former_file_moved_aside(tmp_path, fake):
    content = fake.serve(pin())
    image = pins.put(tmp_path / "images", pin(), b"half")
    locked = LockedPins.of([lock_entry(f"docker://{REPOSITORY}:1.0")])
    found = examine(Candidate(place=ImageLocation.LOCK, path=image, pin=pin()), locked)
    [repair] = mend([found], locked, tmp_path / "images")

    assert (repair.error, repair.fetched, repair.reference) == (None, True, f"docker://{REPOSITORY}:1.0")
    assert image.read_bytes() == content
    assert repair.aside.read_bytes() == b"half"


def test_a_file_that_the_lock_names_is_left_to_its_owner(tmp_path):
    path = tmp_path / "own.sif"
    path.write_bytes(b"other")
    [own] = pins_of(lock_entry(str(path), f"sha256:{'1' * 64}"))
    found = SurveyedImage(
        place=ImageLocation.LOCK, fact=DiskFact(state=DiskState.STALE, path=str(path), detail=""), pin=own
    )
    [repair] = mend([found], NOTHING, tmp_path)

    assert isinstance(repair.error, LocalIOError)
    assert "which no registry can give back" in repair.error.message
    assert path.read_bytes() == b"other"
    assert not is_fetchable(own)
    assert is_fetchable(pin())


def test_what_is_verified_is_not_mended(tmp_path):
    image = pins.put(tmp_path, pin())
    pins.record(image, pin())
    found, _ = verify([Candidate(place=ImageLocation.LOCK, path=image, pin=pin())], NOTHING)
    assert mend(found, NOTHING, tmp_path) == []


def test_what_cannot_be_compared_for_a_registry_stays_and_has_an_error(tmp_path):
    image = pins.put(tmp_path, pin())
    found, _ = verify([Candidate(place=ImageLocation.LOCK, path=image, pin=pin())], NOTHING)
    registry = Served(content=Image(layers=(layer(file("x")),)))
    deeper, [(failed, error)] = deepen(found, registry)
    assert (deeper, failed) == (found, found[0])
    assert "is not there" in error.message


def test_only_what_is_sound_and_not_proven_is_compared(tmp_path):
    registry = Served(content=Image(layers=(layer(file("x")),)))
    candidates = [
        lies(tmp_path / f"{'a' * 32}.simg"),
        lies(tmp_path / "oci-tmp" / pin().digest.hex, ImageLocation.CACHE, sifs.pulled(f"{REPOSITORY}@{pin().digest}")),
    ]
    found, _ = verify(candidates, NOTHING)
    assert deepen(found, registry) == (found, [])
    assert registry.asked == []
