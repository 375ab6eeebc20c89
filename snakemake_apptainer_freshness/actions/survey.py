"""A survey of all image files: those in the image folder, in caches and at given paths, each with its pin.

Where a file lies says how it is attributed:

* What a **lock** names is judged by the lock's own pin, at the place where Snakemake looks for it.
* Any other image in Snakemake's **image folder** is held to what was known of this place, else to what a record beside
  it, or its label, names, but only where its name is the one that this reference has there. A record and a label are
  claims: they say which digest to try, and prove nothing.
* An entry of Apptainer's own **cache** is judged likewise, by the pin of the lock whose key it lies under, by its
  name where that is its hash, or by its label where the key fits that. Apptainer's keys bind nothing, so any other
  entry is merely counted.
* A file that was **given** is judged by the lock where its name, its place or its label leads there; else by what
  is known of it or its label alone, and then for the machine that it was built for.

A survey changes no image. It may keep in the state folder what makes the next look cheap (:mod:`.actions.check`).
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from snakemake_apptainer_freshness.actions.check import check_one, look
from snakemake_apptainer_freshness.actions.library_images import is_folder, judge, known_images
from snakemake_apptainer_freshness.apptainer import sandbox, sif
from snakemake_apptainer_freshness.apptainer.cache import CacheFolder, keys, named_hash
from snakemake_apptainer_freshness.apptainer.sif import Sif
from snakemake_apptainer_freshness.common.files import NotAFile, opened
from snakemake_apptainer_freshness.errors import CorruptImage, FreshnessError
from snakemake_apptainer_freshness.freshness import Decision, DiskFact, DiskState, Evidence, decide
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference, parse
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.pin import Pin, pins_of
from snakemake_apptainer_freshness.settings import Mode, Options
from snakemake_apptainer_freshness.store import places, records
from snakemake_apptainer_freshness.store import prefix as image_folder
from snakemake_apptainer_freshness.store.records import DamagedRecord

_WORST_FIRST: Final = (
    DiskState.CORRUPT,
    DiskState.ALTERED,
    DiskState.STALE,
    DiskState.UNBOUND,
    DiskState.ABSENT,
    DiskState.BOUND,
    DiskState.VERIFIED,
)
_AS_IT_IS: Final = Options(mode=Mode.FROZEN)
"""An image is held to what a run may do with it as it lies there: what is not proven may not run."""


class ImageLocation(StrEnum):
    """Where an image was looked for, and so why it was looked at."""

    LOCK = "lock"
    """The lock names it."""
    PREFIX = "prefix"
    """It lies in Snakemake's image folder, and the lock does not name it."""
    CACHE = "cache"
    """It lies in Apptainer's own cache."""
    PATH = "path"
    """It was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyedImage:
    """One image: what it is to `pin`, or why it can be attributed to none; `size` in bytes, 0 where it is not there."""

    place: ImageLocation
    fact: DiskFact
    pin: Pin | None = None
    size: int = 0
    differences: tuple[str, ...] = ()
    """The first ones from what the digest names, a line each, where its content was compared."""

    @property
    def decision(self) -> Decision:
        """What a run does with the image as it lies there."""
        return decide(Evidence(disk=self.fact), _AS_IT_IS, is_named=self._is_named)

    @property
    def is_finding(self) -> bool:
        """Whether a person should act.

        Where the user did not name an image, and no lock here does, only damage counts: its owner may accept the rest.
        """
        return self.decision.is_finding

    @property
    def is_ours_to_move(self) -> bool:
        """Whether it is damaged, and lies in a folder of images that programs fill and not people."""
        return not self._is_named and self.is_finding

    @property
    def _is_named(self) -> bool:
        return self.place in (ImageLocation.LOCK, ImageLocation.PATH)


def worst_first(images: Iterable[SurveyedImage]) -> list[SurveyedImage]:
    """Return `images`, those first that a person should look at first."""

    def rank(image: SurveyedImage) -> tuple[int, int, str, str]:
        place = list(ImageLocation).index(image.place)
        reference = image.pin.reference.text if image.pin else "~"
        return _WORST_FIRST.index(image.fact.state), place, reference, image.fact.path

    return sorted(images, key=rank)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A file to look at; `pin` is what it has to be, where that is known before it is opened."""

    place: ImageLocation
    path: Path
    pin: Pin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPins:
    """The pins of a lock, found by what may lead to them."""

    pins: tuple[Pin, ...] = ()
    by_name: Mapping[str, Pin] = field(default_factory=dict)
    """By the name of the image's file in Snakemake's folder."""
    by_key: Mapping[str, Pin] = field(default_factory=dict)
    """By the entry's folder and name in Apptainer's cache."""
    by_path: Mapping[Path, Pin] = field(default_factory=dict)
    """By the place of a file of this machine."""
    by_meaning: Mapping[Reference, Pin] = field(default_factory=dict)
    """By what the workflow says, however it is spelled."""

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Self:
        """Return the pins of `entries`, to the index and to this machine's platform."""
        of_entry = [pins_of(entry) for entry in entries]
        pins = {pin.url: pin for found in of_entry for pin in found}
        local = [pin for pin in pins.values() if pin.pinned.scheme is Scheme.FILE]
        return cls(
            pins=tuple(pins.values()),
            by_name={image_folder.image_name(url): pin for url, pin in pins.items()},
            by_key={key: pin for pin in pins.values() for key in keys(pin)},
            by_path={Path(pin.pinned.path).expanduser().absolute(): pin for pin in local},
            by_meaning={found[0].reference: found[0] for found in of_entry},
        )

    def naming(self, digest: Digest) -> Pin | None:
        """Return the pin that an image which was pulled by `digest` is to be held to."""
        return next((pin for pin in self.pins if pin.names(digest)), None)

    def meaning(self, pulled: str) -> Pin | None:
        """Return the pin of what a label calls `pulled`, a reference without its scheme."""
        try:
            return self.by_meaning.get(parse(f"docker://{pulled}")) if pulled else None
        except FreshnessError:
            return None


