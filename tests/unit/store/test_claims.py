"""Which locks need which images of a shared folder."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from snakemake_apptainer_freshness.common.files import HOST
from snakemake_apptainer_freshness.common.tables import Damaged
from snakemake_apptainer_freshness.errors import LocalIOError, UsageError
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from snakemake_apptainer_freshness.store import claims
from snakemake_apptainer_freshness.store.claims import Claim, Presence
from snakemake_apptainer_freshness.store.prefix import image_name
from tests.support.pins import DIGEST, MANIFEST, OTHER, REPOSITORY, entry_of, pin

OLD, NEW = pin(), pin(OTHER)


class Project:
    """A workflow's folder with a lock, and the image folder that it shares."""

    def __init__(self, folder, prefix):
        self.folder, self.prefix, self.path = folder, prefix, folder / "containers.lock"
        folder.mkdir()
        prefix.mkdir(exist_ok=True)

    def lock(self, *pins):
        lock = Lock.of(entry_of(one) for one in pins)
        self.path.write_text(dumps(lock))
        return lock

    def register(self, *pins, **more):
        claims.register(self.prefix, self.path, self.lock(*pins), **more)

    @property
    def file(self):
        [file] = self.prefix.glob(".freshness-claim-*.json")
        return file

    @property
    def seen(self):
        [one] = claims.registered(self.prefix)
        return one

    def rewrite(self, **changes):
        claim = replace(Claim.loads(self.file.read_bytes()), **changes)
        self.file.write_bytes(claim.dumps())


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "workflow", tmp_path / "images")


