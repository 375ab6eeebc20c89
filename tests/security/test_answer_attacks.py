"""Attacks on what is remembered of registries' answers: a tag moved, and a forged answer says that it did not.

Each attack succeeds where its verification is taken away.
"""

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from snakemake_apptainer_freshness.actions.remembered import RememberedAnswers
from snakemake_apptainer_freshness.errors import InvalidSettings, UsageError
from snakemake_apptainer_freshness.freshness import RemoteState
from snakemake_apptainer_freshness.settings import parse_options
from snakemake_apptainer_freshness.store import state
from tests.support.pins import DIGEST, OTHER, lock_entry, remote_fact

ENTRY = lock_entry("docker://quay.io/team/tool:1.0")


class Moved:
    """A registry whose every tag has moved."""

    warnings = ()

    def check(self, entries):
        yield from ((entry, remote_fact(RemoteState.MOVED, OTHER)) for entry in entries)


class Unmoved:
    """The same registry, before."""

    warnings = ()

    def check(self, entries):
        yield from ((entry, remote_fact(RemoteState.CURRENT, DIGEST)) for entry in entries)


def told(registry):
    """What a run hears of the tag."""
    [(_, fact)] = RememberedAnswers(registry, every=300.0).check([ENTRY])
    return fact.state


@pytest.fixture
def answer(state_home, tmp_path, monkeypatch):
    """The file of an honest answer, of a time before the tag moved."""
    monkeypatch.setenv("HOME", str(tmp_path))
    told(Unmoved())
    return next((state_home / "apptainer-freshness" / "answers").glob("*.json"))


def others_may_write_it(answer: Path) -> None:
    answer.chmod(0o622)


def it_is_of_a_time_to_come(answer: Path) -> None:
    later = (datetime.now(UTC) + timedelta(days=3650)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    answer.write_text(json.dumps(json.loads(answer.read_text()) | {"at": later}))


def it_was_given_to_another_login(answer: Path) -> None:
    answer.write_text(json.dumps(json.loads(answer.read_text()) | {"asker": "0" * 40}))


def it_is_of_another_tag(answer: Path) -> None:
    answer.write_text(answer.read_text().replace(":1.0", ":2.0"))


def it_is_old(answer: Path) -> None:
    before = (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    answer.write_text(json.dumps(json.loads(answer.read_text()) | {"at": before}))


def reads_anything(path: Path, _limit: int) -> bytes | None:
    return path.read_bytes() if path.exists() else None


@dataclass(frozen=True, kw_only=True)
class Forgery:
    """What is done to the file, and the verification without which that is believed."""

    attack: Any
    target: str
    by: Any


FORGERIES = [
    Forgery(attack=others_may_write_it, target="state.read", by=reads_anything),
    Forgery(attack=it_is_of_a_time_to_come, target="age", by=lambda _: 0.0),
    Forgery(attack=it_is_old, target="age", by=lambda _: 0.0),
    Forgery(attack=it_was_given_to_another_login, target="_is_of", by=lambda *_: True),
    Forgery(attack=it_is_of_another_tag, target="_is_of", by=lambda *_: True),
]


@pytest.mark.parametrize("forgery", FORGERIES, ids=[one.attack.__name__ for one in FORGERIES])
def test_an_answer_is_not_believed_where(forgery, answer):
    forgery.attack(answer)
    with mock.patch(f"snakemake_apptainer_freshness.store.answers.{forgery.target}", forgery.by):
        assert told(Moved()) == "current"  # without the verification it is
    assert told(Moved()) == "moved"


def test_an_answer_that_is_not_tampered_with_is_believed(answer):
    assert answer.exists()
    assert told(Moved()) == "current"


def test_a_workflow_cannot_have_a_moved_tag_hidden_for_longer_than_a_day():
    with pytest.raises(InvalidSettings):
        parse_options({"check_every": "876000h"}, source="the workflow's configuration")


def test_a_state_folder_of_somebody_else_is_refused(answer, monkeypatch, tmp_path):
    shutil.copytree(answer.parents[1], tmp_path / "planted")
    (tmp_path / "planted").chmod(0o777)
    monkeypatch.setenv(state.VARIABLE, str(tmp_path / "planted"))
    with pytest.raises(UsageError):
        state.folder()
    assert told(Moved()) == "moved"
