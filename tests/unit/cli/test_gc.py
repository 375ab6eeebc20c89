"""``apptainer-freshness gc``."""

from __future__ import annotations

import pytest

from snakemake_apptainer_freshness.lockfile import Lock, dumps
from snakemake_apptainer_freshness.record import journal
from snakemake_apptainer_freshness.store import claims
from tests.support import journals, pins
from tests.support.pins import OTHER, entry_of

UNNEEDED = pins.pin(OTHER)


@pytest.fixture
def untidy(good):
    """A good place, with one image that no lock needs and one that we did not fetch."""
    image = pins.put(good.prefix, UNNEEDED)
    pins.record(image, UNNEEDED)
    (good.prefix / f"{'0' * 32}.simg").write_bytes(b"x" * 2048)
    return good


def images(place):
    return {path.name for path in place.prefix.glob("*.simg")}


def test_it_shows_what_it_would_free_and_deletes_nothing(untidy):
    before = images(untidy)
    answer = untidy.run("gc")

    assert answer.status == 1
    assert [row[0] for row in answer.rows] == ["image", "foreign"]
    assert UNNEEDED.reference.text in answer.rows[0][2]
    assert "1 file, 40.0 KiB: free them with: apptainer-freshness gc --yes" in answer.err
    assert "1 foreign image, 2.0 KiB: not touched without --foreign" in answer.err
    assert images(untidy) == before


def test_with_yes_it_deletes_what_it_shows_and_nothing_foreign(untidy):
    answer = untidy.run("gc", "--yes")

    assert answer.status == 0
    assert "freed 40.0 KiB: 1 file deleted" in answer.err
    assert len(images(untidy)) == 2
    assert untidy.run("gc").status == 0


def test_foreign_images_go_where_that_is_asked_for(untidy):
    assert untidy.run("gc", "--yes", "--foreign").status == 0
    assert len(images(untidy)) == 1


def test_nothing_to_free(good):
    answer = good.run("gc")

    assert (answer.status, answer.out) == (0, "")
    assert "nothing to free" in answer.err


def test_as_json(untidy):
    document = untidy.run("gc", "--json").json
    assert document["total"] == document["waste"][0]["size"]
    assert document["freed"] == 0
    assert document["waste"][0]["freed"] is False
    assert document["foreign"][0]["what"] == "foreign"

    done = untidy.run("gc", "--json", "--yes").json
    assert done["freed"] == document["total"]
    assert done["waste"][0]["freed"] is True
    assert done["foreign"][0]["freed"] is False


def test_without_any_lock_it_is_refused(place):
    image = pins.put(place.prefix, UNNEEDED)
    pins.record(image, UNNEEDED)
    answer = place.run("gc", "--yes")

    assert answer.status == 2
    assert "no lock is known" in answer.err
    assert image.exists()


def test_a_registered_lock_is_enough_to_go_by_and_its_end_is_told(untidy, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    lock = Lock.of([entry_of(UNNEEDED)])
    (other / "containers.lock").write_text(dumps(lock))
    claims.register(untidy.prefix, other / "containers.lock", lock)
    assert untidy.run("gc").status == 0

    (other / "containers.lock").unlink()
    answer = untidy.run("gc")
    assert answer.status == 0
    assert f"{other / 'containers.lock'} is gone; its images are kept until 20" in answer.err

    answer = untidy.run("gc", "--grace", "0")
    assert [row[0] for row in answer.rows] == ["image", "claim", "foreign"]
    assert untidy.run("gc", "--grace", "0", "--json").json["locks"][0]["presence"] == "gone"


def test_a_claim_that_nobody_understands_stops_it(untidy):
    (untidy.prefix / f".freshness-claim-{'0' * 32}.json").write_text("{")
    answer = untidy.run("gc", "--yes")

    assert answer.status == 2
    assert "cannot tell which images are needed" in answer.err
    assert len(images(untidy)) == 3


def test_the_lock_of_another_host_is_told(untidy):
    claim = claims.Claim(lockfile="/nowhere/containers.lock", host="elsewhere", folder=1, locked=(UNNEEDED.url,))
    (untidy.prefix / claim.name).write_bytes(claim.dumps())
    answer = untidy.run("gc")

    assert answer.status == 0
    assert "/nowhere/containers.lock of host elsewhere cannot be read here; what it claimed is kept" in answer.err


def test_what_cannot_be_deleted_makes_the_status_3(untidy, monkeypatch):
    from snakemake_apptainer_freshness.actions import gc

    def refused(_folder, name):
        raise PermissionError(13, "Permission denied", name)

    with monkeypatch.context() as patched:
        patched.setattr(gc, "remove_at", refused)
        answer = untidy.run("gc", "--yes", "--json")
    assert answer.status == 3
    assert "cannot delete" in answer.err
    assert answer.json["error"][0]["error"] == "LocalIOError"


@pytest.mark.parametrize("verb", [["pull"], ["verify", "--repair"]], ids=" ".join)
def test_who_fetches_for_a_lock_registers_it(place, verb):
    place.lock(pins.pin())
    place.fake.serve(pins.pin())
    place.run(*verb)

    [registered] = claims.registered(place.prefix)
    assert registered.claim.lockfile == str(place.folder / "containers.lock")


def test_a_table_at_a_terminal(untidy, terminal, monkeypatch):
    terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    answer = untidy.run("gc")

    assert answer.out.splitlines()[0].split() == ["what", "size", "file", "why"]
    assert all(len(line) <= 80 for line in answer.out.splitlines())


def test_old_records_of_runs_are_shown_and_removed_on_demand(place):
    journals.write_chain(place.folder, 5)
    (place.folder / "a.txt").write_text("made")
    shown = place.run("gc", "--keep-runs", "2")
    assert shown.status == 1
    assert "3 records up to that of run 20260101T000002.000000Z" in shown.err
    assert len(journal.read_all(place.folder)) == 5

    done = place.run("gc", "--keep-runs", "2", "--yes", "--json")
    assert done.status == 0
    assert (len(done.json["records"]["gone"]), done.json["records"]["left"], done.json["records"]["removed"]) == (
        3,
        2,
        True,
    )
    assert len(journal.read_all(place.folder)) == 2
    again = place.run("gc", "--keep-runs", "2", "--yes")
    assert again.status == 0
    assert "no record of a run is older than what is kept: 2 records" in again.err


def test_without_a_lock_only_records_are_removed(place):
    journals.write_chain(place.folder, 2)
    image = pins.put(place.prefix, pins.pin())
    assert place.run("gc", "--keep-days", "0", "--foreign", "--yes").status == 0
    assert image.exists()
    assert len(journal.read_all(place.folder)) == 1


@pytest.mark.parametrize("arguments", [["--seal"], ["--seal-key", "x"], ["--keep-runs", "1", "--seal-key", "x"]])
def test_what_is_to_be_sealed_must_be_asked_for(place, arguments):
    assert place.run("gc", *arguments).status == 2
