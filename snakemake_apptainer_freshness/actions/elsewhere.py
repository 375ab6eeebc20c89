"""Images from mirrors (:mod:`.mirrors`), which need no trust, since only hashes decide.

Local places are looked at before the registry, which then need not be asked; those on a network only once the registry
has failed. Of what a place has the image is made as of a bundle (:mod:`.actions.rebuild`): each byte is held to what
the lock names. A place that has something else is told of, and the next one tried.

The files that name mirrors are, all together:

* those in the environment variable :data:`VARIABLE`, with ``:`` between several; they have to be there
* ``apptainer-freshness/mirrors.toml`` in ``$XDG_CONFIG_HOME`` (default: ``~/.config``) and in each folder of
  ``$XDG_CONFIG_DIRS`` (default: ``/etc/xdg``)
* ``/etc/apptainer-freshness/mirrors.toml``

None lies in a workflow's folder: a cloned repository does not say where this machine asks.
"""

import os
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from snakemake_apptainer_freshness import mirrors
from snakemake_apptainer_freshness.actions.image_content import BlobSource
from snakemake_apptainer_freshness.actions.rebuild import Workshop, rebuild, recipe, refuse_incomplete
from snakemake_apptainer_freshness.apptainer.program import Apptainer
from snakemake_apptainer_freshness.common.files import NotAFile, opened_target, read_target
from snakemake_apptainer_freshness.errors import (
    FreshnessError,
    InvalidBundle,
    InvalidSettings,
    LocalIOError,
    NotFound,
    UnprovenImage,
)
from snakemake_apptainer_freshness.image import layout
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import Reference, parse
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.mirrors import Mirror, Place, PlaceKind
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store.blob_folder import BlobFolder
from snakemake_apptainer_freshness.store.bundle_tar import Archive
from snakemake_apptainer_freshness.store.named_blobs import NamedBlobs
from snakemake_apptainer_freshness.store.pull import Obtained

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.registry.resolver import Resolver

VARIABLE: Final = "SNAKEMAKE_APPTAINER_FRESHNESS_MIRRORS"
_NAME: Final = Path("apptainer-freshness", "mirrors.toml")
_SYSTEM: Final = Path("/etc") / _NAME


def mirror_files(environment: Mapping[str, str]) -> list[Path]:
    """Return the files that name mirrors, as far as they are there; those that the environment names always."""
    home = environment.get("XDG_CONFIG_HOME") or f"{environment.get('HOME') or Path.home()}/.config"
    folders = [home, *(environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)]
    named = [Path(text) for text in environment.get(VARIABLE, "").split(os.pathsep) if text]
    usual = [*(Path(folder) / _NAME for folder in folders if Path(folder).is_absolute()), _SYSTEM]
    return list(dict.fromkeys([*named, *(path for path in usual if path.exists())]))


def load_mirrors(environment: Mapping[str, str]) -> tuple[Mirror, ...]:
    """Return all mirrors that are named.

    Raises
    ------
    InvalidSettings
        where a file cannot be understood.
    LocalIOError
        where one cannot be read.
    """
    loaded: list[Mirror] = []
    for path in mirror_files(environment):
        try:
            text = read_target(path, DISK.record_size).decode("utf-8")
        except (NotAFile, ValueError) as error:
            raise InvalidSettings(f"cannot use the mirrors in {path}: {error}", hint="mend the file") from None
        except OSError as error:
            raise LocalIOError(
                f"cannot read the mirrors in {path}: {error.strerror or error}",
                hint=f"see {VARIABLE} in docs/mirrors.md",
            ) from None
        loaded += mirrors.loads(text, source=str(path))
    return tuple(loaded)


