"""What the doctor finds in folders of images, the worst first; nothing is changed."""

import pytest

from snakemake_apptainer_freshness.actions import doctor, mounting
from snakemake_apptainer_freshness.actions.doctor import DoctorFinding, Weight, diagnose, paths_shown
from snakemake_apptainer_freshness.actions.machine import MachineProblem
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from tests.support import pins, sifs
from tests.support.fake_apptainer import FakeApptainer
from tests.support.pins import REPOSITORY, lock_entry, old, pin


@pytest.fixture
def environment(tmp_path, monkeypatch):
    monkeypatch.setattr(mounting, "SMALL", 0)  # where tests keep their files says nothing of this place
    fake = FakeApptainer(tmp_path / "fake")
    return fake.environment | {
        "APPTAINER_DISABLE_CACHE": "0", "APPTAINER_CACHEDIR": str(tmp_path / "apptainer"), "APPTAINER_UNSQUASH": "1",
    }  # fmt: skip


@pytest.fixture
def prefix(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir(mode=0o755)
    return folder


def test_a_healthy_place_has_no_finding(prefix, environment):
    pins.put(prefix, pin())
    found = diagnose(prefix, None, environment)
    assert found.findings == []
    assert (found.folders[0].name, found.folders[0].images) == ("image folder", 1)


def test_problems_come_first_and_what_takes_most_room_before_what_takes_less(
    prefix, environment, tmp_path, monkeypatch
):
    empty = old(tmp_path / "apptainer" / "cache" / "oci-tmp" / ("a" * 64), b"")  # in the order in which they are found
    old(prefix / f"{'b' * 32}.simg.partial-host-1-00000000", bytes(10))
    old(prefix / f"{'c' * 32}.simg.quarantine-1", bytes(1000))
    slow = MachineProblem(kind=mounting.KIND, text="it waits", hint="")
    monkeypatch.setattr(doctor, "slowness", lambda *_: [slow])
    found = diagnose(prefix, None, environment).findings
    assert [(one.weight, one.kind, one.size) for one in found] == [
        (Weight.PROBLEM, "empty", 0), (Weight.SLOW, slow.kind, 0),
        (Weight.SPACE, "quarantined", 1000), (Weight.SPACE, "leftover", 10),
    ]  # fmt: skip
    assert found[0].paths == (str(empty),)
    assert found[0].text == "1 empty image in Apptainer's cache"


def test_what_the_lock_does_not_name_is_told_where_there_is_a_lock(prefix, environment, tmp_path):
    pins.put(prefix, pin())
    other = old(prefix / f"{'a' * 32}.simg", sifs.pulled("a/b:1", image_id=bytes(range(1, 17))))
    lock = tmp_path / "containers.lock"
    lock.write_text(dumps(Lock.of([lock_entry(f"docker://{REPOSITORY}:1.0")])))

    assert diagnose(prefix, None, environment).findings == []
    [found] = diagnose(prefix, lock, environment).findings
    assert (found.kind, found.paths, found.size) == ("unreferenced", (str(other),), other.stat().st_size)
    assert "adopt" in found.hint


def test_a_lock_that_cannot_be_read_is_a_problem(prefix, environment, tmp_path):
    lock = tmp_path / "containers.lock"
    lock.write_text("[")
    assert [(one.weight, one.kind) for one in diagnose(prefix, lock, environment).findings] == [("problem", "lock")]


def test_a_second_file_of_one_build_is_counted_once_and_a_second_name_is_none(prefix, environment, tmp_path):
    image = pins.put(prefix, pin())
    entry = old(tmp_path / "apptainer" / "cache" / "oci-tmp" / ("a" * 64), image.read_bytes())
    [found] = diagnose(prefix, None, environment).findings
    assert (found.kind, found.paths, found.size) == ("duplicate", (str(entry),), image.stat().st_size)
    entry.unlink()
    entry.hardlink_to(image)
    assert diagnose(prefix, None, environment).findings == []


def test_a_cache_in_the_working_directory_is_a_problem(prefix, environment):
    found = diagnose(prefix, None, environment | {"APPTAINER_CACHEDIR": ""}).findings
    [text] = [one.text for one in found if one.kind == "environment"]
    assert text.startswith("APPTAINER_CACHEDIR is set and empty")


def test_without_a_program_that_is_a_problem(prefix, environment):
    assert "program" in {one.kind for one in diagnose(prefix, None, environment | {"PATH": "/nowhere"}).findings}


def test_a_folder_that_anyone_may_write_is_a_problem_unless_it_is_sticky(prefix, environment):
    prefix.chmod(0o777)
    [found] = diagnose(prefix, None, environment).findings
    assert (found.kind, found.hint) == ("permissions", f"chmod o-w {prefix}")
    prefix.chmod(0o1777)
    assert diagnose(prefix, None, environment).findings == []


def test_only_the_first_paths_are_shown():
    finding = DoctorFinding(weight=Weight.SPACE, kind="x", text="", hint="", paths=tuple("abcdefg"))
    assert paths_shown(finding) == (tuple("abcde"), 2)
