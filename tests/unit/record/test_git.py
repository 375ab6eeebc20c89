"""What git says of a workflow; where it says nothing, nothing is known."""

import subprocess

import pytest

from snakemake_apptainer_freshness.record.git import Commit, commit_of, committed_content
from snakemake_apptainer_freshness.settings import RECORDS


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    (tmp_path / "Snakefile").write_text("rule a:\n")
    (tmp_path / "containers.lock").write_text("version = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "Snakefile")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first")
    return tmp_path


def git(folder, *arguments):
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def ask(folder):
    lock = folder / "containers.lock"
    return commit_of(folder / "Snakefile", lock, lock.read_bytes())


def test_a_commit_with_an_uncommitted_lock(repository):
    name = git(repository, "rev-parse", "HEAD")

    assert ask(repository) == Commit(name=name, dirty=False, lock_committed=False)


def test_a_committed_lock_and_one_that_changed_since(repository):
    git(repository, "add", "containers.lock")
    git(repository, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "lock")
    assert (ask(repository).dirty, ask(repository).lock_committed) == (False, True)

    (repository / "containers.lock").write_text("version = 1\n# changed\n")
    assert (ask(repository).dirty, ask(repository).lock_committed) == (True, False)


def test_what_is_committed_is_read_and_what_is_not_or_is_too_large_is_none(repository, tmp_path):
    assert committed_content(repository / "Snakefile") == b"rule a:\n"
    assert committed_content(repository / "containers.lock") is None
    assert committed_content(tmp_path / "nowhere" / "containers.lock") is None

    (repository / "containers.lock").write_bytes(b"#" * (RECORDS.lock_size + 1))
    git(repository, "add", "containers.lock")
    git(repository, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "large")
    assert committed_content(repository / "containers.lock") is None


def test_asking_changes_nothing_and_starts_no_program_that_the_repository_names(repository):
    git(repository, "config", "core.fsmonitor", "touch hacked; false")
    before = (repository / ".git" / "index").stat().st_mtime_ns
    ask(repository)

    assert not (repository / "hacked").exists()
    assert (repository / ".git" / "index").stat().st_mtime_ns == before


def test_without_a_repository_a_commit_or_git_nothing_is_known(tmp_path, monkeypatch):
    (tmp_path / "containers.lock").write_text("")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert ask(tmp_path) == Commit()

    git(tmp_path, "init", "-q")
    assert ask(tmp_path) == Commit()

    monkeypatch.setenv("PATH", "")
    assert ask(tmp_path) == Commit()


def test_a_git_that_does_not_answer_is_not_waited_for(repository, tmp_path, monkeypatch):
    from snakemake_apptainer_freshness.record import git as module
    from snakemake_apptainer_freshness.settings import RecordLimits

    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:/usr/bin:/bin")
    monkeypatch.setattr(module, "RECORDS", RecordLimits(repository_timeout=0.1))

    assert ask(repository) == Commit()