class Elsewhere:
    """The mirrors of this machine; `environment` is Apptainer's, in which they are named."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """Find the mirrors; raises as :func:`load_mirrors` does."""
        self._environment = os.environ if environment is None else environment
        self._mirrors = load_mirrors(self._environment)
        self._closing = ExitStack()
        self._lock = threading.Lock()
        self._made: Resolver | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def obtain(
        self,
        pin: Pin,
        temporary: Path,
        *,
        local: bool,
        program: Callable[[], Apptainer],
        stop: threading.Event,
        note: Callable[[str], None],
    ) -> Obtained | None:
        """Put the image of `pin` under the name `temporary` from the first place that has it, proven.

        None where no place has it. `local` asks the places that need no network, else the others. `note` is told in one
        line what a place has instead, or why it cannot be used. Raises OSError where the image cannot be written.
        """
        for place, rest in mirrors.places_of(self._mirrors, pin.pinned):
            if place.kind.is_local is not local:
                continue
            try:
                with self._opened(place, rest) as source:
                    made_of = recipe(pin, source)
                    if place.kind.is_local:
                        refuse_incomplete(made_of, source.size_of)
                    workshop = Workshop(
                        source=source,
                        program=program,
                        stop=stop,
                        note=note,
                        refuse=UnprovenImage,
                    )
                    obtained = rebuild(made_of, temporary, workshop)
            except NotFound:
                continue
            except (NotComparable, FreshnessError) as error:
                note(f"not taken from {place}: {error.message if isinstance(error, FreshnessError) else error}")
                temporary.unlink(missing_ok=True)
                continue
            note(f"taken from {place}")
            return obtained
        return None

    def sources(self, reference: Reference, *, local: bool) -> Iterator["PlaceSource"]:
        """Give what the places for `reference` have, one after the other, each open until the next is asked for.

        `local` asks for those that need no network, else for the others. One that cannot be used is left out.
        """
        for place, rest in mirrors.places_of(self._mirrors, reference):
            if place.kind.is_local is local:
                with suppress(NotFound, LocalIOError, InvalidBundle), self._opened(place, rest) as source:
                    yield source

    def having(self, pin: Pin) -> list[str]:
        """Return the places that have what `pin` names, as far as can be told without fetching the image."""
        places = []
        for place, rest in mirrors.places_of(self._mirrors, pin.pinned):
            try:
                with self._opened(place, rest) as source:
                    made_of = recipe(pin, source)
                    if place.kind.is_local:
                        refuse_incomplete(made_of, source.size_of)
                    elif made_of.content is not None:
                        with closing(source.blob(pin.pinned, made_of.content)) as pieces:
                            next(pieces, None)
            except (NotComparable, FreshnessError):
                continue
            places.append(str(place))
        return places

    @contextmanager
    def _opened(self, place: Place, rest: str) -> Iterator["PlaceSource"]:
        """Provide what `place` has; `rest` is what of the image's name is behind the prefix."""
        match place.kind:
            case PlaceKind.FOLDER:
                yield BlobFolder(root=Path(place.address))
            case PlaceKind.BUNDLE:
                with _bundle(Path(place.address)) as bundle:
                    yield bundle
            case PlaceKind.REGISTRY:
                yield _RegistryPlace(registry=self._resolver(), name=f"{place.address}/{rest}".rstrip("/"))
            case PlaceKind.LAYOUT:
                yield _WebPlace(web=self._resolver(), place=place.address)
            case PlaceKind.FILE:
                yield _WebFile(web=self._resolver(), address=place.address)

    def _resolver(self) -> "Resolver":
        from snakemake_apptainer_freshness.registry.resolver import Resolver

        with self._lock:
            if self._made is None:
                self._made = self._closing.enter_context(Resolver(environ=self._environment))
            return self._made


class PlaceSource(BlobSource, Protocol):
    """Where an image comes from, and how long its blobs are, where that can be told without fetching them."""

    def size_of(self, digest: Digest) -> int | None:
        """Return how long the blob `digest` is; None where it is not there, or cannot be told."""


@contextmanager
def _bundle(path: Path) -> Iterator[Archive]:
    with ExitStack() as stack:
        try:
            bundle = Archive(stack.enter_context(opened_target(path)))
        except FileNotFoundError:
            raise NotFound(f"there is no bundle {path}") from None
        except (OSError, NotAFile) as error:
            raise LocalIOError(f"cannot read the bundle {path}: {error}", hint="check its permissions") from None
        yield bundle


class _Remote:
    """A place that cannot say how long a blob is."""

    def size_of(self, _digest: Digest) -> int | None:
        """Return nothing."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _RegistryPlace(_Remote):
    """A repository of a registry."""

    registry: "Resolver"
    name: str

    def manifest(self, reference: Reference, digest: Digest) -> bytes:
        """Return the manifest or index `digest`."""
        return self.registry.manifest(self._here(reference, digest), digest)

    def blob(self, reference: Reference, digest: Digest, start: int = 0) -> Generator[bytes, None, None]:
        """Return the blob `digest` from byte `start` on, in pieces."""
        return self.registry.blob(self._here(reference, digest), digest, start)

    def _here(self, reference: Reference, digest: Digest) -> Reference:
        scheme = Scheme.ORAS if reference.scheme is Scheme.ORAS else Scheme.DOCKER
        return parse(f"{scheme}://{self.name}@{digest}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _WebPlace(NamedBlobs):
    """An OCI image layout on a web server."""

    web: "Resolver"
    place: str

    def blob(self, _reference: Reference, digest: Digest, start: int = 0) -> Generator[bytes, None, None]:
        """Return the blob `digest` from byte `start` on, in pieces."""
        return self.web.download(parse(self.place + layout.blob_name(digest)), start)


@dataclass(frozen=True, slots=True, kw_only=True)
class _WebFile(_Remote):
    """One file on a web server, which is an image that is pinned by its hash, or is not."""

    web: "Resolver"
    address: str

    def manifest(self, reference: Reference, _digest: Digest) -> bytes:
        """Return None: a single file has no manifest."""
        raise NotFound(f"{self.address} is one file, and no place for the layers of {reference.text}")

    def blob(self, _reference: Reference, _digest: Digest, start: int = 0) -> Generator[bytes, None, None]:
        """Return the file from byte `start` on, in pieces, whatever `digest` is asked for."""
        return self.web.download(parse(self.address), start)
