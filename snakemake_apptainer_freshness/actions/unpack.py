"""Loading a bundle: each image is built or proven against the lock; the sender's word counts for nothing.

Who made a bundle made all that it says, so nothing of that is believed: not its table of contents, not its index, not
its lock where there is one here. Each image is made by :mod:`.actions.rebuild` of what the digest in the lock leads to.

Each gets its name once it is proven, under our lock of it, so a loading that was stopped goes on with the next one. An
image that is there and `verified` is kept, any other moved aside. Last the lock file is written, if there is none: then
the bundle's lock is its sender's word for which images the workflow means. Another lock is never replaced.
"""

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from snakemake_apptainer_freshness import lockfile as lock_format
from snakemake_apptainer_freshness.actions.check import check_one
from snakemake_apptainer_freshness.actions.image_content import Blobs
from snakemake_apptainer_freshness.actions.lock_io import read_lock
from snakemake_apptainer_freshness.actions.rebuild import Recipe, Workshop, rebuild, recipe, refuse_incomplete
from snakemake_apptainer_freshness.actions.verify import is_fetchable
from snakemake_apptainer_freshness.apptainer.program import Apptainer
from snakemake_apptainer_freshness.common.files import write_atomically
from snakemake_apptainer_freshness.common.locks import exclusive
from snakemake_apptainer_freshness.common.parallel import made_once, stopping_cleanly
from snakemake_apptainer_freshness.common.progress import ProgressBars
from snakemake_apptainer_freshness.errors import (
    DamagedAnswer,
    FreshnessError,
    InvalidBundle,
    InvalidLock,
    LocalIOError,
    NotFound,
    UsageError,
)
from snakemake_apptainer_freshness.freshness import DiskState
from snakemake_apptainer_freshness.image import layout
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.manifest import Descriptor, Manifest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import PinKind
from snakemake_apptainer_freshness.store import bundle_tar, claims
from snakemake_apptainer_freshness.store.bundle_folder import BundleFolder
from snakemake_apptainer_freshness.store.bundle_layout import ALL, Bundle
from snakemake_apptainer_freshness.store.bundle_tar import Archive
from snakemake_apptainer_freshness.store.prefix import PARTIAL, image_path
from snakemake_apptainer_freshness.store.put import put, temporary_name

