"""Image libraries: folders of SIFs and sandbox folders, under any name, that are only read and need no trust.

What a library has for a digest is found by a catalog of it, which lies in the user's state folder:

* Files and sandboxes by their names and sizes, from listing the folders. A folder that has not changed since is not
  listed again. Symbolic links to images within the library are followed; names that begin with a dot are left out.
* What each says of itself: the digest or the tag that its label says it was pulled by. That takes a look into each
  file, so names that are like the image's come first, and one search looks into :data:`~.settings.LIBRARY` ``heads`` at
  most; the next goes on.

Snakemake puts the path of an image into a shell command without quotes. So an image whose path has characters in which
a shell could read something (:func:`.settings.is_plain_path`) is not there for us.

A catalog decides nothing but where is looked: it may be old, incomplete or wrong. Where an image was found and proven
is remembered by its digest, so that the process of a job need not search.
"""

import contextlib
import json
import os
import stat
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness.apptainer import sandbox, sif
from snakemake_apptainer_freshness.common.tables import Damaged, Table, read_json
from snakemake_apptainer_freshness.errors import CorruptImage, FreshnessError
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import Reference, parse
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import DISK, LIBRARY, is_plain_path
from snakemake_apptainer_freshness.store import facts, sites, state

VERSION: Final = 1
_KEYS: Final = frozenset({"root", "folders"})
_FOLDER_KEYS: Final = frozenset({"changed", "images", "folders"})
_NOTE_KEYS: Final = frozenset({"path"})
_CATALOGS: Final = "catalogs"
_FOUND: Final = "library"
_NANOSECONDS: Final = 1_000_000_000


def folders(more: Iterable[Path] = ()) -> tuple[Path, ...]:
    """Return the libraries of this machine and the environment, and `more` that a workflow names; each once."""
    return tuple(dict.fromkeys([*sites.site().libraries, *more]))


@dataclass(slots=True, kw_only=True)
class LibraryItem:
    """One image of a library: its real path as text, its `size` in bytes (of a sandbox folder none is known: -1).

    `pulled` is the reference, without its scheme, by which it says that it was pulled; None while it was not looked at.
    """

    place: str
    size: int
    pulled: str | None = None

    @property
    def path(self) -> Path:
        """Its real path; made where it is asked for, since a library has tens of thousands."""
        return Path(self.place)

    @property
    def is_sandbox(self) -> bool:
        """Whether it is a sandbox folder."""
        return self.size < 0

    def look(self) -> None:
        """Read what the image says of itself."""
        self.pulled = ""
        with contextlib.suppress(CorruptImage, OSError):
            if self.is_sandbox:
                self.pulled = sandbox.pulled_reference(sandbox.labels(self.path))
                return
            content = sif.read(self.path)
            digest = content.base_digest
            self.pulled = f"{_without_tag(content.pulled_reference)}@{digest}" if digest else content.pulled_reference


def _key_of(reference: str) -> str:
    """Return what two equal references have in common: the digest, or the last component of the name."""
    return reference.rpartition("@")[2] if "@" in reference else reference.rpartition("/")[2].partition(":")[0]


def _without_tag(reference: str) -> str:
    head, slash, last = reference.rpartition("/")
    return head + slash + last.partition("@")[0].partition(":")[0]


@dataclass(slots=True, kw_only=True)
class CatalogIndex:
    """The images of a catalog in the order of paths, and where in that order those of a size or a reference stand."""

    items: list[LibraryItem] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)
    """What the catalog keeps of each."""
    sizes: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    keys: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    unknown: list[int] = field(default_factory=list)
    """Those that were not looked at."""

    def add(self, item: LibraryItem, row: list[Any]) -> None:
        """Add the next image."""
        position = len(self.items)
        self.items.append(item)
        self.rows.append(row)
        self.sizes[item.size].append(position)
        self._note(position)

    def look_into(self, positions: Iterable[int]) -> None:
        """Read what the images at `positions` say of themselves; the catalog has it, too."""
        self.unknown = sorted({*self.unknown} - {*positions})
        for position in positions:
            self.items[position].look()
            self.rows[position][2] = self.items[position].pulled
            self._note(position)

    def _note(self, position: int) -> None:
        pulled = self.items[position].pulled
        if pulled is None:
            self.unknown.append(position)
        elif pulled:
            self.keys[_key_of(pulled)].append(position)


