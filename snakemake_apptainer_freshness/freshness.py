"""Comparing what lock, registry and disk say of a pin, and deciding what a run does about it.

The lock says what was agreed, the registry what is served now, the disk what would be executed. Their words are
:class:`RemoteState` and :class:`DiskState`; :func:`compare` puts them together into a :class:`Verdict`, and
:func:`decide` says what a run does about it: one table for every mode and option. Everything here is pure: values in,
values out. What gathers facts does not judge them, and what judges them does not act.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from snakemake_apptainer_freshness.common.files import StatKey
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.settings import Mode, OnUnverified, Options, Reaction


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
    """A sound SIF whose own label says that it was pulled by this digest: a claim, which anybody can write."""
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
    def may_run(self) -> bool:
        """Whether a job may start on an image of this state."""
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
_CONTRADICTING: Final = frozenset({RemoteState.MOVED, RemoteState.UNTAGGED, RemoteState.LOST})


@dataclass(frozen=True, slots=True, kw_only=True)
class FileHash:
    """What a file hashed to: `sha256`, in hex.

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
    `known` is what a verified file hashed to, where that was looked at.
    """

    state: DiskState
    path: str = ""
    detail: str = ""
    store: str = ""
    known: FileHash | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the witnesses say of one pin together.

    `pinned` is the digest of the lock. `same_platform` is true where the tag moved but this platform's manifest did
    not: what runs would not change.
    """

    reference: Reference
    pinned: Digest
    remote: RemoteFact
    disk: DiskFact | None
    same_platform: bool = False

    @property
    def is_finding(self) -> bool:
        """Whether a witness contradicts the lock; an image that is not there yet contradicts nothing."""
        disk = self.disk
        return self.remote.state in _CONTRADICTING or (
            disk is not None and not disk.state.may_run and disk.state is not DiskState.ABSENT
        )

    @property
    def is_unasked(self) -> bool:
        """Whether the registry was asked and did not answer."""
        return self.remote.state is RemoteState.UNREACHABLE

    @property
    def as_agreed(self) -> bool:
        """Whether no witness contradicts the lock, and every one that was asked answered."""
        return not self.is_finding and not self.is_unasked


def compare(
    entry: Entry, remote: RemoteFact, disk: DiskFact | None, *, platform: Platform, manifest: Digest | None = None
) -> Verdict:
    """Return the verdict on one lock `entry`, for a machine of `platform`.

    `disk` is None where nobody looked at the disk. `manifest` is the platform's in the pinned index, where that was
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
    """The image is not proven to be what the digest names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a run does about a verdict, and why."""

    action: Action
    reason: Reason


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


def decide(verdict: Verdict, options: Options, *, repairable: Repairable = Repairable.ANYTHING) -> Decision:
    """Return what a run with `options` does about `verdict`: the more severe of what registry and disk ask for.

    Of two that are alike the disk's reason counts, since that is what would run.
    """
    if options.mode is Mode.OFF:
        return Decision(action=Action.RUN, reason=Reason.OFF)
    remote = decide_remote(verdict, options)
    if verdict.disk is None or verdict.disk.state is DiskState.VERIFIED:
        return remote
    disk = decide_disk(verdict.disk.state, options, repairable=repairable)
    return max(disk, remote, key=lambda decision: _SEVERITY.index(decision.action))


def decide_remote(verdict: Verdict, options: Options) -> Decision:
    """Return what a run with `options` does about what the registry says, whatever lies on the disk."""
    match verdict.remote.state:
        case RemoteState.CURRENT:
            return Decision(action=Action.RUN, reason=Reason.AS_AGREED)
        case RemoteState.UNCHECKED:
            return Decision(action=Action.RUN, reason=Reason.NOT_ASKED)
        case RemoteState.MOVED if verdict.same_platform:
            # what runs here would not change, so that on_moved: error has nothing to protect from
            action = Action.RUN if options.on_moved is Reaction.IGNORE else Action.WARN
            return Decision(action=action, reason=Reason.SAME_PLATFORM)
        case RemoteState.MOVED:
            return Decision(action=_REACTIONS[options.on_moved], reason=Reason.MOVED)
        case RemoteState.UNTAGGED:
            return Decision(action=Action.WARN, reason=Reason.UNTAGGED)
        case RemoteState.LOST:
            # the image may lie on this disk; where it does not, fetching it says why it failed
            return Decision(action=Action.WARN, reason=Reason.LOST)
        case RemoteState.UNREACHABLE:
            return Decision(action=Action.WARN, reason=Reason.UNREACHABLE)


def decide_disk(state: DiskState, options: Options, *, repairable: Repairable = Repairable.ANYTHING) -> Decision:
    """Return what a run with `options` does about an image of `state`; ``verified`` alone runs without a word."""
    if options.mode is Mode.OFF:
        return Decision(action=Action.RUN, reason=Reason.OFF)
    if state is DiskState.VERIFIED:
        return Decision(action=Action.RUN, reason=Reason.AS_AGREED)
    if state is DiskState.ABSENT:
        if options.mode is Mode.FROZEN or repairable is Repairable.NOTHING:
            return Decision(action=Action.REFUSE, reason=Reason.MISSING)
        return Decision(action=Action.REPAIR, reason=Reason.ABSENT)
    if options.mode is Mode.FROZEN:
        return Decision(action=Action.REFUSE, reason=Reason.UNVERIFIED)
    match options.on_unverified:
        case OnUnverified.WARN:
            action = Action.WARN
        case OnUnverified.REPAIR if repairable is Repairable.ANYTHING:
            action = Action.REPAIR
        case _:
            action = Action.REFUSE
    return Decision(action=action, reason=Reason.UNVERIFIED)
