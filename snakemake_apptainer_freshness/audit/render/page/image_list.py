"""The images of an audit as the page shows them: the worst first, each with its picture; values only.

An image that was verified in every run, by its record, and is so today, and whose pin and tag never moved, is steady:
the template folds it to one line.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final

from snakemake_apptainer_freshness.audit.render.page.names import RunNames
from snakemake_apptainer_freshness.audit.render.page.timeline import RunMark, Timeline, timeline
from snakemake_apptainer_freshness.audit.results import Audit, ImageAudit, ImageSighting
from snakemake_apptainer_freshness.audit.verdicts import BAD
from snakemake_apptainer_freshness.freshness import DiskState, RemoteState

_AT_REST: Final = frozenset({RemoteState.CURRENT, RemoteState.UNCHECKED, ""})
"""What a registry may have said of an image in each run for it to be one that never changed."""

Anchors = Mapping[tuple[str, str], str]
"""Where each output, image and run stands on the page, by work directory and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownImage:
    """An image with its picture; `moves` counts how often its pin moved between two runs.

    `steady` says that it was verified in every run and is so today, and that neither its pin nor its tag ever moved.
    """

    anchor: str
    image: ImageAudit
    picture: Timeline
    moves: int
    steady: bool
    spells: tuple["RunSpan", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpan:
    """Consecutive runs that saw an image alike: the names of the first and the last one, how many, and their jobs."""

    like: ImageSighting
    first: str
    last: str
    runs: int
    jobs: int


def images(audit: Audit, anchors: Anchors, names: RunNames) -> list[ShownImage]:
    """Return every image of `audit`, the worst first."""
    runs: dict[str, list[RunMark]] = {}
    for run in sorted(audit.runs, key=lambda run: (run.started, run.id)):
        key = (run.workdir, run.id)
        mark = RunMark(id=run.id, started=run.started, name=names[key], anchor=anchors[key])
        runs.setdefault(run.workdir, []).append(mark)
    shown = []
    for number, image in enumerate(audit.images):
        digests = [sighting.digest for sighting in image.sightings]
        shown_image = ShownImage(
            anchor=f"image-{number}",
            image=image,
            picture=timeline(image.sightings, runs.get(image.workdir, [])),
            moves=sum(old != new for old, new in pairwise(digests)),
            steady=_steady(image),
            spells=tuple(_spells(image, names)),
        )
        shown.append(shown_image)
    return sorted(
        shown, key=lambda shown_image: (_rank(shown_image), shown_image.image.workdir, shown_image.image.reference)
    )


def _steady(image: ImageAudit) -> bool:
    seen = image.sightings
    return (
        image.now == DiskState.VERIFIED
        and (image.replay is None or image.replay.possible)
        and all(sighting.disk == DiskState.VERIFIED and sighting.remote in _AT_REST for sighting in seen)
        and len({sighting.digest for sighting in seen}) == 1
    )


def _rank(shown: ShownImage) -> int:
    """Return where an image stands among others: the worst has the lowest number."""
    image = shown.image
    states = [image.now, *(sighting.disk for sighting in image.sightings)]
    if any(state in BAD for state in states):
        return 0
    if image.replay is not None and not image.replay.possible:
        return 1
    if image.now != DiskState.VERIFIED or any(state != DiskState.VERIFIED for state in states):
        return 2
    return 4 if shown.steady else 3


def _spells(image: ImageAudit, names: RunNames) -> Iterable[RunSpan]:
    def seen(sighting: ImageSighting) -> tuple[str, ...]:
        return (
            sighting.digest,
            sighting.remote,
            sighting.points_at,
            sighting.disk,
            sighting.proof,
            sighting.sha256,
            *(signature.signature for signature in sighting.signatures),
        )

    def name(sighting: ImageSighting) -> str:
        return names.get((image.workdir, sighting.run), sighting.run)

    for _, group in groupby(image.sightings, key=seen):
        alike = list(group)
        yield RunSpan(
            like=alike[0],
            first=name(alike[0]),
            last=name(alike[-1]),
            runs=len(alike),
            jobs=sum(sighting.jobs for sighting in alike),
        )