def days_ago(count):
    return (datetime.now(UTC) - timedelta(days=count)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_lock_needs_its_images_by_the_index_and_by_every_platforms_manifest(project):
    project.register(OLD)

    assert project.seen.urls == {f"docker://{REPOSITORY}@{DIGEST}", f"docker://{REPOSITORY}@{MANIFEST}"}
    assert claims.needed([project.seen]) == {image_name(url) for url in project.seen.urls}


def test_what_is_run_without_a_pin_is_needed_too(project):
    project.register(OLD, unpinned=["shub://team/tool"])

    assert "shub://team/tool" in project.seen.urls


def test_a_claim_is_written_only_where_it_changed(project):
    project.register(OLD)
    before = project.file.stat()
    project.register(OLD)
    assert project.file.stat().st_ino == before.st_ino

    project.register(NEW)
    assert project.file.stat().st_ino != before.st_ino


def test_the_lock_of_one_path_has_one_claim_from_all_hosts_that_share_its_folder(project):
    project.register(OLD)
    project.rewrite(host="elsewhere")
    project.register(OLD)

    assert Claim.loads(project.file.read_bytes()).host == "elsewhere"


def test_an_empty_lock_claims_nothing_but_takes_back_what_it_claimed(project):
    project.register()
    assert list(project.prefix.iterdir()) == []
    project.register(OLD)
    project.register()
    assert project.seen.urls == set()


def test_the_lock_is_the_truth_where_it_can_be_read(project):
    project.register(OLD)
    project.lock(NEW)

    assert project.seen.presence is Presence.HERE
    assert OLD.url not in project.seen.urls
    assert NEW.url in project.seen.urls


@pytest.mark.parametrize("content", ["<<<<<<< HEAD", "version = 2", "\xff"])
def test_the_claim_stands_for_a_lock_that_cannot_be_understood(project, content):
    project.register(OLD)
    project.path.write_bytes(content.encode("latin1"))

    assert project.seen.presence is Presence.UNREADABLE
    assert OLD.url in project.seen.urls


def test_a_lock_that_is_a_fifo_is_not_waited_for(project):
    project.register(OLD)
    project.path.unlink()
    os.mkfifo(project.path)

    assert project.seen.presence is Presence.UNREADABLE


def test_a_lock_that_is_a_link_is_read(project):
    project.register(OLD)
    project.path.rename(project.folder / "shared.lock")
    project.path.symlink_to("shared.lock")

    assert project.seen.presence is Presence.HERE


def test_a_lock_of_another_host_is_believed_by_its_claim_and_never_runs_out(project):
    project.register(OLD)
    project.rewrite(host="elsewhere", folder=1, missing_since=days_ago(1000))
    project.lock(NEW)

    assert project.seen.presence is Presence.UNREADABLE
    assert OLD.url in project.seen.urls
    assert not project.seen.has_run_out(30)


def test_a_lock_of_another_host_is_read_where_its_folder_is_the_one_that_was_claimed_from(project):
    project.register(OLD)
    project.rewrite(host="elsewhere")
    project.lock(NEW)

    assert project.seen.presence is Presence.HERE
    assert NEW.url in project.seen.urls


@pytest.mark.parametrize("whole_folder", [False, True])
def test_a_lock_that_is_gone_keeps_its_claim_for_the_grace_time_from_when_it_was_first_missed(project, whole_folder):
    project.register(OLD)
    os.utime(project.file, (0, 0))
    project.path.unlink()
    if whole_folder:
        project.folder.rmdir()
    assert project.seen.presence is Presence.GONE
    assert not project.seen.has_run_out(30)
    claims.remember(project.seen)
    assert Claim.loads(project.file.read_bytes()).missing_since

    project.rewrite(missing_since=days_ago(29))
    assert claims.needed([project.seen], grace=30)
    project.rewrite(missing_since=days_ago(31))
    assert project.seen.has_run_out(30)
    assert not claims.needed([project.seen], grace=30)
    assert claims.needed([project.seen], grace=60)


def test_a_lock_that_is_back_is_missed_no_more(project):
    project.register(OLD)
    project.rewrite(missing_since=days_ago(100))
    claims.remember(project.seen)

    assert Claim.loads(project.file.read_bytes()).missing_since is None


def test_a_run_ends_the_grace_time(project):
    project.register(OLD)
    project.rewrite(missing_since=days_ago(100))
    project.register(OLD)

    assert Claim.loads(project.file.read_bytes()).missing_since is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        json.dumps({"version": 2}).encode(),
        json.dumps({"version": True}).encode(),
        b'{"version": 1, "lockfile": "/x"}',
    ],
    ids=["empty", "list", "object", "nested", "newer", "bool", "keys"],
)
def test_a_claim_that_cannot_be_understood_stops_who_wants_to_know(project, content):
    project.register(OLD)
    project.file.write_bytes(content)

    with pytest.raises(UsageError, match="cannot tell which images are needed") as error:
        list(claims.registered(project.prefix))
    assert str(project.file) in error.value.message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lockfile", 1),
        ("lockfile", "/a\0b"),
        ("host", None),
        ("folder", "1"),
        ("locked", "docker://a"),
        ("locked", [1]),
        ("unpinned", None),
        ("missing_since", "soon"),
        ("missing_since", "2026-01-01"),
        ("more", 1),
    ],
)
def test_a_claim_with_a_wrong_value_is_damaged(project, key, value):
    project.register(OLD)
    table = json.loads(project.file.read_text()) | {key: value}

    with pytest.raises(Damaged, match=f"^{key} |unknown key '{key}'"):
        Claim.loads(json.dumps(table).encode())


def test_a_claim_that_is_a_link_is_not_followed(project, tmp_path):
    project.register(OLD)
    project.file.rename(tmp_path / "elsewhere")
    (project.prefix / f".freshness-claim-{'0' * 32}.json").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(UsageError, match="symbolic link"):
        list(claims.registered(project.prefix))


def test_a_folder_that_cannot_be_written_is_told(project, tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(LocalIOError, match="cannot note in the image folder"):
        claims.register(tmp_path / "file", project.path, project.lock(OLD))


def test_this_host_is_in_the_claim_and_its_path_is_absolute(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    claims.register(project.prefix, project.path.relative_to(project.folder), project.lock(OLD))

    assert project.seen.claim.host == HOST
    assert project.seen.claim.lockfile == str(project.path)
