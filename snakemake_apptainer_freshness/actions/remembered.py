"""Remembered answers of registries: a tag that was asked about a short while ago is not asked about again.

:class:`RememberedAnswers` stands before a resolver. What it remembers is in :mod:`.store.answers`. References are
always resolved anew: mode ``update`` and a new pin take what the tag points at now, and these answers are remembered.
"""

import os
from collections.abc import Iterable, Iterator
from functools import cached_property

from snakemake_apptainer_freshness.actions.pinning import TagResolver
from snakemake_apptainer_freshness.common.times import now
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.freshness import RemoteFact, RemoteState
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.store import answers


class RememberedAnswers:
    """A :class:`~.actions.pinning.TagResolver` that asks `registries` for what was not asked for `every` seconds.

    It `remembers` what they answer, but in a dry run, which writes nothing.
    """

    def __init__(self, registries: TagResolver, *, every: float, remembers: bool = True) -> None:
        self._registries = registries
        self._every = every
        self._remembers = remembers

    @property
    def warnings(self) -> tuple[str, ...]:
        """See :class:`~.actions.pinning.TagResolver`."""
        return self._registries.warnings

    def resolve(self, references: Iterable[Reference]) -> Iterator[tuple[Reference, Entry | FreshnessError]]:
        """See :class:`~.actions.pinning.TagResolver`; always asked."""
        for reference, answer in self._registries.resolve(references):
            if isinstance(answer, Entry):
                self._keep(answer, RemoteFact(state=RemoteState.CURRENT, digest=answer.digest))
            yield reference, answer

    def check(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, RemoteFact]]:
        """See :class:`~.actions.pinning.TagResolver`; what is remembered comes first."""
        unknown = []
        for entry in entries:
            fact = self._find(entry)
            if fact is None:
                unknown.append(entry)
            else:
                yield entry, fact
        if not unknown:
            return
        for entry, fact in self._registries.check(unknown):
            self._keep(entry, fact)
            yield entry, fact

    @cached_property
    def _asker(self) -> str:
        """What names this user's way of asking; empty where that cannot be told, and nothing is remembered then."""
        from snakemake_apptainer_freshness.registry.network import asked_with

        try:
            return answers.asker_of(asked_with(os.environ))
        except (FreshnessError, OSError):  # who asks says what is wrong
            return ""

    def _find(self, entry: Entry) -> RemoteFact | None:
        if not self._every or not entry.reference.scheme.is_registry or not self._asker:
            return None
        return answers.find(entry, asker=self._asker, every=self._every)

    def _keep(self, entry: Entry, fact: RemoteFact) -> None:
        if self._remembers and self._asker:
            answers.keep(entry, fact, asker=self._asker, at=now())
