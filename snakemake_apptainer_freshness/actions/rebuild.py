"""Building one image from the layers of a bundle or mirror, each hashed; a ready SIF is proven against its digest.

From the digest follow the manifest, its configuration and its layers, each hashed; of these Apptainer builds the image
here, past its cache and any network: what it gets is what it would have pulled by that digest. A ready SIF saves that,
if it is what the layers amount to (:mod:`.actions.prove`). One that is something else is refused, one that cannot be
compared here is not used. An image whose pin is the hash of its file is held to that.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.actions.image_content import Blobs, BlobSource, image_manifest, sif_layer
from snakemake_apptainer_freshness.actions.prove import prove
from snakemake_apptainer_freshness.apptainer import sif
from snakemake_apptainer_freshness.apptainer.program import Apptainer, scratch
from snakemake_apptainer_freshness.common.files import opened, sha256_of
from snakemake_apptainer_freshness.errors import CorruptImage, FreshnessError
from snakemake_apptainer_freshness.freshness import DiskState
from snakemake_apptainer_freshness.image import layout
from snakemake_apptainer_freshness.image.blobs import checked
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.layout import Listed
from snakemake_apptainer_freshness.image.manifest import Descriptor
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import facts
from snakemake_apptainer_freshness.store.classify import wrong_architecture
from snakemake_apptainer_freshness.store.facts import ProvenBy
from snakemake_apptainer_freshness.store.pull import Obtained

_MODE: Final = 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the image of `pin` is made of.

    `parts` are its manifest, configuration and layers, in that order; `sif` is a ready one. Without `parts` the SIF
    itself is what the pin names; `content` is its hash where that alone is known of it.
    """

    pin: Pin
    parts: tuple[Descriptor, ...] = ()
    sif: Descriptor | None = None
    content: Digest | None = None

    def size(self, size_of: Callable[[Digest], int | None]) -> int:
        """Return about how large the image will be, in bytes: layers are compressed as a SIF is.

        `size_of` says how long a blob is, None where that is not known.
        """
        if self.content is not None:
            return size_of(self.content) or 0
        return self.sif.size if self.sif is not None else sum(part.size for part in self.parts)


def recipe(pin: Pin, source: BlobSource, *, ready: Mapping[Digest, Descriptor] | None = None) -> Recipe:
    """Return what the image of `pin` is made of, as `source` has it.

    `ready` are ready SIFs by the manifest that each is said to be built of.

    Raises
    ------
    NotComparable
        where what the source has is not what the pin names, or no image.
    RegistryError
        where the source does not have it.
    """
    blobs = Blobs(pin=pin, registry=source, cache=None)
    if pin.pinned.scheme is Scheme.ORAS:
        return Recipe(pin=pin, sif=sif_layer(pin, blobs)[1])
    if pin.content is not None:
        return Recipe(pin=pin, content=pin.content)
    digest, content = image_manifest(pin, blobs)
    if content.config is None:
        raise NotComparable(f"{digest.short} is not the manifest of an image")
    described = Descriptor(media_type=content.media_type, digest=digest, size=len(blobs.document(digest)))
    parts = (described, content.config, *content.layers)
    return Recipe(pin=pin, parts=parts, sif=(ready or {}).get(digest))


