"""The timeline of an image, and bars, as numbers and words; the templates draw them.

A picture never says anything by colour alone: a digest has a letter, a state a word and a shape.

A timeline has a column for each run of its work directory, oldest first, and three lanes: where the tag pointed, what
the lock said, and what ran. It is a table, so that it fills the width that there is, its first column can stay in view,
and a screen reader reads it as it stands. Runs are spread evenly: by the clock, the ten runs of one afternoon would lie
upon each other. Where there are more than :data:`MOST_COLUMNS`, consecutive runs that saw the same share one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from snakemake_apptainer_freshness.audit.results import ImageSighting, OutputVerdict
from snakemake_apptainer_freshness.freshness import DiskState, RemoteState

MOST_COLUMNS: Final = 12
"""As many as can be read side by side on paper."""
HUES: Final = 6
"""So many digests have a colour of their own, then they repeat; the letters do not."""

_WITHOUT_POINTER: Final[Mapping[str, str]] = {
    RemoteState.UNTAGGED: "tag gone",
    RemoteState.LOST: "lost",
    RemoteState.UNREACHABLE: "no answer",
    RemoteState.UNCHECKED: "not asked",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of a bar: one verdict's share, from `x` on, of a whole of 1000."""

    verdict: OutputVerdict
    x: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """The shares of the verdicts, the best first."""

    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A digest's letter in one picture."""

    letter: str
    hue: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """One state over `span` consecutive columns: a digest (`key`), or the `word` for why there is none.

    Both are missing where no run used the image. `moved` says that the band before was of another digest.
    """

    span: int
    key: Key | None
    word: str
    moved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMark:
    """A run as a column shows it: its identifier, when it began (ISO 8601), its name and where it stands."""

    id: str
    started: str
    name: str
    anchor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Consecutive runs that saw the same, mostly one; what they saw is None where they did not use the image.

    `key` is the digest of what ran, where that was proven.
    """

    first: RunMark
    last: RunMark
    runs: int
    jobs: int
    sighting: ImageSighting | None
    key: Key | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The picture of one image across runs."""

    columns: tuple[Column, ...]
    tag: tuple[Band, ...]
    lock: tuple[Band, ...]
    keys: tuple[Key, ...]


def bar(counts: Mapping[OutputVerdict, int]) -> Bar:
    """Return the shares of `counts`; every verdict that occurs is wide enough to be seen."""
    total = sum(counts.values())
    if not total:
        return Bar(segments=())
    widths = {verdict: max(count / total * 1000, 6.0) for verdict, count in counts.items() if count}
    scale = 1000 / sum(widths.values())
    segments = []
    x = 0.0
    for verdict in reversed(widths):
        width = widths[verdict] * scale
        segments.append(Segment(verdict=verdict, x=round(x, 2), width=round(width, 2)))
        x += width
    return Bar(segments=tuple(segments))


def timeline(sightings: Sequence[ImageSighting], runs: Sequence[RunMark]) -> Timeline:
    """Return the picture of an image with these `sightings`, among all `runs` of its work directory, oldest first."""
    keys = _keys(sightings)
    columns = tuple(_column(group, keys) for group in _groups(sightings, runs))
    return Timeline(
        columns=columns,
        tag=_bands([_pointer(column.sighting, keys) for column in columns]),
        lock=_bands([_pin(column.sighting, keys) for column in columns]),
        keys=tuple(keys.values()),
    )


_Pair = tuple[RunMark, ImageSighting | None]


def _groups(sightings: Sequence[ImageSighting], runs: Sequence[RunMark]) -> list[list[_Pair]]:
    """Return the runs of each column, with what they saw."""
    seen = {sighting.run: sighting for sighting in sightings}
    known = {run.id for run in runs}
    strays = [
        RunMark(id=sighting.run, started=sighting.at, name=sighting.run)
        for sighting in sightings
        if sighting.run not in known
    ]
    marks = sorted([*runs, *strays], key=lambda mark: (mark.started, mark.id))
    pairs = [(mark, seen.get(mark.id)) for mark in marks]
    if len(pairs) <= MOST_COLUMNS:
        return [[pair] for pair in pairs]
    return [list(group) for _, group in groupby(pairs, key=lambda pair: _state(pair[1]))]


def _state(sighting: ImageSighting | None) -> tuple[str, ...]:
    if sighting is None:
        return ()
    return (sighting.digest, sighting.remote, sighting.points_at, sighting.disk)


def _column(group: Sequence[_Pair], keys: Mapping[str, Key]) -> Column:
    first, sighting = group[0]
    proven = sighting is not None and sighting.disk == DiskState.VERIFIED
    return Column(
        first=first,
        last=group[-1][0],
        runs=len(group),
        jobs=sum(seen.jobs for _, seen in group if seen is not None),
        sighting=sighting,
        key=keys.get(sighting.digest) if sighting is not None and proven else None,
    )


def _keys(sightings: Iterable[ImageSighting]) -> dict[str, Key]:
    """Return a letter for each digest, in the order in which they were seen."""
    digests = dict.fromkeys(
        digest for sighting in sightings for digest in (sighting.digest, sighting.points_at) if digest
    )
    return {
        digest: Key(letter=_letter(number), hue=number % HUES, digest=digest) for number, digest in enumerate(digests)
    }


def _letter(number: int) -> str:
    """Return a … Z, AA, AB, …"""
    before, own = divmod(number, 26)
    return (_letter(before - 1) if before else "") + chr(ord("A") + own)


_Shown = tuple[Key | None, str]


def _pointer(sighting: ImageSighting | None, keys: Mapping[str, Key]) -> _Shown:
    if sighting is None:
        return None, ""
    if sighting.points_at:
        return keys[sighting.points_at], ""
    return None, _WITHOUT_POINTER.get(sighting.remote, sighting.remote)


def _pin(sighting: ImageSighting | None, keys: Mapping[str, Key]) -> _Shown:
    if sighting is None:
        return None, ""
    return (keys[sighting.digest], "") if sighting.digest else (None, "no pin")


def _bands(shown: Iterable[_Shown]) -> tuple[Band, ...]:
    """Return the bands; equal neighbours become one."""
    bands: list[Band] = []
    last: Key | None = None
    for (key, word), group in groupby(shown):
        moved = key is not None and last is not None and key != last
        bands.append(Band(span=len(list(group)), key=key, word=word, moved=moved))
        last = key or last
    return tuple(bands)
