"""The heart: what three witnesses say of a pin, and what follows.

The lock says what was agreed, the registry what is served now, the disk what would be executed. Their words are
:class:`RemoteState` and :class:`DiskState`; :func:`compare` puts them together into a :class:`Verdict`. Everything here
is pure: values in, values out. Whoever gathers the facts does not judge them, whoever judges them does not act.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from snakemake_apptainer_freshness.lockfile import Entry


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
    """Fetched by digest and recorded by us, and its SHA-256 is still the recorded one; or a deep comparison proved
    it.
    """
    BOUND = "bound"
    """A sound SIF whose own label says that it was pulled by this digest; not recorded by us yet."""
    UNBOUND = "unbound"
    """A sound SIF built from a tag: cannot be attributed to any digest."""
    STALE = "stale"
    """A sound SIF that is provably of another digest."""
    ALTERED = "altered"
    """Recorded by us, and its bytes have changed since."""
    CORRUPT = "corrupt"
    """Not a sound SIF: truncated, empty, bad magic, a squashfs shorter than it says."""
    ABSENT = "absent"
    """Not there."""

    @property
    def may_run(self) -> bool:
        """Whether a job may start on an image of this state."""
        return self in (DiskState.VERIFIED, DiskState.BOUND)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFact:
    """What a registry answered about one reference.

    `digest` is what the tag points at now, where it exists (``sha256:…``); `platforms` the platform manifests of what
    it points at now, where they were looked at; `detail` the error or the warning in one line.
    """

    state: RemoteState
    digest: str | None = None
    platforms: Mapping[str, str] = field(default_factory=dict)
    detail: str = ""


UNCHECKED = RemoteFact(state=RemoteState.UNCHECKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFact:
    """What lies on this disk for one pin; `detail` says in one line how that is known."""

    state: DiskState
    path: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the witnesses say of one pin together.

    `same_platform` is true where the tag moved but this platform's manifest did not: what runs would not change.
    """

    reference: str
    remote: RemoteFact
    disk: DiskFact | None
    same_platform: bool = False

    @property
    def as_agreed(self) -> bool:
        """Whether the tag is known to point at the pin, and what is known of the disk may run."""
        return self.remote.state is RemoteState.CURRENT and (self.disk is None or self.disk.state.may_run)


def compare(entry: Entry, remote: RemoteFact, disk: DiskFact | None, *, platform: str) -> Verdict:
    """The verdict on one lock `entry`, for a machine of `platform` (``os/architecture``).

    `disk` is None where nobody looked at the disk.
    """
    here = entry.platforms.get(platform)
    same = remote.state is RemoteState.MOVED and here is not None and remote.platforms.get(platform) == here
    return Verdict(reference=entry.reference, remote=remote, disk=disk, same_platform=same)
