"""Replay: checking whether each digest that an output was made with can still be had, here or at its registry.

Three questions of each digest: is it still served, is this platform's manifest in it the one that ran (and served,
too), and is a proven file of it on this disk. Of one that its registry does not give, the mirrors are asked. What
cannot be asked is not known, which is neither yes nor no. An output that nothing can be said of cannot be made again
for certain; nor can one whose image had no digest.

The registries are asked by the function `ask` that the caller gives; this is the only part of an audit that uses the
network.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from snakemake_apptainer_freshness.audit import findings
from snakemake_apptainer_freshness.audit.findings import WorkDirectory
from snakemake_apptainer_freshness.audit.results import (
    AuditFinding,
    FindingKind,
    ImageAudit,
    ImageReplay,
    OutputVerdict,
    Replay,
)
from snakemake_apptainer_freshness.common.text import counted, short
from snakemake_apptainer_freshness.errors import FreshnessError, NotFound
from snakemake_apptainer_freshness.freshness import DiskState, RemoteFact, RemoteState
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.manifest import Index, choose, parse
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.image.reference import parse as parse_reference
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.record.run import ImageRecord

_SERVED = frozenset({RemoteState.CURRENT, RemoteState.MOVED, RemoteState.UNTAGGED})
RunReference = tuple[str, str]
"""A reference, and the digest that it was run with."""


class TagChecker(Protocol):
    """Asks registries about pins and manifests: :class:`.registry.resolver.Resolver`."""

    def check(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, RemoteFact]]:
        """Return what the registry says of each pin, as answers come in."""
        ...

    def manifest(self, reference: Reference, digest: Digest) -> bytes:
        """Return the manifest or index `digest`; it has been hashed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One work directory asked about: its images with their answers, what was found, and why it could not be rerun.

    `asked` says how many digests were looked for, `unreachable` whether a registry could not be asked that mattered.
    """

    images: tuple[ImageAudit, ...]
    findings: list[AuditFinding]
    reasons: tuple[str, ...]
    asked: int
    unreachable: bool = False
    elsewhere: tuple[str, ...] = ()
    """The mirrors without which it could not be."""

    @staticmethod
    def together(replays: "Sequence[Replayed]") -> Replay:
        """Return the answer for all work directories."""
        reasons = list(dict.fromkeys(reason for replay in replays for reason in replay.reasons))
        if reasons:
            return Replay(
                possible=False,
                because="; ".join(reasons),
                unreachable=any(replay.unreachable for replay in replays),
            )
        asked = sum(replay.asked for replay in replays)
        if not asked:
            return Replay(possible=True, because="no output needs an image")
        whose = "its digest is" if asked == 1 else f"each of {asked} digests is"
        elsewhere = list(dict.fromkeys(place for replay in replays for place in replay.elsewhere))
        had = f", or had from {', '.join(elsewhere)}" if elsewhere else ""
        return Replay(possible=True, because=f"{whose} still served for this platform, or proven on this disk{had}")


Asker = Callable[[WorkDirectory], Replayed]


Mirrors = Callable[[Pin], Sequence[str]]
"""Names the places, other than its registry, that have what a pin names."""


def asker(registries: TagChecker, platform: Platform, mirrors: Mirrors = lambda _: ()) -> Asker:
    """Return a function that asks `registries` whether a work directory's outputs could be made again on `platform`.

    `mirrors` are asked for what registries do not give.
    """
    return lambda site: _replay(site, registries, platform, mirrors)


def _replay(site: WorkDirectory, registries: TagChecker, platform: Platform, mirrors: Mirrors) -> Replayed:
    images = _images(site)
    served = _served(registries, images)
    answers = {
        key: _with_mirrors(_answer(site, image, served[key], registries, platform), image, platform, mirrors)
        for key, image in images.items()
    }
    lost = [key for key, answer in answers.items() if not answer.possible]
    return Replayed(
        images=tuple(_with_answer(image, answers) for image in site.images),
        findings=[_finding(site, key, answers[key]) for key in lost if answers[key].served is not None],
        reasons=(*(_reason(key, answers[key]) for key in lost), *_unknown(site)),
        asked=len(answers),
        unreachable=any(answers[key].served is None for key in lost),
        elsewhere=tuple(place for answer in answers.values() if not answer.on_disk for place in answer.elsewhere),
    )


def _images(site: WorkDirectory) -> dict[RunReference, ImageRecord]:
    """Return the newest record of each image that an output in `site` was made with."""
    recorded = {(image.reference, image.digest): image for run in site.runs for image in run.images if image.digest}
    needed = {(output.reference, output.digest) for output in site.outputs if output.digest}
    return {key: recorded[key] for key in sorted(needed) if key in recorded}


def _served(registries: TagChecker, images: Mapping[RunReference, ImageRecord]) -> dict[RunReference, RemoteFact]:
    """Return what registries say of each digest, all asked at once."""
    facts: dict[RunReference, RemoteFact] = {}
    entries: dict[RunReference, Entry] = {}
    for key, image in images.items():
        try:
            reference, digest = parse_reference(image.reference), Digest.parse(image.digest)
            entries[key] = Entry(reference=reference, digest=digest, media_type="")
        except FreshnessError as error:
            facts[key] = RemoteFact(state=RemoteState.UNREACHABLE, detail=error.message)
    for entry, fact in registries.check(entries.values()):
        facts[entry.reference.text, str(entry.digest)] = fact
    return facts


def _answer(
    site: WorkDirectory, image: ImageRecord, fact: RemoteFact, registries: TagChecker, platform: Platform
) -> ImageReplay:
    now = site.conditions.get(image.pinned)
    on_disk = now is not None and now.state == DiskState.VERIFIED
    served = None if fact.state is RemoteState.UNREACHABLE else fact.state in _SERVED
    answer = ImageReplay(digest=image.digest, served=served, same_platform=None, on_disk=on_disk, detail=fact.detail)
    if not served:
        return answer
    try:
        same, detail = _same_platform(image, registries, platform)
    except NotFound:
        return replace(answer, same_platform=False, detail="the manifest for this platform is no longer served")
    except FreshnessError as error:
        return replace(answer, served=None, detail=error.message)
    return replace(answer, same_platform=same, detail=detail or answer.detail)


def _with_mirrors(answer: ImageReplay, image: ImageRecord, platform: Platform, mirrors: Mirrors) -> ImageReplay:
    """Return `answer` with the mirrors that have an image of `platform` which its registry does not give."""
    if answer.served or image.platform not in ("", str(platform)):
        return answer
    try:
        pin = Pin.held_to(
            pinned=parse_reference(image.pinned),
            reference=parse_reference(image.reference),
            digest=Digest.parse(image.digest),
        )
    except FreshnessError:
        return answer
    return replace(answer, elsewhere=tuple(mirrors(pin)))


def _same_platform(image: ImageRecord, registries: TagChecker, platform: Platform) -> tuple[bool, str]:
    """Return whether a pull of the image on `platform` would get the manifest that ran, and what is wrong.

    A digest that names one image and no index of several names the same one everywhere. So does an index on the
    platform that it ran on, also where the record does not have the manifest.
    """
    reference = parse_reference(image.reference)
    elsewhere = (False, f"it ran on {image.platform}") if image.platform not in ("", str(platform)) else None
    if reference.scheme not in (Scheme.DOCKER, Scheme.ORAS):
        return elsewhere or (True, "")
    document = parse(registries.manifest(reference, Digest.parse(image.digest)), None)
    if not isinstance(document, Index):
        return elsewhere or (True, "")
    chosen = choose(document, platform)
    if chosen is None:
        return False, f"it has no image for {platform}"
    registries.manifest(reference, chosen.digest)
    if not image.manifest:
        return elsewhere or (True, "")
    if str(chosen.digest) != image.manifest:
        return False, f"{platform} would get {chosen.digest.short}; {image.platform} ran {short(image.manifest)}"
    return True, ""


def _with_answer(image: ImageAudit, answers: Mapping[RunReference, ImageReplay]) -> ImageAudit:
    """Return `image` with the answer for the digest that it was run with last."""
    last = next(
        (sighting.digest for sighting in reversed(image.sightings) if (image.reference, sighting.digest) in answers),
        None,
    )
    return image if last is None else replace(image, replay=answers[image.reference, last])


def _finding(site: WorkDirectory, key: RunReference, answer: ImageReplay) -> AuditFinding:
    return findings.of(FindingKind.NOT_REPEATABLE, _reason(key, answer), site.workdir, [key[0]])


def _reason(key: RunReference, answer: ImageReplay) -> str:
    reference, digest = key
    image = f"{short(digest)} of {reference}"
    detail = f" ({answer.detail})" if answer.detail else ""
    if answer.served is None:
        return f"{image} could not be asked for, and is not proven on this disk{detail}"
    if not answer.served:
        return f"{image} is no longer served, and is not proven on this disk"
    return f"{image} would not be the image that ran{detail}"


def _unknown(site: WorkDirectory) -> Iterator[str]:
    unnamed = sorted({output.reference for output in site.outputs if output.reference and not output.digest})
    if unnamed:
        yield f"{', '.join(unnamed)} {'names' if len(unnamed) == 1 else 'name'} no digest"
    if unknown := [output for output in site.outputs if output.verdict is OutputVerdict.NO_RECORD]:
        yield f"how {counted(unknown, 'output')} {'was' if len(unknown) == 1 else 'were'} made was not recorded"
