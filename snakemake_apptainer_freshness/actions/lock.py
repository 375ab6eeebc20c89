"""Locking: comparing what the lock of a workflow says with what it should say, and writing it.

:func:`plan` finds that out and changes nothing; :func:`lock` writes it. What is pinned, and how, is decided where a run
decides it (:class:`.actions.pinning.Pins`). What cannot be pinned stops nothing else: the plan has its error, and an
entry that it had stays as it was.

An entry that no rule names is an orphan, which is removed where that is wished. But where rules could not be seen, an
entry may be theirs: then nothing is called an orphan. An upgrade takes what tags point at now; where that is another
index with the same image for this platform, what runs here would not change, and it is held back unless asked for.

What a change of the lock means: for each platform, for the rules, for outputs that are there already. Pure.

A tag may move although nothing that runs here changes: an index gets another attestation, or another platform's image
was rebuilt. What counts on a machine is the manifest of its own platform, so :func:`same_here` tells such a change
apart. An image that was pushed without an index has one manifest alone, which counts everywhere.
"""

import contextlib
import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from snakemake_apptainer_freshness.actions.image_content import BlobSource
from snakemake_apptainer_freshness.actions.lock_io import read_lock, writer
from snakemake_apptainer_freshness.actions.pinning import Pins, TagResolver
from snakemake_apptainer_freshness.actions.policies import Policies, asking, offers
from snakemake_apptainer_freshness.actions.signatures import Held, SignatureSource
from snakemake_apptainer_freshness.actions.site import site_files
from snakemake_apptainer_freshness.actions.workflow import ExistingOutput, RuleUse, Workflow
from snakemake_apptainer_freshness.errors import FreshnessError, NotLocked, PinningFailed, UsageError
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.pinned import pinned_form
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference, parse
from snakemake_apptainer_freshness.lockfile import Change, Entry, Lock, changes
from snakemake_apptainer_freshness.policy import Violation
from snakemake_apptainer_freshness.policy.schema import Level
from snakemake_apptainer_freshness.settings import Mode


class EntryChange(StrEnum):
    """What a change does to an entry of the lock."""

    ADDED = "added"
    UPDATED = "updated"
    REMOVED = "removed"


class PlatformChange(StrEnum):
    """What a change does to one platform's image."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    SAME = "same"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockDifference:
    """One changed entry, and what follows: `outputs` are there already, and were made with the `old` one."""

    what: EntryChange
    reference: str
    old: Entry | None
    new: Entry | None
    platforms: Mapping[Platform, PlatformChange]
    uses: tuple[RuleUse, ...]
    outputs: tuple[ExistingOutput, ...]


def difference(change: Change, workflow: Workflow) -> LockDifference:
    """Return what `change` means for `workflow`."""
    old, new = change.old, change.new
    return LockDifference(
        what=EntryChange.ADDED if old is None else EntryChange.REMOVED if new is None else EntryChange.UPDATED,
        reference=change.reference,
        old=old,
        new=new,
        platforms=fates(old, new) if old and new else {},
        uses=workflow.uses.get(change.reference, ()),
        outputs=tuple(made_with(old, workflow.outputs)) if old else (),
    )


def same_here(old: Entry, new: Entry, platform: Platform) -> bool:
    """Return whether what runs on `platform` is the same image by both."""
    here = _manifest(old, platform)
    return here is not None and here == _manifest(new, platform)


def _manifest(entry: Entry, platform: Platform) -> Digest | None:
    return entry.platforms.get(platform) if entry.platforms else entry.digest


def fates(old: Entry, new: Entry) -> dict[Platform, PlatformChange]:
    """Return what changes for each platform's image, sorted; empty where neither entry has platforms."""
    return {
        platform: _fate(_listed(old, new, platform), _listed(new, old, platform))
        for platform in sorted({*old.platforms, *new.platforms})
    }


def _listed(entry: Entry, other: Entry, platform: Platform) -> Digest | None:
    """Return the manifest of `platform`; a lone manifest is for the platform that `other` lists it for."""
    if not entry.platforms and other.platforms.get(platform) == entry.digest:
        return entry.digest
    return entry.platforms.get(platform)


def _fate(old: Digest | None, new: Digest | None) -> PlatformChange:
    if old == new:
        return PlatformChange.SAME
    if old is None:
        return PlatformChange.ADDED
    return PlatformChange.REMOVED if new is None else PlatformChange.CHANGED


def made_with(entry: Entry, outputs: Iterable[ExistingOutput]) -> Iterable[ExistingOutput]:
    """Return those of `outputs` whose record says that they were made with what `entry` pins."""
    pins = {pinned_form(entry.reference, digest).text for digest in (entry.digest, *entry.platforms.values())}
    return (output for output in outputs if output.recorded_url in pins)


