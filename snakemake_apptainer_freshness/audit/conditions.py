"""The images of a work directory: what their files are now, and what they were in each run.

Of an image that several runs used, the file that the last of them ran is looked at; as everywhere, one that was not
touched since it was hashed costs a ``stat``. Where nothing is known of the file that says what it was hashed to, the
run's record does. Nothing is written.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.actions.check import check_one, look
from snakemake_apptainer_freshness.actions.library_images import is_folder, judge
from snakemake_apptainer_freshness.audit.disk import is_there, place
from snakemake_apptainer_freshness.audit.results import ImageAudit, ImageSighting, OutputAudit
from snakemake_apptainer_freshness.audit.verdicts import ImageCondition
from snakemake_apptainer_freshness.common.files import NotAFile, opened, sha256_of
from snakemake_apptainer_freshness.common.parallel import in_parallel
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.freshness import DiskState
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.record.run import ImageRecord, Run
from snakemake_apptainer_freshness.store import facts, places

_UNRECORDED: Final = frozenset({DiskState.BOUND, DiskState.UNBOUND})


def conditions(workdir: Path, runs: Sequence[Run]) -> dict[str, ImageCondition]:
    """Return what the file of each image is now, by the url that ran."""
    last = {image.pinned: (run.workdir, image) for run in runs for image in run.images if image.path}

    def condition(recorded: tuple[str, ImageRecord]) -> ImageCondition:
        recorded_in, image = recorded
        return _condition(image, place(image.path, recorded_in=recorded_in, workdir=workdir))

    return dict(zip(last, in_parallel(condition, last.values(), name="conditions"), strict=True))


def _condition(image: ImageRecord, path: Path) -> ImageCondition:
    now = ImageCondition(state="", detail="", path=str(path), ran=image.sha256)
    if not image.digest:
        return _unpinned(path, now)
    try:
        pin = Pin.held_to(
            pinned=parse(image.pinned), reference=parse(image.reference), digest=Digest.parse(image.digest)
        )
        if image.platform:
            pin = replace(pin, platform=Platform.parse(image.platform), manifest=_manifest(image))
        fact = judge(pin, path, remember=False) if _is_our_sandbox(path) else check_one(pin, path, remember=False)
    except FreshnessError as error:
        return replace(now, detail=f"its record is wrong: {error.message}")
    now = replace(now, state=fact.state.value, detail=fact.detail)
    if fact.state is DiskState.VERIFIED:
        known = places.load(path) if _is_our_sandbox(path) else look(path).fact
        return replace(now, sha256=known.sha256 if known else image.sha256)
    return _by_record(image, path, now) if fact.state in _UNRECORDED else now


def _is_our_sandbox(path: Path) -> bool:
    """Return whether a sandbox folder that this user has proven is at `path`: no record has another one walked."""
    return is_folder(path) and places.load(path) is not None


def proven(runs: Sequence[Run]) -> frozenset[tuple[str, str]]:
    """Return by run and image (its url) those whose file, as the record names it by its SHA-256, this user has proven.

    The file may be gone: what was proven of a SHA-256 is true for ever.
    """
    known: dict[ImageRecord, bool] = {}
    for run in runs:
        for image in run.images:
            if image not in known:
                known[image] = _is_proven(image)
    return frozenset((run.id, image.pinned) for run in runs for image in run.images if known[image])


def _is_proven(image: ImageRecord) -> bool:
    if not (image.digest and image.sha256):
        return False
    try:
        digest, pinned = Digest.parse(image.digest), parse(image.pinned)
        if pinned.scheme.is_content and digest.hex == image.sha256:
            return True  # its url names its very hash
        platform = Platform.parse(image.platform) if image.platform else Platform.here()
        fact = facts.find(digest, platform, image.sha256)
    except FreshnessError:
        return False
    return fact is not None and not fact.refuted


def _manifest(image: ImageRecord) -> Digest | None:
    return Digest.parse(image.manifest) if image.manifest else None


def _unpinned(path: Path, now: ImageCondition) -> ImageCondition:
    """Return an image without a digest: nothing says what it should be."""
    if not is_there(path):
        return replace(now, state=DiskState.ABSENT.value, detail="no such file")
    return replace(now, state=DiskState.UNBOUND.value, detail="it names no digest")


def _by_record(image: ImageRecord, path: Path, now: ImageCondition) -> ImageCondition:
    """Return what the SHA-256 in a run's record says of a file of which nothing is known."""
    if not image.sha256:
        return now
    try:
        with opened(path) as file:
            same = os.fstat(file.fileno()).st_size == image.size and sha256_of(file) == image.sha256
    except (OSError, NotAFile) as error:
        return replace(now, detail=f"{now.detail}; it could not be hashed: {error}")
    if same:
        return replace(now, detail=f"{now.detail}; it is the file that ran", sha256=image.sha256)
    return replace(now, state=DiskState.ALTERED.value, detail="its SHA-256 is not the one that the run recorded")


def histories(
    workdir: str, runs: Sequence[Run], outputs: Iterable[OutputAudit], now: Mapping[str, ImageCondition]
) -> tuple[ImageAudit, ...]:
    """Return each reference across `runs`, sorted; `outputs` are those that were made with it."""
    made: Counter[str] = Counter()
    rules: defaultdict[str, set[str]] = defaultdict(set)
    for output in outputs:
        if output.reference:
            made[output.reference] += 1
            rules[output.reference].add(output.rule)
    seen: defaultdict[str, list[tuple[ImageSighting, str]]] = defaultdict(list)
    for run in runs:
        jobs = Counter(job.image for job in run.jobs if job.image)
        for job in run.jobs:
            if job.reference and job.image:
                rules[job.reference].add(job.rule)
        for image in {image.reference: image for image in run.images}.values():
            seen[image.reference].append((_sighting(run, image, jobs[image.pinned]), image.pinned))
    return tuple(
        ImageAudit(
            workdir=workdir,
            reference=reference,
            sightings=tuple(sighting for sighting, _ in seen[reference]),
            rules=tuple(sorted(rules[reference])),
            outputs=made[reference],
            now=now[last].state if (last := seen[reference][-1][1]) in now else "",
            now_detail=now[last].detail if last in now else "",
        )
        for reference in sorted(seen)
    )


def _sighting(run: Run, image: ImageRecord, jobs: int) -> ImageSighting:
    return ImageSighting(
        run=run.id,
        at=run.started,
        digest=image.digest,
        remote=image.remote,
        points_at=image.points_at,
        disk=image.disk,
        proof=image.proof,
        sha256=image.sha256,
        jobs=jobs,
        signatures=image.signatures,
    )