def in_lock(entries: Iterable[Entry], prefix: Path) -> Iterator[Candidate]:
    """Yield the image of each entry, whichever digest its rules are pinned to.

    Where neither is there, that of the index.
    """
    for entry in entries:
        pins = pins_of(entry)
        there = [pin for pin in pins if image_folder.place_of(prefix, pin.url).is_file()] or pins[:1]
        for pin in there:
            yield Candidate(place=ImageLocation.LOCK, path=image_folder.place_of(prefix, pin.url), pin=pin)


def in_prefix(prefix: Path, locked: LockedPins) -> Iterator[Candidate]:
    """Yield every image in Snakemake's folder that the lock does not name.

    Raises LocalIOError where it cannot be listed.
    """
    for item in image_folder.survey(prefix):
        if item.kind is image_folder.ItemKind.IMAGE and item.path.name not in locked.by_name:
            yield Candidate(place=ImageLocation.PREFIX, path=item.path)


def in_cache(cache: CacheFolder) -> Iterator[Candidate]:
    """Yield every entry of Apptainer's cache."""
    yield from (Candidate(place=ImageLocation.CACHE, path=path) for path in cache.entries())


def examine(
    candidate: Candidate, locked: LockedPins, *, full: bool = False, libraries: Iterable[Path] = ()
) -> SurveyedImage | None:
    """Return what one image is; None for a sound entry of Apptainer's cache that can be attributed to nothing.

    What the lock names may lie in a library: one of the machine's, or of `libraries`.
    """
    path = candidate.path
    pin = candidate.pin or attribute(candidate, locked)
    if pin is not None:
        fact = judge(pin, path, full=full) if is_folder(path) else check_one(pin, path, full=full)
        if candidate.place is ImageLocation.LOCK and fact.state is not DiskState.VERIFIED:
            fact = known_images([pin], libraries).get(pin.url, fact)
        if candidate.pin is not None and not pin.reference.scheme.is_provable and fact.state is DiskState.UNBOUND:
            fact = DiskFact(state=fact.state, path=fact.path, detail="what is built of such a source does not name it")
    else:
        fact = unattributed(path)
        if candidate.place is ImageLocation.CACHE and fact.state is not DiskState.CORRUPT:
            return None
    return SurveyedImage(place=candidate.place, fact=fact, pin=pin, size=size_of(Path(fact.path)))