_READING = "reading the bundle"
_LOADING = "loading"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """One image of a bundle: it was `kept`, or put there; `quarantined` is where the former one went.

    `how` says in a few words how it was proven.
    """

    pin: Pin
    path: Path
    size: int
    kept: bool
    how: str
    quarantined: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedBundle:
    """What loading a bundle did; `brought_lock` says that there was no lock before, and the bundle's was taken."""

    images: tuple[Loaded, ...]
    brought_lock: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """Loads bundles for the lock at `lock_path` into the image folder `prefix`.

    `kind` is the digest that the workflow pins to; `note` is told what a person should know.
    """

    lock_path: Path
    prefix: Path
    kind: PinKind
    bars: ProgressBars
    note: Callable[[str], None]

    def load(self, source: BinaryIO | Path) -> LoadedBundle:
        """Load the bundle that is read from a file or a pipe, or lies unpacked in a folder.

        Raises
        ------
        InvalidBundle
            where anything in it is not what the lock names; what was proven before is in place.
        UsageError
            where there is another lock; nothing was changed.
        PullFailed, MissingProgram
            where Apptainer is needed, and cannot build an image.
        LocalIOError
            where something cannot be read or written.
        """
        stop = threading.Event()
        with _reading(), stopping_cleanly(stop), self._opened(source) as bundle:
            lock, brought = self._lock(bundle)
            pins = {pin.url: pin for entry in lock if is_fetchable(pin := Pin.of(entry, kind=self.kind))}
            todo = self._recipes(bundle, list(pins.values()))
            self._prepare(lock, sum(recipe.size(bundle.size_of) for recipe in todo.values()))
            workshop = Workshop(
                source=bundle,
                program=made_once(Apptainer.find),
                stop=stop,
                note=self.note,
                refuse=_refused,
            )
            self.bars.begin(_LOADING, sum(recipe.size(bundle.size_of) for recipe in todo.values()))
            images = tuple(self._one(pin, todo.get(pin.url), workshop) for pin in pins.values())
            if brought:
                self._write_lock(lock, bundle.lock)
        return LoadedBundle(images=images, brought_lock=brought)

    @contextlib.contextmanager
    def _opened(self, source: BinaryIO | Path) -> Iterator[Bundle]:
        """Provide the bundle in `source`; what comes through a pipe is put into a file without a name first."""
        if isinstance(source, Path) or source.seekable():
            bundle = BundleFolder(source) if isinstance(source, Path) else Archive(source)
            _refuse_other_platform(bundle.contents.platform)
            yield bundle
            return
        yield from self._spooled(source)

    def _spooled(self, file: BinaryIO) -> Iterator[Archive]:
        contents = bundle_tar.read_contents(file)
        _refuse_other_platform(contents.platform)
        self.prefix.mkdir(parents=True, exist_ok=True)
        self._refuse_without_room(contents.size)
        with tempfile.TemporaryFile(dir=self.prefix, prefix=f"bundle{PARTIAL}") as out:
            self.bars.begin(_READING, contents.size)
            for count in bundle_tar.spool(file, out, contents):
                self.bars.advance(_READING, count)
            self.bars.end(_READING)
            yield Archive(out)

    def _refuse_without_room(self, size: int) -> None:
        free = shutil.disk_usage(self.prefix).free
        if size > free:
            raise LocalIOError(
                f"cannot load the bundle: its images take {size} bytes, and {self.prefix} has room for {free}",
                hint="make room, or choose another folder with --prefix",
            )

    def _lock(self, bundle: Bundle) -> tuple[Lock, bool]:
        """Return what the images are held to, and whether that came with the bundle."""
        theirs, ours = _lock_of(bundle.lock), read_lock(self.lock_path)
        if len(ours) and ours != theirs:
            changes = lock_format.changes(ours, theirs)
            raise UsageError(
                f"the lock file {self.lock_path} is not the bundle's: they differ in {changes[0].reference}"
                + (f" and {len(changes) - 1} more" if len(changes) > 1 else ""),
                hint="move it away, or load into another folder with --lockfile",
            )
        if not self.lock_path.parent.is_dir():
            raise LocalIOError(
                f"cannot write the lock file {self.lock_path}: its folder does not exist",
                hint=f"make the folder {self.lock_path.parent}",
            )
        return (ours, False) if len(ours) else (theirs, True)

    def _recipes(self, bundle: Bundle, pins: list[Pin]) -> dict[str, Recipe]:
        """Return what each image that is not there yet is made of; all of it is in the bundle."""
        missing = [pin for pin in pins if not self._is_there(pin)]
        ready = _ready_sifs(bundle, missing[0]) if missing else {}
        return {pin.url: _recipe(pin, bundle, ready) for pin in missing}

    def _is_there(self, pin: Pin) -> bool:
        return check_one(pin, image_path(self.prefix, pin.url)).state is DiskState.VERIFIED

    def _prepare(self, lock: Lock, size: int) -> None:
        self.prefix.mkdir(parents=True, exist_ok=True)
        self._refuse_without_room(size)
        claims.register(self.prefix, self.lock_path, lock)

    def _one(self, pin: Pin, made_of: Recipe | None, workshop: Workshop) -> Loaded:
        """Put one image in its place, under our lock of it."""
        image = image_path(self.prefix, pin.url)
        if made_of is None:
            return Loaded(pin=pin, path=image, size=image.stat().st_size, kept=True, how="kept")
        self.bars.begin(pin.reference.text)
        with exclusive(image, stop=workshop.stop):
            if self._is_there(pin):  # another run was faster
                return Loaded(pin=pin, path=image, size=image.stat().st_size, kept=True, how="kept")
            with temporary_name(pin, image) as temporary:
                obtained = rebuild(made_of, temporary, workshop)
                aside = put(pin, temporary, image, obtained)
        self.bars.end(pin.reference.text)
        self.bars.advance(_LOADING, obtained.size)
        how = obtained.proven_by.text
        return Loaded(pin=pin, path=image, size=obtained.size, kept=False, how=how, quarantined=aside)

    def _write_lock(self, lock: Lock, content: bytes) -> None:
        with exclusive(self.lock_path):
            there = read_lock(self.lock_path)
            if len(there) and there != lock:
                raise UsageError(f"another lock file was written to {self.lock_path} meanwhile", hint="load it again")
            if not len(there):
                write_atomically(self.lock_path, content)


def _refuse_other_platform(platform: str) -> None:
    if platform not in (ALL, here := str(Platform.here())):
        raise InvalidBundle(
            f"the bundle cannot be used: its images are for {platform}, this machine is {here}",
            hint="save one on a machine like this one, or with --all-platforms",
        )


def _recipe(pin: Pin, bundle: Bundle, ready: Mapping[Digest, Descriptor]) -> Recipe:
    """Return what the image of `pin` is made of, all of which is in the bundle."""
    try:
        made_of = recipe(pin, bundle, ready=ready)
        refuse_incomplete(made_of, bundle.size_of)
    except (NotComparable, NotFound) as error:
        raise _refused(f"{pin.reference.text}: {_reason(error)}") from None
    return made_of


def _ready_sifs(bundle: Bundle, pin: Pin) -> dict[Digest, Descriptor]:
    """Return the ready SIFs in the bundle by the manifest that each claims to be built of; `pin` is any, for errors."""
    blobs = Blobs(pin=pin, registry=bundle, cache=None)
    sifs: dict[Digest, Descriptor] = {}
    try:
        for digest in layout.artifacts(bundle.index):
            document = blobs.manifest(digest)
            if isinstance(document, Manifest) and document.subject is not None and document.sif_layer is not None:
                sifs[document.subject.digest] = document.sif_layer
    except (NotComparable, NotFound, DamagedAnswer) as error:
        raise _refused(f"its index: {_reason(error)}") from None
    return sifs


def _reason(error: NotComparable | FreshnessError) -> str:
    return error.message if isinstance(error, FreshnessError) else str(error)


def _refused(problem: str) -> InvalidBundle:
    return InvalidBundle(f"the bundle cannot be used: {problem}", hint="save it anew; do not use this one")


def _lock_of(content: bytes) -> Lock:
    try:
        return lock_format.loads(content.decode(), source="containers.lock of the bundle")
    except UnicodeDecodeError:
        raise _refused("its lock is not UTF-8 text") from None
    except InvalidLock as error:
        raise _refused(error.message) from None


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LocalIOError(
            f"cannot load the bundle: {error.filename or 'reading it'}: {error.strerror or error}",
            hint="check the file, and that there is room for its images",
        ) from error
