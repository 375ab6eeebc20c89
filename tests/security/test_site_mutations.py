"""Each verification of what a site names is what stops its attack: with it taken away, the attack succeeds."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest

from snakemake_apptainer_freshness.actions.prove import prove
from snakemake_apptainer_freshness.actions.sandboxes import check_sandbox
from snakemake_apptainer_freshness.apptainer import sandbox
from snakemake_apptainer_freshness.common import trusted
from snakemake_apptainer_freshness.engine.messages import ContainerFreshnessError
from snakemake_apptainer_freshness.store import facts, image_library, places
from snakemake_apptainer_freshness.store.image_library import Catalog
from snakemake_apptainer_freshness.store.places import PlaceFact
from snakemake_apptainer_freshness.store.sites import FactStore
from tests.support import accounts, pins, proofs, sifs
from tests.support.accounts import ALICE, MALLORY
from tests.support.attacks.stores import SITE, believes, filled, image, nothing_else_named, shared
from tests.support.images import Image
from tests.support.pins import pin
from tests.support.proofs import Served, environment, file, folder, layer, pin_of
from tests.support.watched import SandboxRun

__all__ = ["image", "nothing_else_named", "shared"]  # fixtures

CONTENT = Image(layers=(layer(folder("bin"), file("bin/tool", "one", 0o755)),))
PIN = pin_of(CONTENT)


def answers(store, image):
    """What the victim's check says as it is, and with each of what is taken away."""
    return accounts.run(ALICE, believes, store, image)


def test_a_store_of_anybody_counts_where_its_owner_is_not_looked_at(shared, image):
    store = accounts.run(MALLORY, filled, shared / "facts", image)
    assert answers(store, image) != "verified"
    with mock.patch.object(trusted, "_refuse_foreign"):
        assert answers(store, image) == "verified"


def test_a_store_of_anybody_counts_where_the_user_of_all_unmapped_is_an_owner(tmp_path, monkeypatch):
    """As in a user namespace, whose overflow user is listed: here that of the test."""
    (tmp_path / "map").write_text("")
    (tmp_path / "overflow").write_text(str(os.geteuid()))
    monkeypatch.setattr(trusted, "_UID_MAP", tmp_path / "map")
    monkeypatch.setattr(trusted, "_OVERFLOW", tmp_path / "overflow")
    store = FactStore(path=tmp_path, owners=frozenset({0, os.geteuid()}))
    assert store.refusal() is not None
    with mock.patch.object(trusted, "is_unmapped", return_value=False):
        assert store.refusal() is None


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_a_fact_that_others_may_write_counts_where_modes_are_not_looked_at(shared, image, depth):
    store = accounts.run(SITE, filled, shared / "facts", image)
    [fact] = store.rglob("*.json")
    accounts.run(SITE, [fact, *fact.parents][depth].chmod, 0o777)
    assert answers(store, image) != "verified"
    with mock.patch.object(trusted, "_WRITABLE_BY_OTHERS", 0):
        assert answers(store, image) == "verified"


def test_a_way_that_anybody_may_lead_elsewhere_counts_where_links_are_followed(shared, image):
    honest = accounts.run(SITE, filled, shared / "honest", image)
    link = shared / "facts"
    accounts.run(MALLORY, link.symlink_to, honest)
    assert answers(link, image) != "verified"
    follows = trusted._FOLDER & ~os.O_NOFOLLOW
    with mock.patch.object(trusted, "_FOLDER", follows), mock.patch.object(trusted.stat, "S_ISLNK", return_value=False):
        assert answers(link, image) == "verified"


@pytest.fixture
def box(tmp_path):
    """A sandbox folder that was proven, with a file that changes afterwards; what it is then."""
    made = proofs.sandbox(CONTENT, tmp_path)
    content = Served(content=CONTENT)
    assert prove(PIN, made, registry=content, environment=environment(tmp_path / "home")).state == "verified"
    [fact] = facts.about(PIN)
    places.keep(made, PlaceFact.of(fact, survey=sandbox.survey(made).key))
    assert check_sandbox(PIN, made).state == "verified"
    (made / "bin" / "tool").write_text("two")
    return made


def test_a_sandbox_that_was_changed_runs_where_its_files_are_not_looked_at(box):
    assert check_sandbox(PIN, box).state == "altered"
    survey = sandbox.Survey(key=places.load(box).survey, size=0, newest_ns=0)
    with mock.patch.object(sandbox, "survey", return_value=survey):
        assert check_sandbox(PIN, box).state == "verified"


def test_a_sandbox_of_other_files_is_proven_where_contents_are_not_hashed(box, tmp_path):
    pretended = Path(tmp_path / "pretended")
    pretended.write_text("one")
    real = sandbox.sha256_of

    def first_content(file):
        if os.fstat(file.fileno()).st_ino != (box / "bin" / "tool").stat().st_ino:
            return real(file)
        with pretended.open("rb", buffering=0) as other:
            return real(other)

    assert (
        prove(PIN, box, registry=Served(content=CONTENT), environment=environment(tmp_path / "home")).state == "stale"
    )
    with mock.patch.object(sandbox, "sha256_of", first_content):
        proof = prove(PIN, box, registry=Served(content=CONTENT), environment=environment(tmp_path / "home"))
    assert proof.state == "verified"


@pytest.mark.parametrize(
    "taken_away",
    [
        lambda: mock.patch("snakemake_apptainer_freshness.engine.watch.is_untouched", return_value=True),
        lambda: mock.patch.object(sandbox._Reader, "survey", property(any_files)),
    ],
    ids=["look after the job", "what the key is made of"],
)
def test_outputs_are_taken_of_a_job_that_wrote_into_its_sandbox_where_that_is_not_looked_at(box, taken_away):
    (box / "bin" / "tool").write_text("one")
    image_library.remember(PIN, box)
    with pytest.raises(ContainerFreshnessError):
        wrote_while_it_ran(box)
    with taken_away():
        assert wrote_while_it_ran(box)


def any_files(reader):
    """In place of the key of all files."""
    return sandbox.Survey(key="all", size=reader._size, newest_ns=reader._newest)


def wrote_while_it_ran(box):
    """What Snakemake takes of a job that writes into the sandbox `box`, and puts it back."""
    run = SandboxRun(PIN, box)
    (box / "bin" / "tool").write_text("three")
    (box / "bin" / "tool").write_text("one")
    return run.end()


def test_a_name_with_a_command_in_it_is_used_where_characters_are_not_looked_at(tmp_path):
    root = tmp_path / "library"
    root.mkdir()
    (root / "$(touch x).sif").write_bytes(sifs.pulled(f"{pins.REPOSITORY}@{pins.DIGEST}"))
    assert image_library.search(pin(), [Catalog.of(root)]) == []
    with mock.patch.object(image_library, "is_plain_path", return_value=True):
        [item] = image_library.search(pin(), [Catalog.of(root)])
    assert item.path.name == "$(touch x).sif"


def test_an_image_out_of_the_library_is_used_where_links_are_not_looked_at(tmp_path):
    root, outside = tmp_path / "library", tmp_path / "outside.sif"
    root.mkdir()
    outside.write_bytes(sifs.pulled(f"{pins.REPOSITORY}@{pins.DIGEST}"))
    (root / "link.sif").symlink_to(outside)
    assert image_library.search(pin(), [Catalog.of(root)]) == []
    with mock.patch.object(Path, "is_relative_to", return_value=True):
        [item] = image_library.search(pin(), [Catalog.of(root)])
    assert item.path == outside