def size_of(path: Path) -> int:
    """Return the bytes of the file at `path`, which is not followed; 0 where it is not there."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def unattributed(path: Path) -> DiskFact:
    """Return what can be said of a file that belongs to no pin."""
    evidence = look(path)
    if sandbox.is_sandbox(path) and is_folder(path):
        return DiskFact(state=DiskState.UNBOUND, path=str(path), detail="a sandbox folder that no digest is known of")
    state, detail = DiskState.CORRUPT, evidence.problem
    if not evidence.exists:
        state, detail = DiskState.ABSENT, "no such file"
    elif evidence.stat is not None:
        content, detail = _contents(path)
        if content is not None:
            state, detail = DiskState.UNBOUND, _origin(content)
    return DiskFact(state=state, path=str(path), detail=" ".join(detail.split()))


def _origin(content: Sif) -> str:
    if content.pulled_digest is not None:
        return f"its name is not that of what its label says, {content.pulled_reference}"
    if content.pulled_reference:
        return f"it was pulled by a tag, {content.pulled_reference}"
    return "it was not pulled from a registry, or does not say so"


def _contents(path: Path) -> tuple[Sif | None, str]:
    """Return what the file says of itself, or why it says nothing."""
    try:
        with opened(path) as file:
            return sif.read(file), ""
    except CorruptImage as error:
        return None, error.message
    except NotAFile as error:
        return None, f"not a file but {error}"
    except OSError as error:
        return None, f"it cannot be read: {error.strerror}"


def attribute(candidate: Candidate, locked: LockedPins) -> Pin | None:
    """Return the pin that a file belongs to; None where nothing leads to one."""
    path = candidate.path
    match candidate.place:
        case ImageLocation.CACHE:
            return _attribute_entry(path, locked)
        case ImageLocation.PREFIX:
            return _as_noted(path, path.name) or _of_label(path, name=path.name)
        case _:
            return _attribute_given(path, locked)


def _attribute_given(path: Path, locked: LockedPins) -> Pin | None:
    named = locked.by_name.get(path.name) or locked.by_path.get(path.absolute())
    if named is not None:
        return named
    if is_folder(path):
        return _attribute_sandbox(path, locked)
    content, _ = _contents(path)
    digest = (content.pulled_digest or content.base_digest) if content else None
    if digest is not None and (naming := locked.naming(digest)):
        return naming
    if recorded := _as_noted(path):
        return recorded
    if content is not None and (meant := locked.meaning(content.pulled_reference)):
        return meant
    return _of_label(path)


def _attribute_sandbox(path: Path, locked: LockedPins) -> Pin | None:
    """Return the pin of a sandbox folder: by what is known of its place, or by its label, for this machine."""
    with contextlib.suppress(FreshnessError):
        place = places.load(path)
        if place is not None and (fact := place.content) is not None:
            return fact.pin()
        pulled = sandbox.pulled_reference(sandbox.labels(path))
        reference = parse(f"docker://{pulled}") if pulled else None
        if reference is None or reference.digest is None:
            return locked.meaning(pulled)
        pin = Pin.held_to(pinned=reference, reference=reference, digest=reference.digest)
        return locked.naming(reference.digest) or pin
    return None


def _attribute_entry(path: Path, locked: LockedPins) -> Pin | None:
    key = f"{path.parent.name}/{path.name}"
    if known := locked.by_key.get(key):
        return known
    if recorded := _as_noted(path):
        return recorded
    if name := named_hash(path):
        digest = Digest(algorithm="sha256", hex=name)
        entry = parse(key)
        return Pin(reference=entry, pinned=entry, digest=digest, platform=_platform(path), content=digest)
    labelled = _of_label(path)
    return labelled if labelled is not None and key in keys(labelled) else None


def _as_noted(path: Path, name: str = "") -> Pin | None:
    """Return the pin to hold a file to by what is known of its place, or by what a record beside it claims.

    None where there is neither, or where it is of another image, if that has to have a `name`.
    """
    with contextlib.suppress(FreshnessError, DamagedRecord):
        noted = look(path).fact or records.load(path)
        if noted is not None and (not name or image_folder.image_name(noted.pinned) == name):
            return noted.pin()
    return None


def _of_label(path: Path, *, name: str = "") -> Pin | None:
    """Return what the label says that the image is, for its own machine; None where that does not fit its `name`."""
    content, _ = _contents(path)
    digest = (content.pulled_digest or content.base_digest) if content else None
    if content is None or digest is None:
        return None
    pulled = f"docker://{content.pulled_reference}"
    try:
        reference = parse(pulled)
        pinned = reference.pinned(digest)
    except FreshnessError:
        return None
    if name and image_folder.image_name(pulled) != name:
        return None
    return Pin(
        reference=reference,
        pinned=pinned,
        digest=digest,
        platform=Platform(os="linux", architecture=content.architecture),
    )


def _platform(path: Path) -> Platform:
    content, _ = _contents(path)
    return Platform(os="linux", architecture=content.architecture if content else "")
