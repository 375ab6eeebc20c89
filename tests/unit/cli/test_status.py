"""``status`` says what is not as agreed, and its exit status says whether anything is."""

from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.common import environment
from snakemake_apptainer_freshness.freshness import RemoteState
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.registry import resolver
from tests.support import pins


@pytest.fixture
def world(monkeypatch):
    """Registries that say one thing of everything; each call sets what."""

    def say(state, digest=None):
        def check(_self, entries):
            yield from ((entry, pins.remote_fact(state, digest, detail="told")) for entry in entries)

        monkeypatch.setattr(resolver.Resolver, "check", check)

    return say


def test_all_as_agreed_is_no_finding(place, world):
    place.lock(pins.pin())
    pins.record(pins.put(place.prefix, pins.pin()), pins.pin())
    world(RemoteState.CURRENT)
    answer = place.run("status")
    assert answer.status == 0
    assert answer.rows[0][2:4] == ["current", "verified"]
    assert "1 image: all as agreed" in answer.err


def test_a_tag_that_moved_is_a_finding_that_names_the_new_digest(place, world):
    place.lock(pins.pin())
    world(RemoteState.MOVED, "sha256:" + "f" * 64)
    answer = place.run("status")
    assert answer.status == 1
    assert "the tag points at sha256:ffffffffffff" in answer.out


def test_a_registry_that_cannot_be_asked_is_status_3(place, world):
    place.lock(pins.pin())
    world(RemoteState.UNREACHABLE)
    assert place.run("status").status == 3


def test_offline_asks_nobody(place, monkeypatch):
    place.lock(pins.pin())
    monkeypatch.setattr(resolver.Resolver, "__init__", lambda *_: pytest.fail("a registry was asked"))
    answer = place.run("status", "--offline", "--json")
    assert answer.status == 0
    assert answer.json["image"][0]["remote"]["state"] == "unchecked"
    assert answer.json["image"][0]["rules"] is None


def test_without_a_lock_it_says_how_to_get_one(place):
    answer = place.run("status", "--offline")
    assert answer.status == 2
    assert "apptainer-freshness lock" in answer.err


def test_options_that_a_workflow_answers_itself_are_refused_beside_it(place):
    answer = place.run("status", "--rules", "--prefix", str(place.folder))
    assert answer.status == 2
    assert "--apptainer-prefix" in answer.err


def test_on_a_narrow_terminal_no_witness_is_left_out(place, world, terminal):
    name = "docker://quay.io/biocontainers/salmon"
    place.lock(replace(pins.pin(), reference=parse(f"{name}:1.10.2--hecfa306_0")))
    world(RemoteState.MOVED, "sha256:" + "f" * 64)
    terminal()
    out = place.run("status").out

    for said in ("moved", "absent", f"{name}:1.10.2--hecfa306_0", "the tag points at sha256:ffffffffffff"):
        assert said in out


def test_what_was_asked_a_short_while_ago_is_shown_with_its_age_and_asked_anew_on_demand(place, world, monkeypatch):
    monkeypatch.delenv(environment.CHECK_EVERY)
    place.lock(pins.pin())

    def check(_self, entries):
        yield from ((entry, pins.remote_fact(RemoteState.CURRENT, pins.DIGEST)) for entry in entries)

    monkeypatch.setattr(resolver.Resolver, "check", check)
    assert place.run("status", "--json").json["image"][0]["remote"]["asked_at"] is None
    monkeypatch.setattr(resolver.Resolver, "check", lambda *_: pytest.fail("a registry was asked"))
    assert "asked 0 s ago" in place.run("status").out
    assert place.run("status", "--json").json["image"][0]["remote"]["asked_at"].endswith("Z")
    world(RemoteState.MOVED, "sha256:" + "f" * 64)
    assert place.run("status").status == 0
    assert place.run("status", "--ask-anew").status == 1
