"""Comparing what lock, registry and disk say of a pin, and deciding what a run does about it.

The lock says what was agreed, the registry what is served now, the disk what would be executed. Their words are
:class:`RemoteState` and :class:`DiskState`; :func:`compare` puts them together into a :class:`Verdict`, and
:func:`decide` says what a run does about it, and why: one table for every mode and option. What a report makes of it,
its levels and its exit status, follows from the reasons. Everything here is pure: values in, values out. What gathers
facts does not judge them, and what judges them does not act.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from snakemake_apptainer_freshness.common.files import StatKey
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.settings import Mode, OnUnverified, Options, Reaction

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.lockfile import Entry  # the processes of jobs read no lock


class RemoteState(StrEnum):
    """What the registry says of a pin."""

    CURRENT = "current"
    """The tag still points at the digest."""
    MOVED = "moved"
    """The tag points elsewhere."""
    UNTAGGED = "untagged"
    """The tag is gone; the digest is still served."""
    LOST = "lost"
    """The digest is no longer served."""
    UNREACHABLE = "unreachable"
    """The registry could not be asked."""
    UNCHECKED = "unchecked"
    """No network was asked for."""


class DiskState(StrEnum):
    """What the disk says of a pin."""

    VERIFIED = "verified"
    """Its SHA-256 is one of which a fact of content says that it is this digest's image."""
    BOUND = "bound"
    """A sound SIF whose own label says that it was pulled by this digest: a claim, and no proof."""
    UNBOUND = "unbound"
    """A sound SIF built from a tag: cannot be attributed to any digest."""
    STALE = "stale"
    """A sound SIF that is provably of another digest, or holds what no pull makes."""
    ALTERED = "altered"
    """Was verified, and its bytes have changed since."""
    CORRUPT = "corrupt"
    """Not a sound SIF: truncated, empty, bad magic, a squashfs shorter than it says."""
    ABSENT = "absent"
    """Not there."""

    @property
    def is_proven(self) -> bool:
        """Whether the bytes are proven to be what the digest names."""
        return self is DiskState.VERIFIED


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFact:
    """What a registry answered about one reference.

    `digest` is what the tag points at now, where it exists; `platforms` the platform manifests of what it points at
    now, where they were looked at; `detail` the error or the warning in one line. `asked_at` is when that was asked
    (UTC, ISO 8601), where it is remembered and not asked just now.
    """

    state: RemoteState
    digest: Digest | None = None
    platforms: Mapping[Platform, Digest] = field(default_factory=dict)
    detail: str = ""
    asked_at: str = ""


