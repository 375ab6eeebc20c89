"""Inspecting: all that one image file says of itself, what is recorded of it, and what follows from that.

The file is judged as a survey judges a file that was given (:mod:`.actions.survey`). What follows is said twice: what
is proven, and what is not. A label is a claim, however good; only a hash proves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.actions.check import look
from snakemake_apptainer_freshness.actions.survey import Candidate, ImageLocation, LockedPins, SurveyedImage, examine
from snakemake_apptainer_freshness.apptainer import sif
from snakemake_apptainer_freshness.apptainer.sif import Sif
from snakemake_apptainer_freshness.common.files import NotAFile, opened, sha256_of
from snakemake_apptainer_freshness.errors import CorruptImage
from snakemake_apptainer_freshness.freshness import DiskState
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store.facts import ContentFact

_SHOWN: Final = (
    "org.opencontainers.image.title",
    "org.opencontainers.image.version",
    "org.opencontainers.image.revision",
    "org.opencontainers.image.source",
    "org.opencontainers.image.url",
    "org.opencontainers.image.created",
    "org.opencontainers.image.licenses",
    "org.opencontainers.image.base.name",
    "org.opencontainers.image.base.digest",
    "org.label-schema.build-date",
    "org.label-schema.version",
    "maintainer",
    "software",
    "about.summary",
    "about.home",
    "about.license",
)
"""Labels that tell a person what an image is; the others are Apptainer's own, or for machines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What is known of one file; `content` is None where it is not a sound SIF.

    `locked` is the pin of the lock that the file belongs to, if one is its. `proven` and `unproven` are sentences.
    `sha256` is the file's own, in hex: others can compare theirs with it. It is empty where it could not be read.
    """

    image: SurveyedImage
    content: Sif | None
    record: ContentFact | None
    sha256: str
    locked: Pin | None
    proven: tuple[str, ...]
    unproven: tuple[str, ...]

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels that tell a person what the image is."""
        labels = self.content.labels if self.content else {}
        return {key: labels[key] for key in _SHOWN if labels.get(key)}

    @property
    def signed(self) -> bool:
        """Whether there is a signature in it; it is not checked here."""
        return self.content is not None and any(
            descriptor.type == sif.SIGNATURE for descriptor in self.content.descriptors
        )


def inspect(path: Path, locked: LockedPins) -> Inspection:
    """Return all that is known of the file at `path`."""
    image = examine(Candidate(place=ImageLocation.PATH, path=path), locked)
    assert image is not None  # noqa: S101  only an entry of Apptainer's cache can be left out
    record = look(path).fact
    content = _read(path)
    proven, unproven = _conclude(image, content, record)
    return Inspection(
        image=image,
        content=content,
        record=record,
        sha256=_sha256(path, image, record),
        locked=image.pin if image.pin in locked.pins else None,
        proven=tuple(proven),
        unproven=tuple(unproven),
    )


def _sha256(path: Path, image: SurveyedImage, record: ContentFact | None) -> str:
    """Return the SHA-256 of the file; it is not read where it is known to be what it was when it was hashed."""
    if record is not None and image.fact.state is DiskState.VERIFIED:
        return record.sha256
    try:
        with opened(path) as file:
            return sha256_of(file)
    except (NotAFile, OSError):
        return ""


def _read(path: Path) -> Sif | None:
    try:
        with opened(path) as file:
            return sif.read(file)
    except (CorruptImage, NotAFile, OSError):
        return None


def _conclude(image: SurveyedImage, content: Sif | None, record: ContentFact | None) -> tuple[list[str], list[str]]:
    if content is None:
        return [f"It is not a sound image: {image.fact.detail}."], ["Anything else: what it says cannot be believed."]
    proven, unproven = ["It is a sound SIF: all its parts lie within the file."], []
    match image.fact.state:
        case DiskState.VERIFIED if image.pin is not None and image.pin.content is not None:
            proven.append("It is what its reference names: its SHA-256 is the digest itself.")
        case DiskState.VERIFIED if record is not None:
            proven.append(f"Its bytes have not changed since they were recorded on {record.proven_at}.")
            proven.append(f"They are what {record.digest} names: {record.proven_by.text} with {record.apptainer}.")
        case DiskState.BOUND:
            unproven.append(
                "That its content is what the digest names. Its label says so, which no image can bring with it, but "
                "a user who may write the file may write the label."
            )
        case DiskState.STALE:
            proven.append(f"It is another image than {image.pin.url if image.pin else 'its pin'}: {image.fact.detail}.")
        case DiskState.ALTERED:
            proven.append(f"It has changed: {image.fact.detail}.")
            unproven.append("What it is now.")
        case _:
            unproven.append(f"Which digest it is: {image.fact.detail}.")
    if image.fact.state not in (DiskState.VERIFIED, DiskState.ALTERED):
        unproven.append("That it has not changed since it was built: its SHA-256 was not recorded.")
    if content.is_reproducible:
        unproven.append(
            "That others get the same file. It says that it was written so: then the same version of Apptainer makes "
            "of the same digest a file of the same SHA-256 elsewhere, which can be compared."
        )
    if any(descriptor.type == sif.SIGNATURE for descriptor in content.descriptors):
        unproven.append("Who signed it: signatures are not looked at here (apptainer verify does that).")
    return proven, unproven


def what_next(image: SurveyedImage) -> str:
    """Return what a person can do about the image; empty where there is nothing to do."""
    if image.fact.state is DiskState.VERIFIED:
        return ""
    if image.fact.state is DiskState.BOUND:
        return "a run proves it first, or fetches it anew; to have it proven now: apptainer-freshness verify --deep"
    if image.pin is not None and image.place in (ImageLocation.PATH, ImageLocation.LOCK) and "@" in image.pin.url:
        return f"fetch a proven one by its digest: {image.pin.url}"
    return "fetch it anew by a digest, which the lock or the registry can tell: apptainer-freshness resolve REFERENCE"
