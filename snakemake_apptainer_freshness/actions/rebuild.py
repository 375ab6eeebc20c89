"""One image out of a bundle: built of what its digest leads to, or proven against it. Whoever sent it is not trusted.

From the digest follow the manifest, its configuration and its layers, each hashed; of these Apptainer builds the image
here, past its cache and any network: what it gets is what it would have pulled by that digest. A ready SIF in the
bundle saves that, if it is what the layers amount to (:mod:`.actions.prove`). One that is something else is refused,
one that cannot be compared here is not used. An image whose pin is the hash of its file is held to that.
"""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.actions.image_content import Blobs, image_manifest, sif_layer
from snakemake_apptainer_freshness.actions.prove import prove
from snakemake_apptainer_freshness.apptainer import sif
from snakemake_apptainer_freshness.apptainer.program import Apptainer, scratch
from snakemake_apptainer_freshness.common.files import opened, sha256_of
from snakemake_apptainer_freshness.errors import CorruptImage, DamagedAnswer, InvalidBundle, NotFound
from snakemake_apptainer_freshness.freshness import DiskState
from snakemake_apptainer_freshness.image import layout
from snakemake_apptainer_freshness.image.blobs import checked
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.layout import Listed
from snakemake_apptainer_freshness.image.manifest import SIF_LAYER, Descriptor, Manifest
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.store import facts
from snakemake_apptainer_freshness.store.archive import Archive
from snakemake_apptainer_freshness.store.classify import wrong_architecture
from snakemake_apptainer_freshness.store.facts import ProvenBy
from snakemake_apptainer_freshness.store.pull import Obtained

_MODE: Final = 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the image of `pin` is made of.

    `parts` are its manifest, configuration and layers, in that order; `sif` is a ready one. Without `parts` the SIF
    itself is what the pin names.
    """

    pin: Pin
    parts: tuple[Descriptor, ...] = ()
    sif: Descriptor | None = None

    @property
    def size(self) -> int:
        """About how large the image will be, in bytes: layers are compressed as a SIF is."""
        return self.sif.size if self.sif is not None else sum(part.size for part in self.parts)


def recipe(pin: Pin, bundle: Archive, ready: Mapping[Digest, Descriptor]) -> Recipe:
    """Return what the image of `pin` is made of; `ready` are the SIFs of the bundle by the manifest they claim.

    Raises
    ------
    InvalidBundle
        where the bundle lacks any of it, or has something else in its place.
    """
    try:
        made = _recipe(pin, bundle, ready)
    except (NotComparable, NotFound, DamagedAnswer) as error:
        raise refused(f"{pin.reference.text}: {error if isinstance(error, NotComparable) else error.message}") from None
    for part in (*made.parts, *([made.sif] if made.sif is not None else [])):
        size = bundle.size_of(part.digest)
        if size is None:
            raise refused(f"it lacks {part.digest}, which {pin.reference.text} is made of")
        if size != part.size:
            raise refused(f"{part.digest} has {size} bytes in it, and {part.size} in {pin.reference.text}")
    return made


def _recipe(pin: Pin, bundle: Archive, ready: Mapping[Digest, Descriptor]) -> Recipe:
    blobs = Blobs(pin=pin, registry=bundle, cache=None)
    if pin.pinned.scheme is Scheme.ORAS:
        return Recipe(pin=pin, sif=sif_layer(pin, blobs)[1])
    if pin.content is not None:
        size = bundle.size_of(pin.content) or 0
        return Recipe(pin=pin, sif=Descriptor(media_type=SIF_LAYER, digest=pin.content, size=size))
    digest, content = image_manifest(pin, blobs)
    if content.config is None:
        raise NotComparable(f"{digest.short} is not the manifest of an image")
    described = Descriptor(media_type=content.media_type, digest=digest, size=bundle.size_of(digest) or 0)
    return Recipe(pin=pin, parts=(described, content.config, *content.layers), sif=ready.get(digest))


def ready_sifs(bundle: Archive, pin: Pin) -> dict[Digest, Descriptor]:
    """Return the ready SIFs in the bundle by the manifest that each claims to be built of; `pin` is any, for errors.

    Raises
    ------
    InvalidBundle
        where its index, or what that names, is damaged.
    """
    blobs = Blobs(pin=pin, registry=bundle, cache=None)
    found: dict[Digest, Descriptor] = {}
    try:
        for digest in layout.artifacts(bundle.index):
            document = blobs.manifest(digest)
            if isinstance(document, Manifest) and document.subject is not None and document.sif_layer is not None:
                found[document.subject.digest] = document.sif_layer
    except (NotComparable, NotFound, DamagedAnswer) as error:
        raise refused(f"its index: {error if isinstance(error, NotComparable) else error.message}") from None
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Where images are made: the bundle, the program, what stops it; `note` is told what a person should know."""

    bundle: Archive
    program: Callable[[], Apptainer]
    stop: threading.Event
    note: Callable[[str], None]


