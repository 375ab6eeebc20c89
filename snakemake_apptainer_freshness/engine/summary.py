"""What a user sees at the start of a run: one line of summary, then a line for each image that is not simply current.

Pure: facts in, lines out.
"""

import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from snakemake_apptainer_freshness import CONFIG_KEY
from snakemake_apptainer_freshness.common.times import age, ago
from snakemake_apptainer_freshness.engine.messages import Line, group_by_reason, list_first
from snakemake_apptainer_freshness.freshness import RemoteState, Verdict
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.lockfile import Change
from snakemake_apptainer_freshness.settings import Mode, Options, Reaction

_TAKE_ALL: Final = f"snakemake … --config {CONFIG_KEY}={Mode.UPDATE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What there is to tell.

    Verdicts on pinned images, changes of the lock file, what has no digest and why, what was left as it is, what no job
    needs and could not be pinned, and why, and the references whose tags moved and stop the run.
    """

    verdicts: Sequence[Verdict]
    changes: Sequence[Change]
    unpinnable: Mapping[str, str]
    left_alone: Sequence[str] = ()
    unneeded: Mapping[str, str] = field(default_factory=dict)
    refused: Collection[str] = ()


def lines(facts: Facts, options: Options, *, lockfile: str, dryrun: bool) -> list[Line]:
    """Return the lines for `facts`; in a dry run the changes of the lock file are only what would be done."""
    result = [_summary(facts, options, lockfile=lockfile, dryrun=dryrun)]
    result += [_change(change, dryrun=dryrun) for change in facts.changes]
    result += [_unversioned(change.reference) for change in facts.changes if _is_unversioned(change, options)]
    result += _moved(facts, options)
    result += _unreachable(facts.verdicts)
    result += [line for verdict in facts.verdicts if (line := _verdict(verdict)) is not None]
    if options.on_unpinnable is not Reaction.IGNORE:
        result += [Line(text=f"  unpinnable: {text}: {why}", problem=True) for text, why in facts.unpinnable.items()]
    return [*result, *_not_needed(facts.unneeded)]


def keep_summary_visible(logged: Sequence[Line]) -> Iterator[Line]:
    """Yield the lines `logged`; the first, the summary, is a problem where any other is, and so stays visible."""
    summary, *others = logged
    yield Line(text=summary.text, problem=any(line.problem for line in others))
    yield from others


def _not_needed(unneeded: Mapping[str, str]) -> Iterator[Line]:
    for named, why in group_by_reason(unneeded):
        it = "it" if len(named) == 1 else "them"
        yield Line(text=f"  not pinned, no job needs {it}: {list_first(named)}: {why}", problem=True)


def _unreachable(verdicts: Iterable[Verdict]) -> Iterator[Line]:
    unreachable = [verdict for verdict in verdicts if verdict.remote.state is RemoteState.UNREACHABLE]
    for named, why in group_by_reason({verdict.reference.text: verdict.remote.detail for verdict in unreachable}):
        tags = "the tag" if len(named) == 1 else f"{len(named)} tags"
        text = f"  {RemoteState.UNREACHABLE}: {list_first(named)}: could not ask whether {tags} moved: {why}"
        yield Line(text=text, problem=True)


def _moved(facts: Facts, options: Options) -> Iterator[Line]:
    """Yield a line for each tag that moved, and then both ways to take what they point at now."""
    moved = [verdict for verdict in facts.verdicts if verdict.remote.state is RemoteState.MOVED]
    if not moved or options.on_moved is Reaction.IGNORE:
        return
    for verdict in moved:
        text = (
            f"  {RemoteState.MOVED}: {verdict.reference.text}: {verdict.pinned.short} → {_short(verdict.remote.digest)}"
        )
        text += f" (asked {ago(age(verdict.remote.asked_at))})" if verdict.remote.asked_at else ""
        if verdict.same_platform:
            text += "; the image for this platform is the same"
        elif verdict.reference.text in facts.refused:
            text += f"; on_moved is {Reaction.ERROR}: this run stops"
        yield Line(text=text, problem=True)
    of_image = f"apptainer-freshness lock --upgrade-image {shlex.quote(moved[0].reference.text)}"
    which = "this one" if len(moved) == 1 else "one, as the first"
    stay = "" if facts.refused else "the pin stays; " if len(moved) == 1 else "the pins stay; "
    yield Line(text=f"    {stay}take {which}: {of_image}; take all: {_TAKE_ALL}", problem=True)


def _summary(facts: Facts, options: Options, *, lockfile: str, dryrun: bool) -> Line:
    changed = {change.reference for change in facts.changes}
    counts = Counter(str(verdict.remote.state) for verdict in facts.verdicts if verdict.reference.text not in changed)
    would = "would be " if dryrun else ""
    counts[f"{would}added"] = sum(change.old is None for change in facts.changes)
    counts[f"{would}updated"] = sum(change.old is not None for change in facts.changes)
    counts["unpinnable"] = len(facts.unpinnable)
    counts["not in the lock"] = len(facts.left_alone)
    counts["not pinned"] = len(facts.unneeded)
    images = "1 image" if len(facts.verdicts) == 1 else f"{len(facts.verdicts)} images"
    parts = ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "nothing to pin"
    text = f"apptainer-freshness: {images} pinned by {lockfile} (mode {options.mode}): {parts}"
    return Line(text=text + _remembered(facts.verdicts))


def _remembered(verdicts: Sequence[Verdict]) -> str:
    """Return how long ago registries were asked, where they were not asked just now; of several the longest."""
    ages = [age(verdict.remote.asked_at) for verdict in verdicts if verdict.remote.asked_at]
    if not ages:
        return ""
    some_of = "" if len(ages) == len(verdicts) else f"{len(ages)} of them "
    return f" ({some_of}asked {ago(max(ages))})"


def _change(change: Change, *, dryrun: bool) -> Line:
    would = "would be " if dryrun else ""
    new = _short(change.new.digest if change.new else None)
    if change.old is None:
        return Line(text=f"  {would}added: {change.reference} → {new}")
    return Line(text=f"  {would}updated: {change.reference} {_short(change.old.digest)} → {new}")


def _is_unversioned(change: Change, options: Options) -> bool:
    """Return whether a pin is new whose name says no version; a policy on tags decides in place of this warning."""
    is_new = change.old is None and change.new is not None and change.new.reference.names_no_version
    return is_new and "tags" not in options.policy


def _unversioned(reference: str) -> Line:
    text = f"  no version: {reference}: it names no tag, or latest: an upgrade may take anything; name a version"
    return Line(text=text, problem=True)


def _verdict(verdict: Verdict) -> Line | None:
    remote, named = verdict.remote, verdict.reference.text
    match remote.state:
        case RemoteState.CURRENT | RemoteState.UNCHECKED:
            return Line(text=f"  note: {named}: {remote.detail}", problem=True) if remote.detail else None
        case RemoteState.MOVED | RemoteState.UNREACHABLE:
            return None  # told together
        case RemoteState.UNTAGGED:
            text = "the tag is gone from the registry; its pinned digest is still served"
        case RemoteState.LOST:
            text = "the pinned digest is no longer served: keep the image file, it cannot be fetched again"
    return Line(text=f"  {remote.state}: {named}: {text}", problem=True)


def _short(digest: Digest | None) -> str:
    return "?" if digest is None else digest.short
