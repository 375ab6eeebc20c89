"""Status: what the three witnesses say of each reference, worst first.

The lock says what was agreed, the registry what is served now, the disk what would run. The lock alone is enough to
ask; where Snakemake was asked as well (:mod:`.workflow`), each row has the rules that name it, references that the lock
lacks are rows too, and so are entries that no rule names any more.

Not as agreed is: a reference that is not locked, an entry that nothing names, a tag that moved or is gone, a digest
that is no longer served, an image file that may not run. An image that is not there yet is no disagreement: nothing
wrong would run. A registry that could not be asked is no finding but a failure to look. Of what a registry does not
give, the mirrors that have it are named.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from snakemake_apptainer_freshness.actions.check import check, check_one
from snakemake_apptainer_freshness.actions.library_images import known_images
from snakemake_apptainer_freshness.actions.lock_claims import ManifestSource, claimed_and_proven
from snakemake_apptainer_freshness.common.parallel import in_parallel
from snakemake_apptainer_freshness.freshness import (
    UNCHECKED,
    Decision,
    DiskFact,
    DiskState,
    RemoteFact,
    RemoteState,
    Verdict,
    compare,
    decide,
)
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.lockfile import Entry, Lock
from snakemake_apptainer_freshness.pin import Pin, pins_of
from snakemake_apptainer_freshness.settings import PARALLEL, Options
from snakemake_apptainer_freshness.store.prefix import place_of

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.actions.pinning import TagResolver
    from snakemake_apptainer_freshness.actions.workflow import RuleUse, Workflow

_DEFAULTS: Final = Options()
"""What a run makes of an image is told by its reasons, which no option of a workflow changes."""
_NOT_GIVEN: Final = frozenset({RemoteState.LOST, RemoteState.UNREACHABLE})
_REMOTE_RANK: Final = (
    RemoteState.LOST,
    RemoteState.MOVED,
    RemoteState.UNTAGGED,
    RemoteState.UNREACHABLE,
    RemoteState.UNCHECKED,
    RemoteState.CURRENT,
)
_DISK_RANK: Final = (
    DiskState.CORRUPT,
    DiskState.ALTERED,
    DiskState.STALE,
    DiskState.UNBOUND,
    DiskState.ABSENT,
    DiskState.BOUND,
    DiskState.VERIFIED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRow:
    """One reference. `entry` and `verdict` are None where the lock lacks it, `uses` where no workflow was read."""

    reference: str
    entry: Entry | None
    verdict: Verdict | None
    uses: "tuple[RuleUse, ...] | None" = None
    is_orphan: bool = False
    """No rule names it, and every rule could be seen."""
    elsewhere: tuple[str, ...] = ()
    """The mirrors that have its image, where its registry does not give it."""

    @property
    def decision(self) -> Decision | None:
        """What a run with the default options does about its verdict."""
        return None if self.verdict is None else decide(self.verdict, _DEFAULTS)

    @property
    def differs(self) -> bool:
        """Whether lock and workflow do not name it both."""
        return self.verdict is None or self.is_orphan

    @property
    def is_finding(self) -> bool:
        """Whether something is not as agreed."""
        return self.differs or (self.decision is not None and self.decision.is_finding)

    @property
    def is_unasked(self) -> bool:
        """Whether its registry could not be asked."""
        return self.decision is not None and self.decision.is_unasked

    @property
    def as_agreed(self) -> bool:
        """Whether lock and workflow both name it, and no witness contradicts the lock."""
        return not self.differs and self.decision is not None and self.decision.as_agreed


def status(
    lock: Lock,
    prefix: Path,
    *,
    registries: "Callable[[], TagResolver] | None" = None,
    documents: Callable[[], ManifestSource] | None = None,
    workflow: "Workflow | None" = None,
    asked: Callable[[], object] = lambda: None,
    mirrors: Callable[[Pin], list[str]] = lambda _: [],
    libraries: Iterable[Path] = (),
) -> list[StatusRow]:
    """Return a row for each reference of the lock, and of `workflow` where that was read; worst first.

    Without `registries` none is asked; `documents` gives who has the indexes that digests name. `asked` is called
    after each answer of a registry. `mirrors` names the places that have an image, and is asked for what registries do
    not give. `libraries` of images are looked in beside those of the machine and of `workflow`.
    """
    remote = _ask(lock, registries, asked)
    named = () if workflow is None else workflow.options.images
    disk = look(lock, prefix, (*named, *libraries))
    here = Platform.here()

    def verdict(text: str, entry: Entry) -> Verdict:
        answer = remote.get(text, UNCHECKED)
        manifest = claimed_and_proven(entry, answer, here, documents)
        return compare(entry, answer, disk.get(text), platform=here, manifest=manifest)

    verdicts = {text: verdict(text, entry) for text, entry in lock.entries.items()}
    elsewhere = _elsewhere(lock, remote, mirrors)
    uses = {} if workflow is None else workflow.uses
    sees_all = workflow is not None and not workflow.unseen
    rows = [
        StatusRow(
            reference=reference,
            entry=lock.get(reference),
            verdict=verdicts.get(reference),
            uses=None if workflow is None else uses.get(reference, ()),
            is_orphan=sees_all and reference not in uses,
            elsewhere=elsewhere.get(reference, ()),
        )
        for reference in dict.fromkeys([*lock.entries, *uses])
    ]
    return sorted(rows, key=_rank)


def _elsewhere(
    lock: Lock, remote: Mapping[str, RemoteFact], mirrors: Callable[[Pin], list[str]]
) -> dict[str, tuple[str, ...]]:
    """Return the mirrors that have what a registry does not give, by reference."""
    missing = [
        entry
        for text, entry in lock.entries.items()
        if text in remote and remote[text].state in _NOT_GIVEN and entry.reference.scheme.is_provable
    ]
    if not missing:
        return {}
    found = in_parallel(lambda entry: tuple(mirrors(Pin.of(entry))), missing, name="mirrors", threads=PARALLEL.askers)
    return {entry.reference.text: places for entry, places in zip(missing, found, strict=True)}


def look(lock: Lock, prefix: Path, libraries: Iterable[Path] = ()) -> dict[str, DiskFact]:
    """Return what the disk says of each entry, by reference; an image may lie in a library of the machine's or these.

    Of several images that its rules may be pinned to, the worst.

    A source whose image can be held to no pin has no answer.
    """
    provable = {text: entry for text, entry in lock.entries.items() if entry.reference.scheme.is_provable}
    pins = {text: pins_of(entry) for text, entry in provable.items()}
    local = {text: pins[text] for text, entry in provable.items() if entry.reference.scheme is Scheme.FILE}
    fetched = [pin for text, found in pins.items() if text not in local for pin in found]
    facts = check(fetched, prefix)
    facts |= known_images((pin for pin in fetched if facts[pin.url].state is not DiskState.VERIFIED), libraries)
    facts |= {pin.url: check_one(pin, place_of(prefix, pin.url)) for found in local.values() for pin in found}
    return {text: _worst(found, facts) for text, found in pins.items()}


def _worst(pins: Iterable[Pin], facts: Mapping[str, DiskFact]) -> DiskFact:
    """Return what is worst of the images of one entry; an absent one says nothing beside another."""
    of_entry = [facts[pin.url] for pin in pins]
    there = [fact for fact in of_entry if fact.state is not DiskState.ABSENT]
    return min(there or of_entry, key=lambda fact: _DISK_RANK.index(fact.state))


def _ask(
    lock: Lock, registries: "Callable[[], TagResolver] | None", asked: Callable[[], object]
) -> dict[str, RemoteFact]:
    answers: dict[str, RemoteFact] = {}
    if registries is None or not len(lock):
        return answers
    for entry, fact in registries().check(lock):
        answers[entry.reference.text] = fact
        asked()
    return answers


def _rank(row: StatusRow) -> tuple[int, int, int, str]:
    if row.verdict is None:
        return 0, 0, 0, row.reference
    disk = row.verdict.disk
    return (
        1 if row.is_finding else 2 if row.is_unasked else 3,
        len(_DISK_RANK) if disk is None else _DISK_RANK.index(disk.state),
        _REMOTE_RANK.index(row.verdict.remote.state),
        row.reference,
    )
