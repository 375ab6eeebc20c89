"""What is remembered of the answers of registries, for how long, and for whom."""

import hashlib
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from snakemake_apptainer_freshness.freshness import RemoteState
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.store import answers
from tests.support.pins import DIGEST, MANIFEST, OTHER, REPOSITORY, lock_entry, remote_fact

ENTRY = lock_entry(f"docker://{REPOSITORY}:1.0")
CURRENT = remote_fact(RemoteState.CURRENT, DIGEST)
MOVED = remote_fact(RemoteState.MOVED, OTHER, {"linux/amd64": MANIFEST})


def ago(**units):
    """Some time back, or with less than nothing ahead."""
    return (datetime.now(UTC) - timedelta(**units)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def keep(fact, entry=ENTRY, *, at=None, asker="me"):
    answers.keep(entry, fact, asker=asker, at=at or ago(minutes=3))


def find(entry=ENTRY, *, asker="me", every=900.0):
    return answers.find(entry, asker=asker, every=every)


@pytest.fixture
def file(state_home):
    """The one file in which an answer lies."""
    return lambda: next((state_home / "apptainer-freshness" / "answers").glob("*.json"))


@pytest.mark.parametrize("fact", [CURRENT, MOVED])
def test_an_answer_is_remembered_with_the_time_when_it_was_asked(fact):
    at = ago(minutes=3)
    keep(fact, at=at)
    assert find() == replace(fact, asked_at=at)


def test_an_answer_is_not_older_than_its_reader_allows():
    keep(CURRENT)
    assert find(every=181.5) is not None
    assert find(every=179.0) is None
    assert find(every=0.0) is None


def test_every_spelling_of_a_reference_has_the_same_answer():
    keep(CURRENT, lock_entry("docker://alpine:3.20"))
    assert find(lock_entry("docker://docker.io/library/alpine:3.20")) is not None
    assert find(lock_entry("docker://alpine:3.21")) is None


def test_what_was_pinned_otherwise_is_current_only_where_the_tag_points_at_it():
    keep(MOVED)
    assert find(replace(ENTRY, digest=OTHER)).state == "current"
    assert find(replace(ENTRY, digest=MANIFEST)) is None  # it moved, but is that pin still served?


def test_a_reference_by_digest_is_remembered_as_served():
    entry = lock_entry(f"docker://{REPOSITORY}@{DIGEST}")
    keep(remote_fact(RemoteState.CURRENT), entry)
    assert find(entry).state == "current"
    assert find(entry).digest is None


@pytest.mark.parametrize(
    "fact",
    [
        remote_fact(RemoteState.UNREACHABLE, detail="no answer"),
        remote_fact(RemoteState.UNTAGGED),
        remote_fact(RemoteState.LOST),
        remote_fact(RemoteState.UNCHECKED),
        remote_fact(RemoteState.CURRENT, DIGEST, detail="a note that a person has to read each time"),
        replace(CURRENT, asked_at=ago(minutes=1)),
    ],
)
def test_what_is_no_plain_answer_of_just_now_is_not_remembered(fact):
    keep(fact)
    assert find() is None


@pytest.mark.parametrize("state", [RemoteState.UNTAGGED, RemoteState.LOST])
def test_an_answer_is_forgotten_where_a_registry_denies_it(state):
    keep(CURRENT)
    keep(remote_fact(state))
    assert find() is None


def test_an_answer_stays_where_the_registry_could_not_be_asked():
    keep(CURRENT)
    keep(remote_fact(RemoteState.UNREACHABLE))
    assert find() is not None


def test_a_clock_that_was_set_back_makes_answers_unknown_and_not_eternal():
    keep(CURRENT, at=ago(minutes=-1))
    assert find() is None


def test_an_answer_to_one_login_is_none_to_another():
    keep(CURRENT, asker=answers.asker_of(b"alice:secret"))
    assert find(asker=answers.asker_of(b"alice:secret")) is not None
    assert find(asker=answers.asker_of(b"bob:secret")) is None


def test_nothing_that_is_written_shows_a_secret_or_its_plain_hash(state_home):
    keep(CURRENT, asker=answers.asker_of(b"hunter2"))
    written = b"".join(path.read_bytes() for path in state_home.rglob("*") if path.is_file())
    assert b"hunter2" not in written
    for name in ("blake2b", "sha256", "md5", "sha1"):
        assert hashlib.new(name, b"hunter2").hexdigest().encode()[:40] not in written
    assert all(path.stat().st_mode & 0o077 == 0 for path in state_home.rglob("*") if path.is_file())


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"version": 1}', b"[" * 60_000])
def test_a_damaged_answer_says_nothing(file, content):
    keep(CURRENT)
    file().write_bytes(content)
    assert find() is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("at", "yesterday"),
        ("at", 5),
        ("digest", "sha256:short"),
        ("platforms", []),
        ("asker", 3),
        ("asker", "é"),
        ("more", 1),
    ],
)
def test_an_answer_with_a_wrong_value_says_nothing(file, key, value):
    keep(CURRENT)
    file().write_text(json.dumps(json.loads(file().read_text()) | {key: value}))
    assert find() is None


def test_an_answer_with_the_same_key_twice_says_nothing(file):
    keep(CURRENT)
    file().write_text(file().read_text().replace('"asker"', '"asker": "me", "asker"'))
    assert find() is None


def test_remembering_waits_for_no_disk(monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    asker = answers.asker_of(b"alice:secret")
    keep(CURRENT, asker=asker)
    assert find(asker=asker) is not None
    assert synced == []


def test_an_answer_that_others_may_write_says_nothing(file):
    keep(CURRENT)
    file().chmod(0o666)
    assert find() is None


def test_an_answer_under_the_name_of_another_tag_says_nothing(file):
    keep(CURRENT, replace(ENTRY, reference=parse(f"docker://{REPOSITORY}:2.0")))
    two = file()
    keep(CURRENT)
    one = next(path for path in two.parent.glob("*.json") if path != two)
    one.write_bytes(two.read_bytes())
    assert find() is None