def refuse_incomplete(made_of: Recipe, size_of: Callable[[Digest], int | None]) -> None:
    """Raise an error unless all parts of an image are there; `size_of` gives the length of a blob.

    Raises
    ------
    NotComparable
        where something is missing, or has another size.
    """
    if made_of.content is not None and size_of(made_of.content) is None:
        raise NotComparable(f"it lacks {made_of.content}")
    for part in (*made_of.parts, *([made_of.sif] if made_of.sif is not None else [])):
        size = size_of(part.digest)
        if size is None:
            raise NotComparable(f"it lacks {part.digest}")
        if size != part.size:
            raise NotComparable(f"{part.digest} has {size} bytes in it, and {part.size} in its manifest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What building images needs: their parts, the program, and the event that stops it.

    `note` is told what a person should know. `refuse` makes the error for a source that has something else than it
    should.
    """

    source: BlobSource
    program: Callable[[], Apptainer]
    stop: threading.Event
    note: Callable[[str], None]
    refuse: Callable[[str], FreshnessError]


def rebuild(made_of: Recipe, temporary: Path, workshop: Workshop) -> Obtained:
    """Put the image under the name `temporary`, which must not be there, and prove it.

    Raises
    ------
    FreshnessError
        the workshop's own, where what the source has is not what the pin names.
    RegistryError
        where the source fails.
    PullFailed, MissingProgram
        where Apptainer cannot build it.
    OSError
        where it cannot be written.
    """
    pin = made_of.pin
    if made_of.content is not None:
        _copy(pin, made_of.content, None, temporary, workshop)
        builder, size = _examine(pin, temporary, workshop)
        return _obtained(made_of, made_of.content.hex, size, builder, ProvenBy.NAMED)
    if made_of.sif is not None:
        _copy(pin, made_of.sif.digest, made_of.sif.size, temporary, workshop)
        builder, size = _examine(pin, temporary, workshop)
        if not made_of.parts:
            return _obtained(made_of, made_of.sif.digest.hex, size, builder, ProvenBy.NAMED)
        if proven := _proven(pin, temporary, workshop):
            return _obtained(made_of, proven, size, builder, ProvenBy.COMPARED)
        temporary.unlink()
    _build(made_of, temporary, workshop)
    builder, size = _examine(pin, temporary, workshop)
    with opened(temporary) as file:
        return _obtained(made_of, sha256_of(file), size, builder, ProvenBy.BUILT)


def _obtained(made_of: Recipe, sha256: str, size: int, builder: str, how: ProvenBy) -> Obtained:
    manifest = made_of.parts[0].digest if made_of.parts else None
    return Obtained(
        sha256=sha256, size=size, apptainer=builder, proven_by=how, proven_at=facts.now(), manifest=manifest
    )


def _copy(pin: Pin, digest: Digest, size: int | None, target: Path, workshop: Workshop) -> None:
    """Copy a blob to the new file `target`, and hash it on the way; its `size` need not be known."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    pieces = workshop.source.blob(pin.pinned, digest)
    with open(descriptor, "wb") as out, contextlib.closing(pieces):  # noqa: PTH123  a descriptor, not a path
        try:
            for piece in checked(pieces, digest, size, limit=DISK.bundle_file):
                out.write(piece)
                if workshop.stop.is_set():
                    raise InterruptedError("stopped while an image was copied")
        except NotComparable as error:
            raise workshop.refuse(f"{pin.reference.text}: {error}") from None


def _examine(pin: Pin, temporary: Path, workshop: Workshop) -> tuple[str, int]:
    """Check that it is a sound SIF for this machine; return the program that built it, and its size."""
    try:
        image = sif.read(temporary)
    except CorruptImage as error:
        raise workshop.refuse(f"the image of {pin.reference.text} is {error.message}") from None
    if problem := wrong_architecture(image, pin):
        raise workshop.refuse(f"the image of {pin.reference.text}: {problem}")
    return image.builder, temporary.stat().st_size


def _proven(pin: Pin, temporary: Path, workshop: Workshop) -> str:
    """Return the SHA-256 of a ready SIF that is what the layers amount to; empty where that cannot be said."""
    environment = workshop.program().environment
    proof = prove(pin, temporary, registry=workshop.source, environment=environment, remember=False)
    if proof.state is DiskState.VERIFIED:
        return proof.sha256
    if proof.state is not DiskState.UNBOUND:
        raise workshop.refuse(f"its ready image of {pin.reference.text} is {proof.state}: {proof.detail}")
    workshop.note(f"{pin.reference.text}: built anew, since its ready image cannot be proven: {proof.detail}")
    return ""


def _manifest(pin: Pin, digest: Digest, workshop: Workshop) -> bytes:
    try:
        return Blobs(pin=pin, registry=workshop.source, cache=None).document(digest)
    except NotComparable as error:
        raise workshop.refuse(f"{pin.reference.text}: {error}") from None


def _build(made_of: Recipe, temporary: Path, workshop: Workshop) -> None:
    program, manifest = workshop.program(), made_of.parts[0]
    with scratch(program.environment) as folder:
        unpacked = folder / "layout"
        for part in {blob.digest: blob for blob in made_of.parts}.values():
            target = unpacked / layout.blob_name(part.digest)
            target.parent.mkdir(parents=True, exist_ok=True)
            if part is manifest:  # which a registry does not serve as a blob
                target.write_bytes(_manifest(made_of.pin, part.digest, workshop))
            else:
                _copy(made_of.pin, part.digest, part.size, target, workshop)
        alone = Listed(digest=manifest.digest, size=manifest.size, media_type=manifest.media_type)
        (unpacked / layout.INDEX).write_bytes(layout.index_document([alone]))
        (unpacked / layout.LAYOUT).write_bytes(layout.VERSION)
        program.build(unpacked, temporary, stop=workshop.stop)
