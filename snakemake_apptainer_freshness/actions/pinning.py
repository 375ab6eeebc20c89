"""Pinning: what each container reference of a run is rewritten to, and whether the tags still say the same.

:class:`Pins` holds what is known in one run. :meth:`Pins.attempt` gets references pinned as the mode allows: from the
lock, or by asking registries, all that are missing at once. What cannot be pinned stops nothing by itself: a rule that
no job needs may name an image that is gone. :meth:`Pins.ensure` does the same for what jobs need, and raises.
:meth:`Pins.pinned` then answers without asking a registry.
The question whether tags moved is asked in the background (:class:`DriftCheck`), so that a run waits for it as late as
it can.
"""

import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from snakemake_apptainer_freshness.common.parallel import in_parallel
from snakemake_apptainer_freshness.common.progress import ProgressBars
from snakemake_apptainer_freshness.errors import (
    FreshnessError,
    NotLocked,
    PinningFailed,
    Unpinnable,
)
from snakemake_apptainer_freshness.freshness import RemoteFact, RemoteState
from snakemake_apptainer_freshness.image.pinned import Pinned
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference, parse
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.lockfile import Entry, Lock
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import PARALLEL, Mode, Options, Reaction
from snakemake_apptainer_freshness.store import facts

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.registry.resolver import Resolver

_RESOLVING: Final = "resolving images"
"""Indexes that are asked for at once."""


class TagResolver(Protocol):
    """Asks registries: :class:`.registry.resolver.Resolver`, and what stands in for it in tests."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know although it is no error, each once."""
        ...

    def resolve(self, references: Iterable[Reference]) -> Iterator[tuple[Reference, Entry | FreshnessError]]:
        """Return the pin of each reference, or why there is none, as answers come in."""
        ...

    def check(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, RemoteFact]]:
        """Return what the registry says of each pin, as answers come in."""
        ...


