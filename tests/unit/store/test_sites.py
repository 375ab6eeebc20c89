"""What a site names: which files and variables say so, and what of a fact store is believed."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.check import check, check_one
from snakemake_apptainer_freshness.actions.fetch import fetch
from snakemake_apptainer_freshness.common.files import StatKey
from snakemake_apptainer_freshness.errors import InvalidSettings
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import facts, index, places, sites, state
from snakemake_apptainer_freshness.store.places import PlaceFact
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import pins
from tests.support.fake_apptainer import FakeApptainer
from tests.support.pins import DIGEST, MANIFEST, fact_of, pin
from tests.support.stores import publish

HERE = Platform.parse("linux/amd64")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of which nothing is named yet."""
    for name in (sites.STORES, sites.OWNERS, sites.IMAGES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "xdg"))
    monkeypatch.setattr(sites, "_SYSTEM", tmp_path / "etc" / "site.toml")
    sites._named.cache_clear()
    return tmp_path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)
    path.parent.chmod(0o755)


def test_a_machine_that_names_nothing(machine):
    assert sites.site() == sites.Site()


def test_all_places_count_together_and_each_store_once(machine, monkeypatch):
    write(machine / "config" / "apptainer-freshness" / "site.toml", 'images = ["/home/images"]\nstores = ["/mine"]\n')
    write(machine / "xdg" / "apptainer-freshness" / "site.toml", 'stores = ["/facts"]\n')
    name = pwd.getpwuid(os.geteuid()).pw_name
    write(machine / "etc" / "site.toml", f'stores = ["/facts"]\nowners = ["{name}", 4711]\n')
    monkeypatch.setenv(sites.STORES, "/first:/second")
    monkeypatch.setenv(sites.OWNERS, "4712")
    monkeypatch.setenv(sites.IMAGES, "/images")
    found = sites.site()
    assert [str(store.path) for store in found.stores] == ["/first", "/second", "/mine", "/facts"]
    assert {store.owners for store in found.stores} == {frozenset({0, os.geteuid(), 4711, 4712})}
    assert [str(path) for path in found.libraries] == ["/images", "/home/images"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('stores = ["facts"]', "'facts', which is no absolute path"),
        ('owners = ["no such user at all"]', "no user of this machine"),
        ("owners = [true]", "no user of this machine"),
        ('store = ["/facts"]', "unknown key 'store'; its keys are stores, owners, images"),
        ('stores = "/facts"', "stores must be a list of at most"),
        ("stores = [", "Unclosed array|Invalid value"),
    ],
)
def test_a_file_that_cannot_be_understood_is_an_error(machine, text, problem):
    write(machine / "etc" / "site.toml", text)
    with pytest.raises(InvalidSettings, match=problem):
        sites.site()


@pytest.fixture
def store(machine, monkeypatch):
    """A fact store of this machine, which is named; nothing is in it."""
    folder = machine / "facts"
    folder.mkdir(mode=0o755)
    monkeypatch.setenv(sites.STORES, str(folder))
    monkeypatch.setenv(sites.OWNERS, str(os.geteuid()))
    return folder


def test_what_a_site_has_proven_is_known_and_says_whose_it_is(store, tmp_path):
    image = pins.put(tmp_path / "images", pin())
    publish(store, fact_of(image.read_bytes(), pin()))
    fact = check_one(pin(), image)
    assert (fact.state, fact.store) == ("verified", str(store))
    assert fact.detail.endswith(f"recorded on 2026-01-02T03:04:05Z, says the fact store {store}")
    assert (state.folder() / "contents").exists() is False  # it stays the site's word

    places.keep(image, PlaceFact.of(fact_of(image.read_bytes(), pin()), stat=StatKey.of(image.lstat())))
    again = check_one(pin(), image)
    assert (again.state, again.store) == ("verified", str(store))
    assert again.detail == f"untouched since its SHA-256 was checked, says the fact store {store}"


