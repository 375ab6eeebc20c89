"""Attacks on the fact stores of a site, one test each: what others could have written proves nothing.

Each begins with an image of the attacker, the right label in it, and a fact by which it would be proven. Where others
can write a store itself, or the way to it, that is one clear error; what they can write within it counts for nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.errors import InvalidSettings
from snakemake_apptainer_freshness.settings import parse_options
from snakemake_apptainer_freshness.store import sites, state
from tests.support import accounts
from tests.support.accounts import ALICE, MALLORY
from tests.support.attacks.stores import SITE, believes, filled, image, nothing_else_named, shared

__all__ = ["image", "nothing_else_named", "shared"]  # fixtures


def refused(store, image):
    """The error that ends the victim's check; it has to be about the `store`."""
    told = accounts.run(ALICE, believes, store, image)
    assert told.startswith(f"the fact store {store} of this site cannot be believed: ")
    return told


def whole_way_in(account, *paths):
    """Let `account` own the folders on the way, which a private machine has from root."""
    for path in paths:
        os.chown(path, account.uid, -1)


def test_what_an_honest_site_says_is_believed(shared, image):
    store = accounts.run(SITE, filled, shared / "site" / "facts", image)
    assert accounts.run(ALICE, believes, store, image) == "verified"


def test_forged_fact_store_permissions_of_another_user(shared, image):
    store = accounts.run(MALLORY, filled, shared / "site" / "facts", image)
    assert f"site belongs to user {MALLORY.uid}" in refused(store, image)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_forged_fact_store_permissions_of_a_folder_that_others_may_write(shared, image, mode):
    store = accounts.run(SITE, filled, shared / "site" / "facts", image)
    accounts.run(SITE, store.chmod, mode)
    assert f"others may write to {store} (mode {mode:04o})" in refused(store, image)


def test_forged_fact_store_permissions_of_a_folder_above_it(shared, image):
    store = accounts.run(SITE, filled, shared / "site" / "facts", image)
    accounts.run(SITE, store.parent.chmod, 0o777)
    assert f"others may write to {store.parent} (mode 0777)" in refused(store, image)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_forged_fact_store_permissions_of_what_is_in_it(shared, image, depth):
    """The fact itself (0), its folder (1), and so on: each may be written by others."""
    store = accounts.run(SITE, filled, shared / "site" / "facts", image)
    [fact] = store.rglob("*.json")
    writable = [fact, *fact.parents][depth]
    accounts.run(SITE, writable.chmod, 0o666 if writable == fact else 0o777)
    assert accounts.run(ALICE, believes, store, image) == "bound"


def test_fact_of_another_user_in_the_store_of_an_honest_one(shared, image):
    store = accounts.run(SITE, filled, shared / "site" / "facts", image)
    [fact] = store.rglob("*.json")
    accounts.Child(None, 0o022, whole_way_in, MALLORY, fact).result()
    assert accounts.run(ALICE, believes, store, image) == "bound"


def test_symbolic_link_in_place_of_a_store(shared, image):
    honest = accounts.run(SITE, filled, shared / "site" / "facts", image)
    link = shared / "link"
    accounts.run(MALLORY, link.symlink_to, honest)
    assert f"{link} is a symbolic link: name the path that it leads to" in refused(link, image)


def test_symbolic_link_within_a_store(shared, image):
    """The attacker's facts lie where only the honest owner could have put a link; it is not followed all the same."""
    store = accounts.run(SITE, filled, shared / "site" / "facts", image)
    forged = accounts.run(MALLORY, filled, shared / "forged", image)
    accounts.run(SITE, shutil.rmtree, store / "contents")
    accounts.run(SITE, (store / "contents").symlink_to, forged / "contents")
    assert accounts.run(ALICE, believes, store, image) == "bound"


_IN_A_NAMESPACE = """
import os, sys
from snakemake_apptainer_freshness.store import facts, sites
from snakemake_apptainer_freshness.errors import FreshnessError
from tests.support.pins import pin
try:
    print(len(facts.about(pin())), "facts are believed")
except FreshnessError as error:
    print(error)
"""


@pytest.mark.parametrize("owners", ["", "65534"])
def test_store_of_anybody_in_a_namespace_that_maps_no_other_user(shared, image, owners):
    """There every user shows as nobody, root and the attacker alike; to list nobody would be to list all."""
    store = accounts.run(MALLORY, filled, shared / "facts", image)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "XDG_CONFIG_HOME": "/nonexistent",
        sites.STORES: str(store),
        sites.OWNERS: owners,
        state.VARIABLE: str(shared / "state of the namespace"),
    }
    answer = subprocess.run(
        ["unshare", "--user", sys.executable, "-c", _IN_A_NAMESPACE],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (
        f"the fact store {store} of this site cannot be believed: / belongs to user 65534, as which this"
        in answer.stdout
    )
    assert "run this outside of the container or user namespace" in answer.stdout


def swapping(store, forged):
    """Be the attacker, who may rename in the folder above: the honest store and the forged one, by turns."""
    while True:
        for path in (forged, store.with_name("honest")):
            link = store.with_name("next")
            link.symlink_to(path)
            link.replace(store)


def test_swapped_way_to_a_store(shared, image):
    """What was looked at is what is read: a way that another user can lead elsewhere is never taken."""
    accounts.run(SITE, filled, shared / "open" / "honest", image)
    accounts.run(SITE, shutil.rmtree, shared / "open" / "honest" / "contents")
    accounts.run(SITE, (shared / "open").chmod, 0o777)
    forged = accounts.run(MALLORY, filled, shared / "forged", image)
    with accounts.running(MALLORY, swapping, shared / "open" / "facts", forged):
        for _ in range(20):
            assert "others may write to" in refused(shared / "open" / "facts", image)


def test_fact_store_that_the_configuration_of_a_workflow_names(tmp_path):
    for key in ("stores", "owners", "store"):
        with pytest.raises(InvalidSettings, match=f"apptainer_freshness has no key '{key}'"):
            parse_options({key: [str(tmp_path)]}, source="the workflow's configuration")


def test_fact_store_that_a_site_file_beside_the_workflow_names(tmp_path, monkeypatch):
    for name in ("site.toml", "apptainer-freshness/site.toml", ".config/apptainer-freshness/site.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('stores = ["/planted"]\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", ".config")
    monkeypatch.setenv("XDG_CONFIG_DIRS", ".:.config")
    assert sites.site() == sites.Site()


@pytest.mark.parametrize("what", ["file", "folder"])
def test_fact_store_that_a_site_file_names_which_others_may_write(tmp_path, monkeypatch, what):
    path = tmp_path / "apptainer-freshness" / "site.toml"
    path.parent.mkdir()
    path.write_text(f'stores = ["{tmp_path}"]\nowners = [{MALLORY.uid}]\n')
    (path if what == "file" else path.parent).chmod(0o777)
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path))
    with pytest.raises(InvalidSettings, match="names whose proofs count, and others may write to"):
        sites.site()


def test_library_of_images_that_a_file_names_needs_no_trust(tmp_path, monkeypatch):
    path = tmp_path / "apptainer-freshness" / "site.toml"
    path.parent.mkdir()
    path.write_text('images = ["/images"]\n')
    path.chmod(0o666)
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path))
    assert sites.site().libraries == (Path("/images"),)
