"""Saving a bundle: a lock and all that its images are made of, to be carried to where no registry can be reached.

A bundle proves itself: it has what the digests of the lock lead to (the index, the manifest, its configuration and
layers), so that who loads it builds each image anew, and holds every byte to the lock. Layers come from Apptainer's
cache where they are there and sound, else from the registry; each is hashed on the way. Ready SIFs can be added, which
saves the building; they are compared with the layers where the bundle is loaded (:mod:`.actions.unpack`).

An image whose pin is the hash of its file (``library://``, ``https://``, ``oras://``) is carried as that file. What is
a file of this machine, or made of one, cannot be carried; it is named. The archive is :mod:`.store.bundle_tar`'s.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness import lockfile as lock_format
from snakemake_apptainer_freshness.actions.check import check
from snakemake_apptainer_freshness.actions.image_content import Blobs, BlobSource, image_manifest, sif_layer
from snakemake_apptainer_freshness.actions.lock_io import read_lock
from snakemake_apptainer_freshness.actions.verify import is_fetchable
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder
from snakemake_apptainer_freshness.common.files import NotAFile, opened, sha256_of
from snakemake_apptainer_freshness.common.parallel import in_parallel
from snakemake_apptainer_freshness.errors import LocalIOError, UnprovenImage
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState
from snakemake_apptainer_freshness.image import layout
from snakemake_apptainer_freshness.image.blobs import DamagedBlob, behind, checked
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.layout import Listed
from snakemake_apptainer_freshness.image.manifest import (
    OCI_MANIFEST,
    SIF_LAYER,
    Descriptor,
    Index,
    Manifest,
)
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.lockfile import Entry, Lock
from snakemake_apptainer_freshness.pin import Pin, pins_of
from snakemake_apptainer_freshness.settings import DISK, PARALLEL
from snakemake_apptainer_freshness.store.bundle_layout import ALL, LOCK, Contents, Member
from snakemake_apptainer_freshness.store.prefix import image_name, image_path

Advance = Callable[[int], None]
"""Is told how many more bytes, or images, are done."""
Pieces = Callable[[int], Iterator[bytes]]
"""Gives the bytes of a file from one of them on; those of a whole file are hashed, and good if they come to an end."""
_MOST_DOCUMENTS: Final = 1000
"""Manifests of one image, of all platforms together: the largest official images have some fifty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledImage:
    """An image in a bundle: what it has to be, and how many bytes it is made of."""

    pin: Pin
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A reference whose image cannot be carried, and why."""

    reference: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleContent:
    """What a bundle is made of: `pieces` gives the bytes of each of its files, by name."""

    contents: Contents
    pieces: Mapping[str, Pieces]
    images: tuple[BundledImage, ...]
    left: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSelection:
    """What goes into a bundle: layers of every platform or of this one; ready SIFs of the folder `prefix` or none."""

    prefix: Path
    all_platforms: bool = False
    with_images: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What one image adds to the bundle: files with their content, and entries of the index."""

    pin: Pin
    files: tuple[tuple[Member, Pieces], ...]
    listed: tuple[Listed, ...]


def gather(lock_path: Path, selection: BundleSelection, *, registry: BlobSource, advance: Advance) -> BundleContent:
    """Return what belongs into the bundle of the lock at `lock_path`; `advance` is told each image that was asked for.

    Raises
    ------
    UnprovenImage
        where a SIF that is to be carried is not `verified`, or an image is none that can be carried.
    RegistryError
        where the registry is needed and cannot be asked.
    InvalidLock, LocalIOError
        as :func:`~.actions.lock_io.read_lock` does.
    """
    lock, content = _read_lock(lock_path)
    left = {entry.reference.text: why for entry in lock if (why := _not_carried(Pin.of(entry)))}
    wanted = [entry for entry in lock if entry.reference.text not in left]
    sifs = _proven_sifs(wanted, selection)
    gatherer = _Gatherer(
        registry=registry, cache=CacheFolder.of(), sifs=sifs, all_platforms=selection.all_platforms, advance=advance
    )
    parts = in_parallel(gatherer.part, wanted, name="gather", threads=PARALLEL.askers)
    index = layout.index_document(_each_once(entry for part in parts for entry in part.listed))
    pieces: dict[str, tuple[Member, Pieces]] = {}
    for name, text in ((layout.LAYOUT, layout.VERSION), (LOCK, content), (layout.INDEX, index)):
        pieces[name] = (Member.of(name, text), partial(_of, text))
    for part in parts:
        for member, piece in part.files:
            pieces.setdefault(member.name, (member, piece))
    return BundleContent(
        contents=Contents(
            platform=ALL if selection.all_platforms else str(Platform.here()),
            files=tuple(member for member, _ in pieces.values()),
        ),
        pieces={name: piece for name, (_, piece) in pieces.items()},
        images=tuple(BundledImage(pin=part.pin, size=sum(member.size for member, _ in part.files)) for part in parts),
        left=tuple(LeftOut(reference=reference, why=why) for reference, why in left.items()),
    )


def _of(content: bytes, start: int) -> Iterator[bytes]:
    yield content[start:]


