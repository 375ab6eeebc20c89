"""Mirrors: further places to fetch an image from, for when its registry has it no more. Pure.

A mirror needs no trust: whatever comes from one counts if it hashes to what the lock names. So a file that names
mirrors decides only where is looked. It is TOML:

    [[mirror]]
    prefix = "quay.io/biocontainers"
    places = ["/data/mirror", "docker://registry.example.org/quay", "https://example.org/layout/"]

`prefix` is the start of an image's name: host and path, whole components of it; for a web address with its scheme. The
longest that fits comes first. A place is

* a folder: an OCI image layout; or one of SIFs that are called by their SHA-256
* a file: a bundle (:mod:`.store.bundle_tar`)
* ``docker://HOST[/PATH]``: a registry; what of the name is behind the prefix is put behind it
* ``https://…/``, which ends with a slash: an OCI image layout on a web server
* ``https://…``: one file, for an image that is pinned by the hash of that file
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.common.tables import Damaged, Table, read_toml
from snakemake_apptainer_freshness.errors import FreshnessError, InvalidSettings
from snakemake_apptainer_freshness.image.reference import Reference, parse
from snakemake_apptainer_freshness.image.scheme import Scheme

_KEYS: Final = frozenset({"prefix", "places"})
_MOST: Final = 1000


class PlaceKind(Enum):
    """The kind of a place: a folder, a registry or a web server."""

    FOLDER = "folder"
    BUNDLE = "bundle"
    REGISTRY = "registry"
    LAYOUT = "layout"
    """On a web server."""
    FILE = "file"
    """On a web server."""

    @property
    def is_local(self) -> bool:
        """Whether looking there needs no network."""
        return self in (PlaceKind.FOLDER, PlaceKind.BUNDLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One place; `address` is a path, a registry with its path, or a web address."""

    kind: PlaceKind
    address: str

    def __str__(self) -> str:
        return f"docker://{self.address}" if self.kind is PlaceKind.REGISTRY else self.address


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """The places for all images whose names start with `prefix`."""

    prefix: str
    places: tuple[Place, ...]

    def rest(self, reference: Reference) -> str | None:
        """Return what of the name of `reference` is behind the prefix; None where that is another one."""
        name = _name(reference)
        if not self.prefix:
            return name
        if name == self.prefix or name.startswith(f"{self.prefix.rstrip('/')}/"):
            return name[len(self.prefix) :].lstrip("/")
        return None


def places_of(mirrors: Iterable[Mirror], reference: Reference) -> list[tuple[Place, str]]:
    """Return where an image can be had, and what of its name is behind the prefix; local places first.

    Among these the order is that of the prefixes, the longest first, and of the file.
    """
    fitting = [(mirror, rest) for mirror in mirrors if (rest := mirror.rest(reference)) is not None]
    fitting.sort(key=lambda found: -len(found[0].prefix))
    places = [(place, rest) for mirror, rest in fitting for place in mirror.places]
    return sorted(dict.fromkeys(places), key=lambda found: not found[0].kind.is_local)


def _name(reference: Reference) -> str:
    if reference.scheme in (Scheme.HTTP, Scheme.HTTPS):
        return f"{reference.scheme}://{reference.name}"
    return reference.name


def loads(text: str, *, source: str) -> tuple[Mirror, ...]:
    """Return the mirrors that the `text` of a file names; `source` is its path, from whose folder paths are taken.

    Raises
    ------
    InvalidSettings
        where it is not TOML, or has an unknown key or a place that is none.
    """
    try:
        table = Table(read_toml(text), frozenset({"mirror"}), optional=("mirror",))
        return tuple(_mirror(row, source) for row in table.children("mirror", _KEYS, most=_MOST))
    except Damaged as error:
        raise InvalidSettings(
            f"cannot use the mirrors in {source}: {error}",
            hint="mend the file; see docs/mirrors.md for what it can say",
        ) from None


def _mirror(row: Table, source: str) -> Mirror:
    prefix, places = row.text("prefix"), row.texts("places")
    if "\0" in prefix:
        row.refuse("prefix", "must be a text without a null character; an empty one stands for every image")
    if prefix.startswith(("docker://", "oras://", "library://")):
        row.refuse("prefix", f"must be a host and a path, without {prefix.partition('//')[0]}//")
    if not places:
        row.refuse("places", "must have at least one place")
    return Mirror(prefix=prefix, places=tuple(_place(place, row, source) for place in places))


def _place(text: str, row: Table, source: str) -> Place:
    if not text or not text.isprintable():
        row.refuse("places", f"has {text!r}, which is no place")
    scheme, colon, rest = text.partition("://")
    if not colon:
        path = Path(source).parent / Path(text).expanduser()
        return Place(kind=PlaceKind.BUNDLE if path.suffix == ".tar" else PlaceKind.FOLDER, address=str(path))
    if scheme not in ("docker", "https"):
        row.refuse("places", f"has {text!r}: a place is a path, docker://… or https://…")
    try:
        parse(f"docker://{rest.rstrip('/')}/x" if scheme == "docker" else text)
    except FreshnessError as error:
        row.refuse("places", f"has {text!r}: {error.message}")
    if scheme == "docker":
        return Place(kind=PlaceKind.REGISTRY, address=rest.rstrip("/"))
    return Place(kind=PlaceKind.LAYOUT if text.endswith("/") else PlaceKind.FILE, address=text)