def rebuild(made_of: Recipe, temporary: Path, workshop: Workshop) -> Obtained:
    """Put the image under the name `temporary`, which must not be there, and prove it.

    Raises
    ------
    InvalidBundle
        where what the bundle has is not what the pin names.
    PullFailed, MissingProgram
        where Apptainer cannot build it.
    OSError
        where it cannot be written.
    """
    pin = made_of.pin
    if made_of.sif is not None:
        _copy(pin, made_of.sif, temporary, workshop.bundle)
        builder, size = _examine(pin, temporary)
        if not made_of.parts:
            return _obtained(made_of.sif.digest.hex, size, builder, ProvenBy.NAMED)
        if proven := _proven(pin, temporary, workshop):
            return _obtained(proven, size, builder, ProvenBy.COMPARED)
        temporary.unlink()
    _build(made_of, temporary, workshop)
    builder, size = _examine(pin, temporary)
    with opened(temporary) as file:
        return _obtained(sha256_of(file), size, builder, ProvenBy.BUILT)


def _obtained(sha256: str, size: int, builder: str, how: ProvenBy) -> Obtained:
    return Obtained(sha256=sha256, size=size, apptainer=builder, proven_by=how, proven_at=facts.now())


def _copy(pin: Pin, described: Descriptor, target: Path, bundle: Archive) -> None:
    """Copy a blob to the new file `target`, and hash it on the way."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    with open(descriptor, "wb") as out:  # noqa: PTH123  a descriptor, not a path
        try:
            out.writelines(checked(bundle.blob(pin.pinned, described.digest), described.digest, described.size))
        except NotComparable as error:
            raise refused(f"{pin.reference.text}: {error}") from None


def _examine(pin: Pin, temporary: Path) -> tuple[str, int]:
    """See that it is a sound SIF for this machine; the program that built it, and its size."""
    try:
        image = sif.read(temporary)
    except CorruptImage as error:
        raise refused(f"the image of {pin.reference.text} is {error.message}") from None
    if problem := wrong_architecture(image, pin):
        raise refused(f"the image of {pin.reference.text}: {problem}")
    return image.builder, temporary.stat().st_size


def _proven(pin: Pin, temporary: Path, workshop: Workshop) -> str:
    """The SHA-256 of a ready SIF that is what the layers amount to; empty where that cannot be said."""
    environment = workshop.program().environment
    proof = prove(pin, temporary, registry=workshop.bundle, environment=environment, remember=False)
    if proof.state is DiskState.VERIFIED:
        return proof.sha256
    if proof.state is not DiskState.UNBOUND:
        raise refused(f"its ready image of {pin.reference.text} is {proof.state}: {proof.detail}")
    workshop.note(f"{pin.reference.text}: built anew, since its ready image cannot be proven: {proof.detail}")
    return ""


def _build(made_of: Recipe, temporary: Path, workshop: Workshop) -> None:
    program, manifest = workshop.program(), made_of.parts[0]
    with scratch(program.environment) as folder:
        unpacked = folder / "layout"
        for part in {one.digest: one for one in made_of.parts}.values():
            target = unpacked / layout.blob_name(part.digest)
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(made_of.pin, part, target, workshop.bundle)
            if workshop.stop.is_set():
                raise InterruptedError("stopped while an image was unpacked")
        alone = Listed(digest=manifest.digest, size=manifest.size, media_type=manifest.media_type)
        (unpacked / layout.INDEX).write_bytes(layout.index_document([alone]))
        (unpacked / layout.LAYOUT).write_bytes(layout.VERSION)
        program.build(unpacked, temporary, stop=workshop.stop)


def refused(problem: str) -> InvalidBundle:
    """Return the error that says why a bundle is not used."""
    return InvalidBundle(f"the bundle cannot be used: {problem}", hint="save it anew; do not use this one")