class ContentSource(BlobSource, SignatureSource, Protocol):
    """Gives the labels of images, and their signatures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRequest:
    """What the user asks to be done with the lock.

    `upgrade` has the patterns of references whose pins may move: shell patterns on the whole text. `offline` leaves
    what is missing missing, unless something is to be upgraded. `allow_unseen` agrees to rules that could not be seen.
    """

    upgrade: tuple[str, ...] = ()
    take_same_platform: bool = False
    prune: bool = False
    offline: bool = False
    allow_unseen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LockPlan:
    """The lock `before` and `after`, and the differences between them.

    `differences` is what was agreed on; `held_back` what has the same image for this platform and was not taken.
    `orphans` are named by no rule; `unclear` by none that could be seen. `missing` is not locked, and was not asked
    for. `unpinnable` has no digest, and why; `failures` could not be pinned, and why. `violations` are what policies
    say; where one of them is an error, nothing is agreed on. `unseen` are rules that may name more than what was seen,
    and were not allowed.
    """

    before: Lock
    after: Lock
    differences: tuple[LockDifference, ...]
    held_back: tuple[LockDifference, ...] = ()
    orphans: tuple[str, ...] = ()
    unclear: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unpinnable: Mapping[str, str]
    failures: Mapping[str, FreshnessError]
    violations: tuple[Violation, ...] = ()
    unseen: tuple[str, ...] = ()

    @property
    def is_as_agreed(self) -> bool:
        """Whether all was seen, the lock is complete, has no orphans, would not change, and no policy forbids it."""
        is_lacking = self.missing or self.failures or self.unseen
        return not (self.differences or self.orphans or is_lacking or self.is_forbidden)

    @property
    def is_forbidden(self) -> bool:
        """Whether a policy forbids an image."""
        return any(violation.level is Level.ERROR for violation in self.violations)


def lock(
    workflow: Workflow,
    wish: LockRequest,
    *,
    registries: Callable[[], TagResolver],
    contents: Callable[[], ContentSource] | None = None,
    waiting: Callable[[str], None] | None = None,
) -> LockPlan:
    """Bring the lock of `workflow` up to date, and return what was done. `contents` is as for :func:`plan`.

    One writer at a time: `waiting` is told who else writes it, and what he wrote is then taken as what was agreed.

    Raises
    ------
    FreshnessError
        as :func:`plan` does; LocalIOError where the lock cannot be written. It is then as it was.
    """
    before = read_lock(workflow.lockfile)
    planned = plan(workflow, before, wish, registries=registries, contents=contents, remember=True)
    if planned.is_forbidden or planned.after == planned.before:
        return planned
    with writer(workflow.lockfile, waiting=waiting) as write:
        now = read_lock(workflow.lockfile)
        if now != planned.before:
            planned = plan(workflow, now, wish, registries=registries, contents=contents)
        if not planned.is_forbidden and planned.after != planned.before:
            write(planned.after)
    return planned


def plan(
    workflow: Workflow,
    before: Lock,
    wish: LockRequest,
    *,
    registries: Callable[[], TagResolver],
    contents: Callable[[], ContentSource] | None = None,
    remember: bool = False,
) -> LockPlan:
    """Return what the lock of `workflow`, which says `before`, should say.

    No registry is asked for anything where a policy forbids a name. `contents` gives what images say of themselves and
    their signatures, where a policy has to know that; good signatures are kept for later runs where `remember` is on.

    Raises
    ------
    UsageError
        where a pattern matches nothing.
    InvalidPolicy
        where a policy is not sound.
    """
    files = site_files(workflow.lockfile, workflow.snakefile)
    policies = Policies.of(workflow.options, files, folder=workflow.lockfile.parent)
    named = policies.of_names(workflow.uses)
    if any(violation.level is Level.ERROR for violation in named):
        return LockPlan(
            before=before, after=before, differences=(), unpinnable={}, failures={}, violations=tuple(named)
        )
    unnamed = tuple(text for text in before.entries if text not in workflow.uses)
    unseen = tuple(rule.rule for rule in workflow.unseen if rule.rule)
    orphans, unclear = ((), unnamed) if unseen else (unnamed, ())
    moving = _meaning_the_same(before, _chosen(wish.upgrade, [*workflow.uses, *unclear]))
    pins, failures = _pinned(workflow, before, moving, wish, registries)
    settled, held_back = _settled(before, pins, take_same_platform=wish.take_same_platform)
    after = before.with_entries(settled)
    if wish.prune:
        after = Lock.of(entry for text, entry in after.entries.items() if text not in orphans)
    ask = None if wish.offline else contents
    configurations = asking(ask, platform=pins.platform)
    if ask is not None:
        after = after.with_entries(policies.informed([after.entries[text] for text in pins.entries], configurations))
    pinned = {text: after.get(text) for text in workflow.uses if text in after.entries or text in pins.unpinnable}
    missing = {text for text, error in failures.items() if isinstance(error, NotLocked)}
    days = policies.days(pinned, configurations, platform=pins.platform)
    offered = policies.offered(pinned, offers(ask))
    held = Held(kind=workflow.options.pin, platform=pins.platform)
    unsigned = _unsigned(policies, pinned, held, ask, remember=remember)
    return LockPlan(
        before=before,
        after=after,
        differences=tuple(difference(change, workflow) for change in changes(before, after) if change.moves_pin),
        held_back=tuple(difference(change, workflow) for change in held_back),
        orphans=orphans,
        unclear=unclear,
        missing=tuple(sorted(missing)),
        unpinnable=pins.unpinnable,
        failures={text: error for text, error in failures.items() if text not in missing},
        violations=(*named, *policies.of_pins(pinned, days, offered), *unsigned),
        unseen=() if wish.allow_unseen else unseen,
    )


def _unsigned(
    policies: Policies,
    pinned: Mapping[str, Entry | None],
    held: Held,
    ask: Callable[[], ContentSource] | None,
    *,
    remember: bool,
) -> Sequence[Violation]:
    """Return what is not signed as policies want it; a plan that asks no registry leaves that to the run."""
    if ask is None or not policies.want_signatures:
        return ()
    return policies.of_signatures(pinned, held, ask=ask, remember=remember).violations


def _chosen(patterns: Sequence[str], references: Sequence[str]) -> set[str]:
    """Return the `references` that any of `patterns` matches."""
    chosen: set[str] = set()
    for pattern in patterns:
        matched = [reference for reference in references if fnmatch.fnmatchcase(reference, pattern)]
        if not matched and pattern != "*":
            raise UsageError(
                f"the pattern {pattern} matches no image of this workflow{_nearest(pattern, references)}",
                hint="it is held against a whole reference: * stands for any text, as in '*/salmon:*'",
            )
        chosen.update(matched)
    return chosen


def _nearest(pattern: str, references: Iterable[str]) -> str:
    inner = pattern.strip("*")
    close = [reference for reference in references if inner and inner in reference]
    return f" (did you mean '*{inner}*'?)" if close else ""


def _meaning_the_same(before: Lock, references: set[str]) -> set[str]:
    """Return `references`, and what in the lock is another spelling of the same image: of the same digest."""
    meanings = {_meaning(text) for text in references}
    return references | {text for text, entry in before.entries.items() if entry.reference in meanings}


def _meaning(text: str) -> Reference | None:
    try:
        return parse(text)
    except FreshnessError:  # pinning it says so
        return None


def _pinned(
    workflow: Workflow, before: Lock, moving: set[str], wish: LockRequest, registries: Callable[[], TagResolver]
) -> tuple[Pins, Mapping[str, FreshnessError]]:
    """Return the pins of all references, those that are `moving` asked for anew; and what could not be pinned."""
    mode = Mode.LOCKED if wish.offline and not wish.upgrade else Mode.LOCK
    pins = Pins(
        options=replace(workflow.options, mode=mode),
        lock=Lock.of(entry for text, entry in before.entries.items() if text not in moving),
        lockfile=str(workflow.lockfile),
        platform=Platform.here(),
        registries=registries,
    )
    with contextlib.chdir(workflow.workdir):  # where a run takes local image files from
        try:
            pins.ensure([*workflow.uses, *sorted(moving - set(workflow.uses))])
        except PinningFailed as failed:
            return pins, failed.failures
    return pins, {}


def _settled(before: Lock, pins: Pins, *, take_same_platform: bool) -> tuple[list[Entry], list[Change]]:
    """Return the entries to write, and the changes that are not taken."""
    former = {entry.reference: entry for entry in before}
    settled: list[Entry] = []
    held_back: list[Change] = []
    for text, new in pins.entries.items():
        old = before.get(text) or former.get(new.reference)
        if old is None:
            settled.append(new)
            continue
        held = old.digest != new.digest and not take_same_platform and same_here(old, new, pins.platform)
        kept = held or (old.digest, old.platforms) == (new.digest, new.platforms)
        settled.append(replace(old, reference=new.reference) if kept else new)
        if held and text in before.entries:
            held_back.append(Change(reference=text, old=old, new=new))
    return settled, held_back