class LazyResolver:
    """A :class:`TagResolver` that is made by `make` when it is first asked: a run that asks no registry loads none."""

    def __init__(self, make: "Callable[[], Resolver]") -> None:
        self.resolver = functools.cache(make)
        """The resolver itself."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """See :class:`TagResolver`; none where nothing was asked."""
        return self.resolver().warnings if self.resolver.cache_info().currsize else ()

    def resolve(self, references: Iterable[Reference]) -> Iterator[tuple[Reference, Entry | FreshnessError]]:
        """See :class:`TagResolver`."""
        return self.resolver().resolve(references)

    def check(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, RemoteFact]]:
        """See :class:`TagResolver`."""
        return self.resolver().check(entries)


@dataclass(slots=True, kw_only=True)
class Pins:
    """The pins of one run.

    `lock` is what the lock file said at the start; `registries` makes the :class:`TagResolver`, and is called only
    where the mode allows the network.
    """

    options: Options
    lock: Lock
    lockfile: str
    platform: Platform
    registries: Callable[[], TagResolver]
    quiet: bool = False
    """Draw no progress bar."""
    tolerant: bool = False
    """Leave what the lock lacks as it is: for commands that run no job."""
    entries: dict[str, Entry] = field(default_factory=dict)
    """What is pinned, by the text of the reference."""
    unpinnable: dict[str, str] = field(default_factory=dict)
    """What has no digest, and why."""
    left_alone: set[str] = field(default_factory=set)
    """What the lock lacks, in a command that runs no job."""
    failures: dict[str, FreshnessError] = field(default_factory=dict)
    """What could not be pinned, and why."""
    hold: Callable[[Entry], None] | None = None
    """Raises a FreshnessError where the lock is wrong about an entry's platforms; None where these decide nothing."""
    resolved: dict[str, RemoteFact] = field(default_factory=dict)
    """What the registry answered about references that were resolved in this run: their tags are at their pins."""

    def ensure(self, references: Iterable[str]) -> None:
        """Get `references` pinned, which jobs need, as far as the mode allows; nothing is asked twice.

        Raises
        ------
        PinningFailed
            with every reference that cannot be pinned and why; what could be is kept.
        """
        needed = list(dict.fromkeys(references))
        self.attempt(needed)
        failures = {text: self.failures[text] for text in needed if text in self.failures}
        if failures:
            raise PinningFailed(failures)

    def attempt(self, references: Iterable[str]) -> None:
        """Get `references` pinned, as far as the mode allows; what cannot be is kept in `failures`."""
        wanted = [text for text in dict.fromkeys(references) if not self._is_known(text)]
        missing: dict[Reference, list[Reference]] = {}
        agreed: dict[str, Entry] = {}
        for text in wanted:
            try:
                reference = parse(text)
            except FreshnessError as error:
                self.failures[text] = error
                continue
            if (entry := self._agreed(reference)) is not None:
                agreed[text] = entry
            else:
                missing.setdefault(reference, []).append(reference)
        self._take_agreed(agreed)
        self.failures |= self._resolve(missing) if self.options.mode.writes_lock else self._refuse(missing)

    def _take_agreed(self, agreed: Mapping[str, Entry]) -> None:
        """Take entries of the lock, whose word for their platforms is held to what their digests name."""
        if self.hold is None or not agreed:
            self.entries |= agreed
            return
        hold = self.hold

        def held(entry: Entry) -> FreshnessError | None:
            try:
                hold(entry)
            except FreshnessError as error:
                return error
            return None

        errors = in_parallel(held, agreed.values(), name="hold", threads=PARALLEL.askers)
        for text, error in zip(agreed, errors, strict=True):
            if error is None:
                self.entries[text] = agreed[text]
            else:
                self.failures[text] = error

    def pinned(self, reference: str) -> str:
        """Return what the rule that says `reference` runs.

        Raises
        ------
        PinningFailed
            where it cannot be pinned.
        """
        entry = self.entries.get(reference)
        if entry is not None:
            return self._pinned(entry).url
        self.ensure([reference])
        entry = self.entries.get(reference)
        return reference if entry is None else self._pinned(entry).url

    def table(self) -> dict[str, Pinned]:
        """Return what is run for every reference that was met."""
        left = {text: parse(text) for text in (*self.unpinnable, *self.left_alone)}
        alone = {text: Pinned(reference=reference, pinned=reference) for text, reference in left.items()}
        return alone | {text: self._pinned(entry) for text, entry in self.entries.items()}

    def images(self) -> dict[str, Pin]:
        """Return what each image file has to be, by the url that rules run.

        Without those that no file can be held to.
        """
        provable = (entry for entry in self.entries.values() if entry.reference.scheme.is_provable)
        pins = (Pin.of(entry, platform=self.platform, kind=self.options.pin) for entry in provable)
        return {pin.url: pin for pin in pins}

    def new_lock(self) -> Lock:
        """Return the lock as it should be now."""
        return self.lock.with_entries(self.entries.values())

    def _pinned(self, entry: Entry) -> Pinned:
        return Pinned(
            reference=entry.reference,
            pinned=entry.pinned_to(self.options.pin, self.platform),
            digest=entry.digest_for(self.options.pin, self.platform),
        )

    def _is_known(self, text: str) -> bool:
        return text in self.entries or text in self.unpinnable or text in self.left_alone or text in self.failures

    def _agreed(self, reference: Reference) -> Entry | None:
        """Return the pin that is already agreed for `reference`, or for another spelling of the same image."""
        if self.options.mode is Mode.UPDATE:
            known = self.entries
        else:
            if (entry := self.lock.get(reference.text)) is not None:
                return entry
            known = {**self.lock.entries, **self.entries}
        for entry in known.values():
            if entry.reference == reference:
                return replace(entry, reference=reference)
        return None

    def _resolve(self, missing: Mapping[Reference, list[Reference]]) -> dict[str, FreshnessError]:
        if not missing:
            return {}
        failures: dict[str, FreshnessError] = {}
        with ProgressBars(enabled=not self.quiet) as bars:
            bars.begin(_RESOLVING, len(missing))
            for reference, answer in self.registries().resolve(list(missing)):
                bars.advance(_RESOLVING)
                for spelling in missing[reference]:
                    failures |= self._take(spelling, answer)
        return failures

    def _take(self, reference: Reference, answer: Entry | FreshnessError) -> dict[str, FreshnessError]:
        if isinstance(answer, Entry):
            facts.learn([answer])  # it was made of an index that was hashed
            self.entries[reference.text] = replace(answer, reference=reference)
            self.resolved[reference.text] = RemoteFact(state=RemoteState.CURRENT, digest=answer.digest)
            return {}
        if isinstance(answer, Unpinnable):
            return self._meet_unpinnable(reference.text, answer)
        return {reference.text: answer}

    def _refuse(self, missing: Mapping[Reference, list[Reference]]) -> dict[str, FreshnessError]:
        failures: dict[str, FreshnessError] = {}
        for reference in (spelling for spellings in missing.values() for spelling in spellings):
            text = reference.text
            if self.tolerant:
                self.left_alone.add(text)
            elif not _has_no_digest(reference):
                failures[text] = NotLocked(
                    f"not in {self.lockfile}, and mode {self.options.mode} does not add to it",
                    hint="add it with 'apptainer-freshness lock', and commit the lock file",
                )
            else:
                failures |= self._meet_unpinnable(text, Unpinnable("its source has no digest"))
        return failures

    def _meet_unpinnable(self, text: str, error: Unpinnable) -> dict[str, FreshnessError]:
        if self.options.on_unpinnable is Reaction.ERROR:
            return {text: error}
        self.unpinnable[text] = error.message
        return {}


class DriftCheck:
    """Asks in the background whether tags still point at their pins.

    The threads are daemons: a run that ends early does not wait for an answer that it does not need any more.
    """

    def __init__(self, registries: Callable[[], TagResolver]) -> None:
        self._registries = registries
        self._threads: list[threading.Thread] = []
        self._facts: dict[str, RemoteFact] = {}

    def ask(self, entries: Iterable[Entry]) -> None:
        """Start asking about `entries`; returns at once."""
        asked = list(entries)
        if asked:
            thread = threading.Thread(target=self._run, args=(asked,), name="apptainer-freshness", daemon=True)
            self._threads.append(thread)
            thread.start()

    @property
    def is_waited_for(self) -> bool:
        """Whether an answer is still under way."""
        return any(thread.is_alive() for thread in self._threads)

    def facts(self) -> Mapping[str, RemoteFact]:
        """Return what was found, by reference; waits for what is still under way."""
        while self._threads:
            self._threads.pop().join()
        return self._facts

    def _run(self, entries: list[Entry]) -> None:
        for entry in entries:
            self._facts[entry.reference.text] = RemoteFact(state=RemoteState.UNREACHABLE, detail="no answer")
        try:
            for entry, fact in self._registries().check(entries):
                self._facts[entry.reference.text] = fact
        except FreshnessError as error:
            for entry in entries:
                self._facts[entry.reference.text] = RemoteFact(state=RemoteState.UNREACHABLE, detail=error.message)


def _has_no_digest(reference: Reference) -> bool:
    """Return whether the source cannot be pinned at all; told without asking a registry."""
    if reference.scheme is Scheme.FILE:
        return Path(reference.path).is_dir()
    return reference.scheme in (Scheme.SHUB, Scheme.DOCKER_DAEMON)
