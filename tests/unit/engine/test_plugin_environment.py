"""Environments of our deployment plugin without a workflow: the lock names images, and a command runs their file."""

import pytest

from snakemake_apptainer_freshness.engine import plugin_environment
from snakemake_apptainer_freshness.engine.plugin_environment import Alone
from snakemake_apptainer_freshness.errors import NotLocked, Unpinnable, UnprovenImage
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from snakemake_apptainer_freshness.store import claims
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import pins
from tests.support.pins import lock_entry

PIN = pins.pin()
REFERENCE = PIN.reference.text
ABSENT = "docker://quay.io/team/absent:1"


@pytest.fixture
def folder(tmp_path):
    """The image folder."""
    path = tmp_path / "images"
    path.mkdir()
    return path


@pytest.fixture
def lock(tmp_path, monkeypatch):
    """The lock in the working directory, which has one image."""
    monkeypatch.chdir(tmp_path)
    made = Lock.of([lock_entry(REFERENCE, str(PIN.digest))])
    (tmp_path / "containers.lock").write_text(dumps(made))
    return made


@pytest.fixture
def alone(folder, lock):
    return Alone(lockfile=None, folder=folder, arguments="")


def test_an_image_is_what_the_lock_says(alone):
    assert alone.pinned(REFERENCE).url == PIN.url
    assert plugin_environment.identity(alone, REFERENCE) == str(PIN.digest)
    assert alone.pin(REFERENCE) == alone.pinned(REFERENCE)


def test_what_the_lock_lacks_is_told_by_what_the_rule_says_and_does_not_run(alone, folder):
    assert plugin_environment.identity(alone, ABSENT) == ABSENT
    assert plugin_environment.place(alone, ABSENT, folder) == image_path(folder, ABSENT)
    for ask in (alone.image, alone.provide):
        with pytest.raises(NotLocked, match="does not say what it is"):
            ask(ABSENT)


def test_an_image_lies_in_the_image_folder_and_is_guarded_there(alone, folder):
    image = pins.put(folder, PIN)
    pins.record(image, PIN)
    assert plugin_environment.place(alone, REFERENCE, folder) == image
    assert alone.image(REFERENCE).path() == str(image)
    assert alone.image(REFERENCE) is alone.image(REFERENCE)
    pins.flip_seven_bytes(image)
    with pytest.raises(UnprovenImage) as raised:
        alone.image(REFERENCE).path()
    assert f"--prefix {folder}" in raised.value.hint


def test_snakemakes_own_file_of_a_pin_says_what_the_lock_says(alone):
    assert plugin_environment.pinfile(alone, REFERENCE) == (
        f'reference = "{REFERENCE}"\npinned = "{PIN.url}"\ndigest = "{PIN.digest}"\n'
    )


def test_an_image_of_which_no_file_can_be_proven_does_not_run():
    error = plugin_environment.unprovable("shub://team/tool", "why")
    assert isinstance(error, Unpinnable)
    assert "it cannot be proven: why" in error.message


@pytest.mark.parametrize(("reference", "is_file"), [("/images/a.sif", True), (ABSENT, False), ("oras://h/a:1", False)])
def test_a_file_of_this_machine_has_not_to_be_deployed(reference, is_file):
    assert plugin_environment.is_file(reference) is is_file


def test_a_command_quotes_what_it_is_given_and_shows_no_value(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugin_environment, "_program", lambda: "/opt/a b/apptainer")
    (tmp_path / "in put").mkdir()
    mounts = [tmp_path / "in put", tmp_path / "absent", tmp_path / "in put"]
    said = plugin_environment.command(
        "bash", "echo $X; rm it", image="/i m.sif", arguments="--nv", mounts=mounts, variables=["SECRET", "A"]
    )
    assert said == (
        'APPTAINERENV_A="${A}" APPTAINERENV_SECRET="${SECRET}" \'/opt/a b/apptainer\' exec '
        f"--home {tmp_path} --bind '{tmp_path / 'in put'}' --nv '/i m.sif' bash -c 'echo $X; rm it'"
    )


def test_an_image_that_no_lock_needs_is_removed(folder):
    image = pins.put(folder, PIN)
    plugin_environment.remove(image, folder)
    plugin_environment.remove(folder / "absent", folder)
    assert not image.exists()


def test_an_image_that_a_lock_needs_and_a_file_elsewhere_stay(folder, lock, tmp_path):
    image, other = pins.put(folder, PIN), tmp_path / "own.sif"
    other.write_text("mine")
    claims.register(folder, tmp_path / "containers.lock", lock)
    plugin_environment.remove(image, folder)
    plugin_environment.remove(other, folder)
    assert image.exists()
    assert other.exists()