@dataclass(slots=True, kw_only=True)
class Catalog:
    """What lies in the library `root`."""

    root: Path
    _folders: dict[str, dict[str, Any]] = field(default_factory=dict)
    _seen: int = 0
    _changed: bool = False
    _index: CatalogIndex | None = None

    @classmethod
    def of(cls, root: Path) -> "Catalog":
        """Return the catalog of `root`, brought up to date and kept, as far as it can be."""
        catalog = cls(root=Path(os.path.realpath(root)))
        known = catalog._load()
        catalog._walk(catalog.root, 0, known)
        if catalog._changed or known.keys() != catalog._folders.keys():
            catalog.keep()
        return catalog

    @property
    def index(self) -> CatalogIndex:
        """The images whose paths can be used, made once."""
        if self._index is None:
            self._index = CatalogIndex()
            places = set()  # an image may have further names, which are links to it
            for folder, table in sorted(self._folders.items()):
                for name, row in sorted(table["images"].items()):
                    place = row[0] or f"{folder}/{name}"
                    if is_plain_path(place) and place not in places:
                        places.add(place)
                        self._index.add(LibraryItem(place=place, size=row[1], pulled=row[2]), row)
        return self._index

    def keep(self) -> None:
        """Write the catalog, where that can be done."""
        with contextlib.suppress(OSError):
            content = json.dumps({"version": VERSION, "root": str(self.root), "folders": self._folders})
            state.write(self._path(), content.encode())

    def _path(self) -> Path:
        return state.folder() / _CATALOGS / f"{state.key_of(self.root)}.json"

    def _load(self) -> dict[str, dict[str, Any]]:
        content = state.read(self._path(), DISK.index_size)
        with contextlib.suppress(Damaged):
            table = Table.versioned(read_json(content or b""), VERSION, _KEYS)
            if table.text("root") == str(self.root):
                return _folders_of(table)
        return {}

    def _walk(self, folder: Path, depth: int, known: dict[str, dict[str, Any]]) -> None:
        """List `folder` and what lies below it, unless it is as it is `known`."""
        try:
            changed = folder.stat().st_mtime_ns
            before = known.get(str(folder))
            if before is None or before["changed"] != changed:
                # A folder that changed a moment ago may change again and keep its time: it is listed again then.
                settled = changed < time.time_ns() - int(LIBRARY.settle * _NANOSECONDS)
                before = self._listed(folder, before, changed if settled else -1)
                self._changed = True
        except OSError:
            return
        self._folders[str(folder)] = before
        self._seen += len(before["images"]) + len(before["folders"])
        for name in before["folders"]:
            if depth < LIBRARY.depth and self._seen < LIBRARY.entries:
                self._walk(folder / name, depth + 1, known)

    def _listed(self, folder: Path, before: dict[str, Any] | None, changed: int) -> dict[str, Any]:
        images: dict[str, list[Any]] = {}
        inner: list[str] = []
        old = before["images"] if before else {}
        with os.scandir(folder) as entries:
            for entry in entries:
                if self._seen + len(images) + len(inner) >= LIBRARY.entries:
                    break
                if not entry.name.startswith("."):
                    self._list(entry, images, inner, old)
        return {"changed": changed, "images": images, "folders": inner}

    def _list(
        self, entry: "os.DirEntry[str]", images: dict[str, list[Any]], inner: list[str], old: dict[str, Any]
    ) -> None:
        """Note what `entry` is: an image, a folder to look into, or nothing of interest."""
        try:
            status = entry.stat()
        except OSError:
            return
        path = os.path.realpath(entry.path) if entry.is_symlink() else ""
        if path and not Path(path).is_relative_to(self.root):
            return  # a link must not lead out of the library
        is_folder = stat.S_ISDIR(status.st_mode)
        size = -1 if is_folder else status.st_size
        if is_folder and not sandbox.is_sandbox(Path(entry.path)):
            if not path:  # a folder that a link leads to is listed where it lies; links could form a circle
                inner.append(entry.name)
        elif is_folder or (stat.S_ISREG(status.st_mode) and size > LIBRARY.smallest):
            row = old.get(entry.name)
            images[entry.name] = row if row and row[:2] == [path, size] else [path, size, None]