def _each_once(listed: Iterable[Listed]) -> list[Listed]:
    """Return the entries, without those that say the same, and no name twice."""
    by_name: dict[object, Listed] = {}
    for entry in listed:
        by_name.setdefault(entry.name or entry.digest, entry)
    return list(by_name.values())


def _read_lock(path: Path) -> tuple[Lock, bytes]:
    """Return the lock at `path`, and its bytes."""
    lock = read_lock(path)
    try:
        content = path.read_bytes()
        same = lock_format.loads(content.decode(), source=str(path)) == lock
    except (OSError, UnicodeDecodeError):
        same = False
    if not same:
        raise LocalIOError(f"the lock file {path} changed while it was read", hint="try again")
    return lock, content


def _not_carried(pin: Pin) -> str:
    """Return why the image of `pin` cannot be carried; empty where it can."""
    if is_fetchable(pin):
        return ""
    if pin.pinned.scheme is Scheme.FILE:
        return "it is a file of this machine; copy it to the same path there"
    return "each machine builds it from what lies there, and nothing in it names what it is"


def _proven_sifs(entries: Iterable[Entry], selection: BundleSelection) -> Mapping[str, Path]:
    """Return the verified SIF of each reference of which one is to be carried."""
    wanted = [pins_of(entry) for entry in entries]
    facts = check((pin for pins in wanted for pin in pins), selection.prefix)
    sifs: dict[str, Path] = {}
    bad: list[tuple[Pin, DiskFact]] = []
    for pins in wanted:
        proven = [pin for pin in pins if facts[pin.url].state is DiskState.VERIFIED]
        if proven and (selection.with_images or pins[0].pinned.scheme is not Scheme.DOCKER):
            sifs[pins[0].reference.text] = image_path(selection.prefix, proven[0].url)
        elif not proven and (selection.with_images or pins[0].content is not None):
            bad.append((pins[0], facts[pins[0].url]))
    _refuse_unproven(bad)
    return sifs


