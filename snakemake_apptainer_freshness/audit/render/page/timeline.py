"""The pictures of an audit as numbers and words: where each line, band and mark of a drawing goes.

Values only; the templates draw them. A picture never says anything by colour alone: a digest has a letter, a state a
word or a shape. Lengths are in CSS pixels.

The timeline of an image has a column for each run of its work directory, oldest first, and three lanes: where the tag
pointed, what the lock said, and what ran. Runs are spread evenly: by the clock, the ten runs of one afternoon would lie
upon each other. Where there are more than :data:`MOST_COLUMNS` of them, consecutive runs that saw the same share one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from snakemake_apptainer_freshness.audit.results import ImageSighting, OutputVerdict
from snakemake_apptainer_freshness.freshness import RemoteState

MOST_COLUMNS: Final = 36
GUTTER: Final = 84
WIDTH: Final = 900
NARROWEST: Final = 40
WIDEST: Final = 190
LABEL_WIDTH: Final = 66
"""What a date needs below a column."""
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
    """One state over consecutive columns: a digest (`key`), or the `word` for why there is none."""

    x: float
    width: float
    key: Key | None
    word: str
    moved: bool
    """Whether the band before it was of another digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One run, or consecutive ones that saw the same; `x` is its middle.

    `sighting` is None where the run did not use the image; `label` is empty where there is no room for a date.
    """

    x: float
    left: float
    label: str
    runs: int
    first: str
    last: str
    anchor: str
    sighting: ImageSighting | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The picture of one image across runs."""

    width: float
    column: float
    columns: tuple[Column, ...]
    tag: tuple[Band, ...]
    lock: tuple[Band, ...]
    keys: tuple[Key, ...]


RunMark = tuple[str, str, str]
"""A run's identifier, start and anchor."""


def bar(counts: Mapping[OutputVerdict, int]) -> Bar:
    """The shares of `counts`; every verdict that occurs is wide enough to be seen."""
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
    """The picture of an image with these `sightings`, among all `runs` of its work directory, oldest first."""
    groups = _groups(sightings, runs)
    column = min(WIDEST, max(NARROWEST, (WIDTH - GUTTER) / max(len(groups), 1)))
    keys = _keys(sightings)
    columns = tuple(_columns(groups, column))
    return Timeline(
        width=round(GUTTER + column * len(columns) + 8, 1),
        column=round(column, 1),
        columns=columns,
        tag=_bands(columns, column, [_pointer(one.sighting, keys) for one in columns]),
        lock=_bands(columns, column, [_pin(one.sighting, keys) for one in columns]),
        keys=tuple(keys.values()),
    )


def _groups(
    sightings: Sequence[ImageSighting], runs: Sequence[RunMark]
) -> list[list[tuple[RunMark, ImageSighting | None]]]:
    """The runs of each column, with what they saw."""
    seen = {sighting.run: sighting for sighting in sightings}
    known = {run[0] for run in runs}
    strays = [(one.run, one.at, "") for one in sightings if one.run not in known]
    marks = sorted([*runs, *strays], key=lambda mark: (mark[1], mark[0]))
    pairs = [(mark, seen.get(mark[0])) for mark in marks]
    if len(pairs) <= MOST_COLUMNS:
        return [[pair] for pair in pairs]
    return [list(group) for _, group in groupby(pairs, key=lambda pair: _state(pair[1]))]


def _state(sighting: ImageSighting | None) -> tuple[str, ...]:
    if sighting is None:
        return ()
    return (sighting.digest, sighting.remote, sighting.points_at, sighting.disk)


def _columns(groups: Sequence[list[tuple[RunMark, ImageSighting | None]]], width: float) -> Iterable[Column]:
    every = max(1, round(LABEL_WIDTH / width + 0.4))
    days = {group[0][0][1][:10] for group in groups}
    shown = slice(11, 16) if len(days) == 1 < len(groups) else slice(10)  # of one day, the times tell runs apart
    for number, group in enumerate(groups):
        (_, first, anchor), sighting = group[0]
        left = GUTTER + number * width
        yield Column(
            x=round(left + width / 2, 1),
            left=round(left, 1),
            label=first[shown] if number % every == 0 else "",
            runs=len(group),
            first=first,
            last=group[-1][0][1],
            anchor=anchor,
            sighting=sighting,
        )


def _keys(sightings: Iterable[ImageSighting]) -> dict[str, Key]:
    """A letter for each digest, in the order in which they were seen."""
    digests = dict.fromkeys(digest for one in sightings for digest in (one.digest, one.points_at) if digest)
    return {
        digest: Key(letter=_letter(number), hue=number % HUES, digest=digest) for number, digest in enumerate(digests)
    }


def _letter(number: int) -> str:
    """A … Z, AA, AB, …"""
    before, own = divmod(number, 26)
    return (_letter(before - 1) if before else "") + chr(ord("A") + own)


_State = tuple[Key | None, str] | None


def _pointer(sighting: ImageSighting | None, keys: Mapping[str, Key]) -> _State:
    if sighting is None:
        return None
    if sighting.points_at:
        return keys[sighting.points_at], ""
    return None, _WITHOUT_POINTER.get(sighting.remote, sighting.remote)


def _pin(sighting: ImageSighting | None, keys: Mapping[str, Key]) -> _State:
    if sighting is None:
        return None
    return (keys[sighting.digest], "") if sighting.digest else (None, "no pin")


def _bands(columns: Sequence[Column], width: float, states: Sequence[_State]) -> tuple[Band, ...]:
    """Equal neighbours become one band."""
    bands: list[Band] = []
    last: Key | None = None
    for state, group in groupby(zip(states, columns, strict=True), key=lambda pair: pair[0]):
        members = list(group)
        if state is None:
            continue
        key, word = state
        left = members[0][1].left
        moved = key is not None and last is not None and key != last
        bands.append(Band(x=left, width=round(width * len(members), 1), key=key, word=word, moved=moved))
        last = key or last
    return tuple(bands)
