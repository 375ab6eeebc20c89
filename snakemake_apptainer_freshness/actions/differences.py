"""What a change of the lock means: for each platform, for the rules, for outputs that are there already. Pure.

A tag may move although nothing that runs here changes: an index gets another attestation, or another platform's image
was rebuilt. What counts on a machine is the manifest of its own platform, so :func:`same_here` tells such a change
apart. An image that was pushed without an index has one manifest alone, which counts everywhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from snakemake_apptainer_freshness.actions.workflow import Output, Use, Workflow
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Change, Entry, pinned_form


class What(StrEnum):
    """What a change does to an entry of the lock."""

    ADDED = "added"
    UPDATED = "updated"
    REMOVED = "removed"


class Fate(StrEnum):
    """What a change does to one platform's image."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    SAME = "same"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One changed entry, and what follows: `outputs` are there already, and were made with the `old` one."""

    what: What
    reference: str
    old: Entry | None
    new: Entry | None
    platforms: Mapping[str, Fate]
    uses: tuple[Use, ...]
    outputs: tuple[Output, ...]


def difference(change: Change, workflow: Workflow) -> Difference:
    """What `change` means for `workflow`."""
    old, new = change.old, change.new
    return Difference(
        what=What.ADDED if old is None else What.REMOVED if new is None else What.UPDATED,
        reference=change.reference,
        old=old,
        new=new,
        platforms=fates(old, new) if old and new else {},
        uses=workflow.uses.get(change.reference, ()),
        outputs=tuple(made_with(old, workflow.outputs)) if old else (),
    )


def same_here(old: Entry, new: Entry, platform: str) -> bool:
    """Whether what runs on `platform` (``os/architecture``) is the same image by both."""
    here = _manifest(old, platform)
    return here is not None and here == _manifest(new, platform)


def _manifest(entry: Entry, platform: str) -> str | None:
    return entry.platforms.get(platform) if entry.platforms else entry.digest


def fates(old: Entry, new: Entry) -> dict[str, Fate]:
    """What becomes of each platform's image, sorted; empty where neither of both has platforms."""
    return {
        platform: _fate(_listed(old, new, platform), _listed(new, old, platform))
        for platform in sorted({*old.platforms, *new.platforms})
    }


def _listed(entry: Entry, other: Entry, platform: str) -> str | None:
    """The manifest of `platform`; a lone manifest is for the platform that `other` lists it for."""
    if not entry.platforms and other.platforms.get(platform) == entry.digest:
        return entry.digest
    return entry.platforms.get(platform)


def _fate(old: str | None, new: str | None) -> Fate:
    if old == new:
        return Fate.SAME
    if old is None:
        return Fate.ADDED
    return Fate.REMOVED if new is None else Fate.CHANGED


def made_with(entry: Entry, outputs: Iterable[Output]) -> Iterable[Output]:
    """Those of `outputs` whose record says that they were made with what `entry` pins, by index or by platform."""
    reference = parse(entry.reference)
    pins = {pinned_form(reference, Digest.parse(digest)) for digest in (entry.digest, *entry.platforms.values())}
    return (output for output in outputs if output.recorded_url in pins)