UNCHECKED = RemoteFact(state=RemoteState.UNCHECKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileHash:
    """The hash of a file: `sha256`, in hex.

    `stat` is the key under which it was hashed, where that is to be trusted. `writable_by_all` says that the file's
    folder gives every file that mode, so that the mode says nothing. Of a sandbox folder `sha256` is that of its tree,
    and `survey`, where that is to be trusted, the key of all its files.
    """

    sha256: str
    stat: StatKey | None = None
    writable_by_all: bool = False
    survey: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFact:
    """What lies on this disk for one pin; `detail` says in one line how that is known.

    `store` is the folder of the site's fact store whose word that is; empty where it is no site's.
    `known` is what a verified file hashed to, where that was looked at. `survey` is the key that all files of a
    sandbox had together then, by which it is told later whether one was touched since.
    """

    state: DiskState
    path: str = ""
    detail: str = ""
    store: str = ""
    known: FileHash | None = None
    survey: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What registry and disk say of one image; `disk` is None where it was not looked at.

    `same_platform` is true where the tag moved but this platform's manifest did not: what runs would not change.
    """

    remote: RemoteFact = UNCHECKED
    disk: DiskFact | None = None
    same_platform: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict(Evidence):
    """What the witnesses say of one pin together; `pinned` is the digest of the lock."""

    reference: Reference
    pinned: Digest


def compare(
    entry: "Entry", remote: RemoteFact, disk: DiskFact | None, *, platform: Platform, manifest: Digest | None = None
) -> Verdict:
    """Return the verdict on one lock `entry`, for a machine of `platform`.

    `disk` is None where the disk was not looked at. `manifest` is the platform's in the pinned index, where that was
    hashed: what the lock says of it is a claim, and says nothing here.
    """
    same = remote.state is RemoteState.MOVED and manifest is not None and remote.platforms.get(platform) == manifest
    return Verdict(reference=entry.reference, pinned=entry.digest, remote=remote, disk=disk, same_platform=same)


class Action(StrEnum):
    """What a run does about a verdict, from the mildest to the most severe."""

    RUN = "run"
    WARN = "warn"
    """Tell the user, and run."""
    REPAIR = "repair"
    """Prove the image that lies there, or fetch it anew; then run."""
    REFUSE = "refuse"


class ReasonLevel(StrEnum):
    """How a reason counts where images are reported on."""

    NONE = "none"
    UNASKED = "unasked"
    """It is no finding, but a failure to look."""
    WARNING = "warning"
    ERROR = "error"

    @property
    def is_finding(self) -> bool:
        """Whether a person should look at it."""
        return self in (ReasonLevel.WARNING, ReasonLevel.ERROR)


class Reason(StrEnum):
    """Why a run does what it does; sentences about it are made where it is told."""

    AS_AGREED = "as_agreed"
    OFF = "off"
    """The mode is off: nothing is decided here."""
    NOT_ASKED = "not_asked"
    SAME_PLATFORM = "same_platform"
    """The tag moved around the manifest of this platform, which stayed."""
    MOVED = "moved"
    UNTAGGED = "untagged"
    LOST = "lost"
    UNREACHABLE = "unreachable"
    ABSENT = "absent"
    """There is no image, and one may be fetched."""
    MISSING = "missing"
    """There is no image, and none may be fetched."""
    UNVERIFIED = "unverified"
    """The image is sound, and not proven to be what the digest names."""
    DISPROVEN = "disproven"
    """The image is provably not what the digest names: another one, or damaged."""
    NOT_NAMED = "not_named"
    """The image is not proven, or has gone, and no lock and no person names it: who put it there may accept it."""

    @property
    def level(self) -> ReasonLevel:
        """How it counts in a report, whatever a run does about it."""
        return _LEVELS.get(self, ReasonLevel.NONE)


_LEVELS: Final = {
    Reason.SAME_PLATFORM: ReasonLevel.WARNING,
    Reason.MOVED: ReasonLevel.WARNING,
    Reason.UNTAGGED: ReasonLevel.WARNING,
    Reason.LOST: ReasonLevel.ERROR,
    Reason.UNREACHABLE: ReasonLevel.UNASKED,
    Reason.MISSING: ReasonLevel.ERROR,
    Reason.UNVERIFIED: ReasonLevel.ERROR,
    Reason.DISPROVEN: ReasonLevel.ERROR,
}
_DISPROVEN: Final = frozenset({DiskState.STALE, DiskState.ALTERED, DiskState.CORRUPT})


class Decision(NamedTuple):
    """What a run does about a verdict, and why.

    `reason` is that of `action`; `reasons` are those of every witness that has something to say, the registry's first.
    """

    action: Action
    reason: Reason
    reasons: tuple[Reason, ...]

    @property
    def is_finding(self) -> bool:
        """Whether a witness contradicts the lock."""
        return any(reason.level.is_finding for reason in self.reasons)

    @property
    def is_unasked(self) -> bool:
        """Whether the registry was asked and did not answer."""
        return any(reason.level is ReasonLevel.UNASKED for reason in self.reasons)

    @property
    def as_agreed(self) -> bool:
        """Whether no witness contradicts the lock, and every one that was asked answered."""
        return not self.is_finding and not self.is_unasked


class Repairable(StrEnum):
    """What a process may do about an image."""

    ANYTHING = "anything"
    """Fetch it, and replace a file that lies there."""
    ABSENT = "absent"
    """Fetch it where nothing lies there: a process of a job, beside which others may run on the file."""
    NOTHING = "nothing"
    """It is a file of the user."""


_SEVERITY: Final = tuple(Action)
_REACTIONS: Final = {Reaction.IGNORE: Action.RUN, Reaction.WARN: Action.WARN, Reaction.ERROR: Action.REFUSE}


def decide(
    evidence: Evidence, options: Options, *, repairable: Repairable = Repairable.ANYTHING, is_named: bool = True
) -> Decision:
    """Return what a run with `options` does about `evidence`: the more severe of what registry and disk ask for.

    Of two that are alike the disk's reason counts, since that is what would run. `is_named` says that a lock, or a
    person, named the image: of another one that merely lies there only damage counts.
    """
    if options.mode is Mode.OFF:
        return Decision(action=Action.RUN, reason=Reason.OFF, reasons=(Reason.OFF,))
    action, reason = _by_registry(evidence, options)
    if evidence.disk is None or evidence.disk.state is DiskState.VERIFIED:
        return Decision(action=action, reason=reason, reasons=(reason,))
    reasons = (reason,)
    on_disk, why = _by_disk(evidence.disk.state, options, repairable=repairable, is_named=is_named)
    if _SEVERITY.index(on_disk) >= _SEVERITY.index(action):
        action, reason = on_disk, why
    return Decision(action=action, reason=reason, reasons=(*reasons, why))


def most_severe(decisions: Iterable[Decision]) -> Decision:
    """Return that of `decisions` whose action is the most severe, of several the first."""
    return max(decisions, key=lambda decision: _SEVERITY.index(decision.action))


def exit_status(decisions: Iterable[Decision]) -> int:
    """Return the exit status of a report of `decisions`: 1 for a finding, else 3 where a registry was not reached."""
    every = list(decisions)
    if any(decision.is_finding for decision in every):
        return 1
    return 3 if any(decision.is_unasked for decision in every) else 0


def _by_registry(evidence: Evidence, options: Options) -> tuple[Action, Reason]:
    """Return what a run with `options` does about what the registry says, whatever lies on the disk."""
    match evidence.remote.state:
        case RemoteState.CURRENT:
            return Action.RUN, Reason.AS_AGREED
        case RemoteState.UNCHECKED:
            return Action.RUN, Reason.NOT_ASKED
        case RemoteState.MOVED if evidence.same_platform:
            # what runs here would not change, so that on_moved: error has nothing to protect from
            action = Action.RUN if options.on_moved is Reaction.IGNORE else Action.WARN
            return action, Reason.SAME_PLATFORM
        case RemoteState.MOVED:
            return _REACTIONS[options.on_moved], Reason.MOVED
        case RemoteState.UNTAGGED:
            return Action.WARN, Reason.UNTAGGED
        case RemoteState.LOST:
            # the image may lie on this disk; where it does not, fetching it says why it failed
            return Action.WARN, Reason.LOST
        case RemoteState.UNREACHABLE:
            return Action.WARN, Reason.UNREACHABLE


def _by_disk(state: DiskState, options: Options, *, repairable: Repairable, is_named: bool) -> tuple[Action, Reason]:
    """Return what a run with `options` does about an image of `state`, which is not verified."""
    if not is_named and state not in _DISPROVEN:
        return Action.RUN, Reason.NOT_NAMED
    if state is DiskState.ABSENT:
        if options.mode is Mode.FROZEN or repairable is Repairable.NOTHING:
            return Action.REFUSE, Reason.MISSING
        return Action.REPAIR, Reason.ABSENT
    reason = Reason.DISPROVEN if state in _DISPROVEN else Reason.UNVERIFIED
    if options.mode is Mode.FROZEN:
        return Action.REFUSE, reason
    match options.on_unverified:
        case OnUnverified.WARN:
            return Action.WARN, reason
        case OnUnverified.REPAIR if repairable is Repairable.ANYTHING:
            return Action.REPAIR, reason
        case _:
            return Action.REFUSE, reason