def _refuse_unproven(bad: list[tuple[Pin, DiskFact]]) -> None:
    if not bad:
        return
    lines = [f"  {pin.reference.text}: {fact.path} is {fact.state}: {fact.detail}" for pin, fact in bad]
    what = "an image is" if len(bad) == 1 else f"{len(bad)} images are"
    absent = all(fact.state is DiskState.ABSENT for _, fact in bad)
    verb = "pull" if absent else "verify --repair"
    raise UnprovenImage(
        "\n".join([f"cannot save a bundle: {what} not proven to be what the lock names:", *lines]),
        hint=f"fetch what is missing first, with: apptainer-freshness {verb}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gatherer:
    """Collects what each image is made of, from several threads at once."""

    registry: BlobSource
    cache: CacheFolder | None
    sifs: Mapping[str, Path]
    all_platforms: bool
    advance: Advance

    def part(self, entry: Entry) -> _Part:
        """Return what the image of `entry` adds to the bundle."""
        pin = Pin.of(entry)
        blobs = Blobs(pin=pin, registry=self.registry, cache=self.cache)
        try:
            part = _named_shortly(_GATHERED[pin.pinned.scheme](self, pin, blobs))
        except NotComparable as reason:
            raise UnprovenImage(
                f"cannot save a bundle: {pin.reference.text}: {reason}",
                hint="look at what the registry serves with: apptainer-freshness inspect",
            ) from None
        self.advance(1)
        return part

    def _image(self, pin: Pin, blobs: Blobs) -> _Part:
        """Return a container image: its documents, configurations and layers.

        And its ready SIF, where one is to be had.
        """
        manifest, content = image_manifest(pin, blobs)
        documents = {pin.digest: blobs.document(pin.digest), manifest: blobs.document(manifest)}
        if self.all_platforms:
            documents |= _all_documents(pin, blobs)
        files = [_document(digest, body) for digest, body in documents.items()]
        for digest in documents:
            files += _blobs_of(blobs.manifest(digest), blobs)
        here = Listed(
            digest=manifest,
            size=len(documents[manifest]),
            media_type=content.media_type,
            name=_name(pin.reference),
            platform=pin.platform,
        )
        listed = [self._whole(pin, blobs, here) if self.all_platforms else here]
        if (sif := self.sifs.get(pin.reference.text)) is not None:
            more, ready = _ready(sif, pin, subject=here)
            files += more
            listed.append(ready)
        return _Part(pin=pin, files=tuple(files), listed=tuple(listed))

    def _whole(self, pin: Pin, blobs: Blobs, here: Listed) -> Listed:
        """Return the entry of the whole index, which is `here` where the pin names no index."""
        document = blobs.manifest(pin.digest)
        if not isinstance(document, Index):
            return here
        size = len(blobs.document(pin.digest))
        return Listed(digest=pin.digest, size=size, media_type=document.media_type, name=here.name)

    def _artifact(self, pin: Pin, blobs: Blobs) -> _Part:
        """Return a SIF in a registry: its manifest, and the file."""
        documents = {pin.digest: blobs.document(pin.digest)}
        manifest, sif = sif_layer(pin, blobs)
        documents[manifest] = blobs.document(manifest)
        files = [_document(digest, body) for digest, body in documents.items()]
        local = self.sifs.get(pin.reference.text)
        if local is not None:
            files.append((Member.blob(sif.digest, sif.size), partial(_sif_content, local, pin, sif)))
        files += _blobs_of(blobs.manifest(manifest), blobs)
        media_type = blobs.manifest(pin.digest).media_type
        size = len(documents[pin.digest])
        listed = Listed(digest=pin.digest, size=size, media_type=media_type, name=_name(pin.reference))
        return _Part(pin=pin, files=tuple(files), listed=(listed,))

    def _file(self, pin: Pin, _blobs: Blobs) -> _Part:
        """Return a SIF that is pinned by its own hash."""
        files, ready = _ready(self.sifs[pin.reference.text], pin, subject=None)
        return _Part(pin=pin, files=tuple(files), listed=(ready,))


_GATHERED: Final[dict[Scheme, Callable[[_Gatherer, Pin, Blobs], _Part]]] = {
    Scheme.DOCKER: _Gatherer._image,  # noqa: SLF001  of this module
    Scheme.ORAS: _Gatherer._artifact,  # noqa: SLF001
    Scheme.LIBRARY: _Gatherer._file,  # noqa: SLF001
    Scheme.HTTP: _Gatherer._file,  # noqa: SLF001
    Scheme.HTTPS: _Gatherer._file,  # noqa: SLF001
}


def _named_shortly(part: _Part) -> _Part:
    """Return `part`, if the names of all its files are short enough for an archive."""
    if any(member.digest.algorithm != "sha256" for member, _ in part.files):
        raise NotComparable("it has a sha512 digest, and the name of such a blob is too long for a tar archive")
    return part


def _all_documents(pin: Pin, blobs: Blobs) -> dict[Digest, bytes]:
    """Return every manifest that the pin's digest leads to, with its bytes."""
    documents: dict[Digest, bytes] = {}
    waiting = [pin.digest]
    while waiting:
        digest = waiting.pop()
        if digest in documents:
            continue
        if len(documents) >= _MOST_DOCUMENTS:
            raise NotComparable(f"its index leads to more than {_MOST_DOCUMENTS} manifests")
        documents[digest] = blobs.document(digest)
        document = blobs.manifest(digest)
        if isinstance(document, Index):
            waiting += [entry.digest for entry in document.entries]
    return documents


def _blobs_of(document: Manifest | Index, blobs: Blobs) -> list[tuple[Member, Pieces]]:
    """Return the configuration and layers of a manifest; none of an index."""
    if isinstance(document, Index) or document.config is None:
        return []
    return [
        (Member.blob(descriptor.digest, descriptor.size), partial(_blob_content, blobs, descriptor))
        for descriptor in (document.config, *document.layers)
    ]


def _document(digest: Digest, body: bytes) -> tuple[Member, Pieces]:
    return Member.blob(digest, len(body)), partial(_of, body)


def _blob_content(blobs: Blobs, descriptor: Descriptor, start: int) -> Iterator[bytes]:
    # What was read of a damaged blob cannot be taken back from a pipe, so it is looked at before.
    blobs.leave_damaged(descriptor.digest)
    yield from blobs.blob(descriptor, start)


def _ready(sif: Path, pin: Pin, *, subject: Listed | None) -> tuple[list[tuple[Member, Pieces]], Listed]:
    """Return the files of the artifact that the ready `sif` becomes, and its entry of the index."""
    try:
        with opened(sif) as file:
            digest = Digest(algorithm="sha256", hex=sha256_of(file))
            size = file.tell()
    except (OSError, NotAFile) as error:
        raise LocalIOError(f"cannot read the image {sif}: {error}", hint="try again") from None
    descriptor = Descriptor(media_type=SIF_LAYER, digest=digest, size=size)
    body = layout.sif_manifest(digest, size, title=image_name(pin.url), subject=subject)
    files = [_document(Digest.of(content), content) for content in (body, layout.EMPTY)]
    files.append((Member.blob(digest, size), partial(_sif_content, sif, pin, descriptor)))
    listed = Listed(digest=Digest.of(body), size=len(body), media_type=OCI_MANIFEST, artifact_type=SIF_LAYER)
    return files, listed


def _sif_content(sif: Path, pin: Pin, descriptor: Descriptor, start: int) -> Iterator[bytes]:
    """Yield the bytes of a SIF that is still the one that was proven."""
    try:
        with opened(sif) as file:
            pieces = iter(lambda: file.read(DISK.chunk), b"")
            yield from behind(checked(pieces, descriptor.digest, descriptor.size), start)
    except (DamagedBlob, NotAFile, FileNotFoundError):
        raise UnprovenImage(
            f"cannot save a bundle: {sif}, the image of {pin.reference.text}, changed while it was read",
            hint="fetch it anew with: apptainer-freshness verify --full --repair",
        ) from None


def _name(reference: Reference) -> str:
    """Return what tools call the image: as podman writes it, host, repository and tag."""
    return f"{reference.name}:{reference.tag}" if reference.tag else f"{reference.name}@{reference.digest}"