def test_what_a_site_takes_back_is_not_known_any_more(store, tmp_path):
    image = pins.put(tmp_path / "images", pin())
    published = publish(store, fact_of(image.read_bytes(), pin()))
    assert check_one(pin(), image).state == "verified"
    for path in published:
        path.unlink()
    assert check_one(pin(), image).state == "bound"


def test_an_index_keeps_no_copy_of_what_a_site_says(store, tmp_path, monkeypatch):
    monkeypatch.setattr("snakemake_apptainer_freshness.actions.check.DISK", DISK._replace(index_from=1))
    image = pins.put(tmp_path / "images", pin())
    publish(store, fact_of(image.read_bytes(), pin()))
    places.keep(image, PlaceFact.of(fact_of(image.read_bytes(), pin()), stat=StatKey.of(image.lstat())))
    for _ in range(3):
        assert check([pin()], image.parent)[pin().url].state == "verified"
    assert list(index.vouched(image.parent, [pin()])) == []


def test_what_this_user_has_proven_comes_first(store, tmp_path):
    image = pins.put(tmp_path / "images", pin())
    mine = pins.record(image, pin())
    publish(store, fact_of(image.read_bytes(), pin(), refuted="says the site"))
    assert check_one(pin(), image).store == ""
    assert facts.about(pin()) == (mine,)


def test_what_a_site_refutes_is_stale(store, tmp_path):
    image = pins.put(tmp_path / "images", pin())
    publish(store, fact_of(image.read_bytes(), pin(), refuted="it holds other files"))
    fact = check_one(pin(), image)
    assert (fact.state, fact.store) == ("stale", str(store))


def test_a_site_may_know_an_image_by_the_manifest_of_an_index_that_it_hashed(store, tmp_path):
    image = pins.put(tmp_path / "images", pin())
    fact = fact_of(image.read_bytes(), pin(), digest=MANIFEST)
    publish(store, fact)
    assert check_one(pin(), image).state == "bound"
    publish(store, fact, indexes={DIGEST: {HERE: MANIFEST}})
    assert check_one(pin(), image).state == "verified"
    assert facts.manifest_of(DIGEST, HERE) is None  # what would be kept as this user's own proof


def test_a_copy_of_what_a_site_has_proven_stays_the_sites_word(store, tmp_path):
    fake = FakeApptainer(tmp_path / "fake")
    environment = {key: value for key, value in fake.environment.items() if key != "APPTAINER_DISABLE_CACHE"}
    entry = tmp_path / "fake" / "home" / ".apptainer" / "cache" / "oci-tmp" / DIGEST.hex
    entry.parent.mkdir(parents=True)
    entry.write_bytes(fake.serve(pin()))
    publish(store, fact_of(entry.read_bytes(), pin()))
    [result] = fetch([pin()], tmp_path / "images", environment=environment)
    assert (result.outcome, fake.pulls) == ("copied", [])
    assert not (state.folder() / "contents").exists()
    place = places.load(image_path(tmp_path / "images", pin().url))
    assert place is not None
    assert place.content is not None
    assert place.content.store == str(store)


def test_a_store_that_is_away_says_nothing(machine, tmp_path, monkeypatch):
    monkeypatch.setenv(sites.STORES, str(tmp_path / "not mounted"))
    monkeypatch.setenv(sites.OWNERS, str(os.geteuid()))
    image = pins.put(tmp_path / "images", pin())
    assert check_one(pin(), image).state == "bound"


def test_a_file_of_a_user_whom_the_namespace_does_not_map_names_no_store(machine, monkeypatch):
    write(machine / "etc" / "site.toml", 'stores = ["/facts"]\n')
    monkeypatch.setattr(sites, "is_unmapped", lambda uid: uid == os.geteuid())
    with pytest.raises(InvalidSettings, match=r"even root|belongs to user") as error:
        sites.site()
    assert "run this outside of the container or user namespace" in error.value.hint


def test_a_file_of_such_a_user_may_name_libraries(machine, monkeypatch):
    write(machine / "etc" / "site.toml", 'images = ["/images"]\n')
    monkeypatch.setattr(sites, "is_unmapped", lambda _uid: True)
    assert sites.site().libraries == (Path("/images"),)
