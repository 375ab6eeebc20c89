"""How every command finds the lock and the image folder, and takes the options that they share."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from snakemake_apptainer_freshness.cli import common
from snakemake_apptainer_freshness.errors import InvalidLock, UsageError
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.store import claims
from tests.support import pins
from tests.support.pins import lock_entry


def write(path, text=""):
    path = Path(path)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_the_lock_here_goes_before_the_one_of_the_workflow_folder(place):
    assert common.find_lock(None) is None
    write("workflow/containers.lock")
    assert common.find_lock(None) == Path("workflow/containers.lock")
    write("containers.lock")
    assert common.find_lock(None) == Path("containers.lock")


def test_a_lock_that_is_chosen_has_to_be_there_and_a_file(place):
    write("containers.lock")
    with pytest.raises(UsageError, match=r"there is no lock file other\.lock"):
        common.find_lock(Path("other.lock"))
    Path("folder").mkdir()
    for ask in (common.find_lock, common.lock_place):
        with pytest.raises(UsageError, match="the lock file folder is a folder"):
            ask(Path("folder"))
    assert common.find_lock(write("other.lock")) == Path("other.lock")


def test_a_new_lock_belongs_beside_the_main_snakefile(place):
    assert common.lock_place(None) == Path("containers.lock")
    write("workflow/Snakefile")
    assert common.lock_place(None) == Path("workflow/containers.lock")
    write("Snakefile")
    assert common.lock_place(None) == Path("containers.lock")


def test_a_lock_that_is_there_stays_where_it_is_and_a_chosen_one_need_not_be_there(place):
    write("workflow/Snakefile")
    write("containers.lock")
    assert common.lock_place(None) == Path("containers.lock")
    assert common.lock_place(Path("deep/x.lock")) == Path("deep/x.lock")


def test_where_a_lock_is_needed_its_lack_says_what_to_do(place):
    with pytest.raises(UsageError, match=r"neither containers\.lock nor workflow/containers\.lock") as raised:
        common.need_lock(None, hint="make one")
    assert raised.value.hint == "make one"
    place.lock(pins.pin())
    path, lock = common.need_lock(None, hint="")
    assert (path, list(lock.entries)) == (Path("containers.lock"), [pins.pin().reference.text])
    with pytest.raises(InvalidLock):
        common.need_lock(write("bad.lock", "version = "), hint="")


def test_the_image_folder_is_snakemakes_own_and_need_not_be_there(place, monkeypatch):
    assert common.image_folder(None) == Path(".snakemake/singularity").absolute()
    monkeypatch.setenv("APPTAINER_CACHEDIR", str(place.folder / "cache"))
    assert common.image_folder(None) == place.folder / "cache"


def test_an_image_folder_that_is_chosen_has_to_be_there_unless_it_may_be_made(place):
    for chosen, said in (("  ", "--prefix is empty"), ("images", "there is no image folder")):
        with pytest.raises(UsageError, match=said):
            common.image_folder(chosen)
    assert common.image_folder("images", may_be_made=True) == Path("images").absolute()
    write("file")
    with pytest.raises(UsageError, match="file is not a folder"):
        common.image_folder("file", may_be_made=True)


def test_what_a_lock_needs_is_made_known_to_clean_ups(place):
    place.prefix.mkdir(parents=True)
    lock, path = Lock.of([lock_entry(pins.pin().reference.text)]), place.folder / "containers.lock"
    place.lock(pins.pin())
    common.register(place.prefix, path, lock)
    assert [one.claim.lockfile for one in claims.registered(place.prefix)] == [str(path)]


def test_a_folder_that_cannot_be_registered_in_is_told_and_stops_nothing(place, capsys):
    common.register(write("file"), place.folder / "containers.lock", Lock.of([lock_entry(pins.pin().reference.text)]))
    assert capsys.readouterr().err != ""


def test_the_options_that_commands_share_arrive_under_their_names():
    got = {}

    @click.command()
    @common.lockfile_option
    @common.prefix_option
    @common.json_option
    @common.sarif_option
    @common.snakemake_arguments
    def command(**options):
        got.update(options)

    words = ["--lockfile", "a.lock", "--apptainer-prefix", "images", "--json", "--sarif", "x", "--", "-s", "Snakefile"]
    answer = CliRunner().invoke(command, words)
    assert answer.exit_code == 0, answer.output
    assert got == {
        "lockfile": Path("a.lock"),
        "prefix": "images",
        "as_json": True,
        "sarif": Path("x"),
        "arguments": ("-s", "Snakefile"),
    }
    assert CliRunner().invoke(command, ["--sarif", "/"]).exit_code == 2