def _folders_of(table: Table) -> dict[str, dict[str, Any]]:
    """Return the folders of the catalog `table`, each of whose values is of its type."""
    readable = {}
    folders = table.values["folders"]
    if type(folders) is not dict:
        table.refuse("folders", "must be a table")
    for folder, value in folders.items():
        row = Table(value, _FOLDER_KEYS, at=table.place("folders"))
        images = row.values["images"]
        if type(images) is not dict or not all(map(_is_image, images.values())):
            row.refuse("images", "must be a table of images")
        readable[folder] = {"changed": row.integer("changed"), "images": images, "folders": row.texts("folders")}
    return readable


def _is_image(row: object) -> bool:
    """Return whether `row` is what a catalog has of an image: where a link leads, its size, and what it says."""
    match row:
        case [str(), int(), str() | None]:
            return True
    return False


def search(pin: Pin, catalogs: Iterable[Catalog]) -> list[LibraryItem]:
    """Return the images of `catalogs` that may be what `pin` names, the likeliest first.

    First those of the size of a SIF that is known to be it, then those that say that they were pulled by its digest,
    then those that say so of its tag.
    """
    proven = {fact.size for fact in facts.about(pin) if not fact.refuted}
    first: list[LibraryItem] = []
    bound: list[LibraryItem] = []
    named: list[LibraryItem] = []
    for catalog in catalogs:
        _look_into(pin, catalog)
        index = catalog.index
        sized = {position for size in proven for position in index.sizes.get(size, ())}
        alike = {position for key in _keys(pin) for position in index.keys.get(key, ())}
        for position in sorted(sized | alike):
            item = index.items[position]
            says = _says(item, pin)
            if position in sized or (item.is_sandbox and proven and says):
                first.append(item)
            elif says is not None:
                (bound if says else named).append(item)
    return first + bound + named


def _keys(pin: Pin) -> set[str]:
    """Return by which keys an index has what says that it was pulled by a digest or the tag of `pin`."""
    digests = {str(digest) for digest in (pin.digest, pin.manifest) if digest is not None}
    return digests | {_key_of(pin.reference.repository)}


def _look_into(pin: Pin, catalog: Catalog) -> None:
    """Look at images that no search has looked at yet, those first whose names are like the image's."""
    index = catalog.index
    if not index.unknown:
        return
    name = pin.reference.name.rpartition("/")[2].lower()
    unknown = sorted(
        index.unknown, key=lambda position: name not in index.items[position].place.rpartition("/")[2].lower()
    )
    index.look_into(unknown[: LIBRARY.heads])
    catalog.keep()


def _says(item: LibraryItem, pin: Pin) -> bool | None:
    """Return True where `item` says that it was pulled by the digest of `pin`, False: by its tag; else None."""
    if not item.pulled or pin.pinned.scheme is not Scheme.DOCKER:
        return None
    try:
        reference: Reference = parse(f"docker://{item.pulled}")
    except FreshnessError:
        return None
    if reference.digest is not None:
        return True if pin.names(reference.digest) else None
    return False if reference == pin.reference else None


def remember(pin: Pin, path: Path) -> None:
    """Note that the image at `path` was proven to be what `pin` names, as far as that can be written."""
    with contextlib.suppress(OSError):
        state.write(_note_of(pin.digest, pin), json.dumps({"version": VERSION, "path": str(path)}).encode())


def remembered(pin: Pin, libraries: Iterable[Path]) -> Path | None:
    """Return where in `libraries` the image of `pin` was found before, whatever lies there now."""
    content = state.read(_note_of(pin.digest, pin), DISK.record_size)
    with contextlib.suppress(Damaged):
        text = Table.versioned(read_json(content or b""), VERSION, _NOTE_KEYS).words("path")
        path = Path(text)
        if is_plain_path(text) and any(path.is_relative_to(os.path.realpath(root)) for root in libraries):
            return path
    return None


def _note_of(digest: Digest, pin: Pin) -> Path:
    platform = str(pin.platform).replace("/", "-")
    return state.folder() / _FOUND / digest.hex[:2] / f"{digest.algorithm}-{digest.hex}.{platform}.json"
