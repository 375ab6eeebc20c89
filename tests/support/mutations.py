"""Mutations: a verification is taken away, and the attack that it stops has to succeed.

Without this, a test that an attack fails would hold as well where something else stopped it. A mutation says which
attack it lets through, and what is replaced by what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from snakemake_apptainer_freshness.store import state

PACKAGE = "snakemake_apptainer_freshness."


def anything(*_: Any, **__: Any) -> None:
    """In place of a check that raises."""


def yes(*_: Any, **__: Any) -> bool:
    """In place of a check that asks whether something is as it should be."""
    return True


def no(*_: Any, **__: Any) -> bool:
    """In place of a check that asks whether something is wrong."""
    return False


@dataclass(frozen=True, kw_only=True)
class LabMutation:
    """Each target in `replaced` (below the package) is replaced, or `limits` are changed; then `attack` succeeds."""

    attack: str
    replaced: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Take the verifications away."""
        with ExitStack() as patches:
            for target, by in self.replaced.items():
                patches.enter_context(mock.patch(PACKAGE + target, by))
            yield


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """`target` (below the package) is replaced by `by`, and then `attack` succeeds, which gets a folder of its own."""

    attack: Callable[[Path], bool]
    target: str
    by: Any

    def holds(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
        """Whether the attack fails as it is, and succeeds without the verification; each for a user of its own."""
        (folder / "with").mkdir()
        (folder / "without").mkdir()
        monkeypatch.setenv(state.VARIABLE, str(folder / "state"))
        fails = not self.attack(folder / "with")
        monkeypatch.setenv(state.VARIABLE, str(folder / "another state"))
        with mock.patch(PACKAGE + self.target, self.by):
            return fails and self.attack(folder / "without")
