"""The lock: what was agreed, in a file that is committed and reviewed.

TOML, one ``[[image]]`` a container reference, sorted by reference, without time stamps: the same pins give the same
bytes. Text in, text out; whoever reads and writes the file does so elsewhere (:mod:`.actions.pinning`).

A lock comes from a pull request as easily as from ourselves, so :func:`loads` believes nothing: an unknown key, a
digest of the wrong length, an entry that stands twice or contradicts another, a ``pinned`` that is not its
reference's own repository at its own digest are errors that name the entry. A newer major version is an error, too:
guessing what it means could run the wrong image. A :class:`Lock` that exists is valid.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from snakemake_apptainer_freshness.errors import FreshnessError, InvalidLock, NotLocked
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference, parse
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.settings import PinKind

VERSION: Final = 1
"""The major version of the format."""

HINTS: Final = frozenset({"layer", "etag", "last_modified", "created"})
"""What may help to fetch an image or to notice a change; never believed."""

_HEADER: Final = (
    "# Container images of this workflow, pinned by snakemake-apptainer-freshness.\n"
    "# Commit this file, and review its changes as you review code.\n"
)
_REQUIRED: Final = ("reference", "pinned", "digest", "media_type")
_OPTIONAL: Final = ("platforms", "hints")
_LONGEST_TEXT: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One pinned reference.

    `reference` is what the workflow says, with its text; `digest` what it pointed at when it was pinned, `media_type`
    of what the digest names, `platforms` the digest of each platform's manifest. `pinned`, what the rule is rewritten
    to, follows from reference and digest, so that no entry can contradict itself.

    Raises
    ------
    InvalidReference
        where the source carries no digest of this algorithm.
    """

    reference: Reference
    pinned: Reference = field(init=False)
    digest: Digest
    media_type: str
    platforms: Mapping[Platform, Digest] = field(default_factory=dict)
    hints: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pinned", pinned_form(self.reference, self.digest))

    def digest_for(self, kind: PinKind, platform: Platform) -> Digest:
        """Return what a run is held to: the digest of the index, or of the manifest of `platform`.

        Raises
        ------
        NotLocked
            where a platform's manifest is asked for and the lock has none for `platform`.
        """
        if kind is PinKind.INDEX or not self.platforms:
            return self.digest
        manifest = self.platforms.get(platform)
        if manifest is None:
            raise NotLocked(
                f"{self.reference.text} has no image for {platform}: the lock lists {_listed(self.platforms)}",
                hint="run on one of those platforms, or choose an image that was built for this one",
            )
        return manifest

    def pinned_to(self, kind: PinKind, platform: Platform) -> Reference:
        """Return what the rule is rewritten to, so that it names :meth:`digest_for`; raises as that does."""
        digest = self.digest_for(kind, platform)
        return self.pinned if digest == self.digest else pinned_form(self.reference, digest)

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as it is written; keys in the order of the file."""
        table: dict[str, Any] = {
            "reference": self.reference.text,
            "pinned": self.pinned.text,
            "digest": str(self.digest),
            "media_type": self.media_type,
        }
        if self.platforms:
            table["platforms"] = platform_texts(self.platforms)
        if self.hints:
            table["hints"] = dict(sorted(self.hints.items()))
        return table


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """What is run for a `reference`: what the rule gets, and the `digest` that its image is held to, if any."""

    reference: Reference
    pinned: Reference
    digest: Digest | None = None

    @property
    def url(self) -> str:
        """The text that the rule gets."""
        return self.pinned.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """All entries, by the text of their reference."""

    entries: Mapping[str, Entry] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Self:
        """Return the lock of `entries`, sorted; a later entry replaces an earlier one of the same reference."""
        by_text = {entry.reference.text: entry for entry in entries}
        return cls(entries={text: by_text[text] for text in sorted(by_text)})

    def with_entries(self, entries: Iterable[Entry]) -> "Lock":
        """Return this lock with `entries` added or replaced."""
        return Lock.of([*self, *entries])

    def get(self, reference: str) -> Entry | None:
        """Return the entry of the text `reference`, where there is one."""
        return self.entries.get(reference)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def __len__(self) -> int:
        return len(self.entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference between two locks: `old` is None where the entry is new, `new` where it is gone."""

    reference: str
    old: Entry | None
    new: Entry | None

    @property
    def moves_pin(self) -> bool:
        """Whether more changed than what is written beside the digest."""
        return self.old is None or self.new is None or self.old.digest != self.new.digest


def changes(old: Lock, new: Lock) -> list[Change]:
    """Return how `new` differs from `old`, sorted by reference."""
    references = sorted({*old.entries, *new.entries})
    found = [Change(reference=r, old=old.get(r), new=new.get(r)) for r in references]
    return [change for change in found if change.old != change.new]


def pinned_form(reference: Reference, digest: Digest) -> Reference:
    """Return what the rule that says `reference` is rewritten to.

    Files and web addresses have no form that carries a digest: they stay as they are, and what was fetched is
    compared with the digest of the lock.

    Raises
    ------
    InvalidReference
        where the source carries no digest of this algorithm.
    """
    if reference.scheme.is_registry or reference.scheme is Scheme.LIBRARY:
        return reference.pinned(digest)
    return reference


def platform_texts(platforms: Mapping[Platform, Digest]) -> dict[str, str]:
    """Return `platforms` as files and JSON have them, sorted: ``linux/amd64`` → ``sha256:…``."""
    return {str(platform): str(digest) for platform, digest in sorted(platforms.items())}


def _listed(platforms: Iterable[Platform]) -> str:
    return ", ".join(map(str, sorted(platforms)))


def dumps(lock: Lock) -> str:
    """Return the text of `lock`; the same lock gives the same text."""
    import tomli_w

    document = {"version": VERSION, "image": [entry.to_dict() for entry in Lock.of(lock)]}
    return _HEADER + tomli_w.dumps(document)


def loads(text: str, *, source: str = "containers.lock") -> Lock:
    """Return the lock that `text` spells; `source` names the file, for errors.

    Raises
    ------
    InvalidLock
        where the text is not TOML (the line is named), of a newer version, has an unknown key, or an entry that is not
        sound (the entry is named).
    """
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _invalid(source, f"not valid TOML: {error}") from None
    except RecursionError:
        raise _invalid(source, "nested too deeply to be a lock") from None
    _check_version(document, source)
    for key in document:
        if key not in ("version", "image"):
            raise _invalid(source, f"unknown key {key!r}; a lock has the keys version and image")
    tables = document.get("image", [])
    if not isinstance(tables, list):
        raise _invalid(source, "image must be an array of tables, written [[image]]")
    return _collect([_entry(table, position, source) for position, table in enumerate(tables, 1)], source)


def _check_version(document: Mapping[str, Any], source: str) -> None:
    version = document.get("version")
    if isinstance(version, bool) or not isinstance(version, int):
        raise _invalid(source, "it has no version = 1")
    if version > VERSION:
        raise InvalidLock(
            f"{source} has version {version}; this program knows version {VERSION}",
            hint="upgrade snakemake-apptainer-freshness",
        )
    if version != VERSION:
        raise _invalid(source, f"version {version} never existed")


def _collect(entries: list[Entry], source: str) -> Lock:
    by_meaning: dict[Reference, tuple[int, Entry]] = {}
    seen: dict[str, int] = {}
    for position, entry in enumerate(entries, 1):
        text = entry.reference.text
        where = f"image[{position}] ({text})"
        if text in seen:
            raise _invalid(source, f"{where} stands already as image[{seen[text]}]")
        seen[text] = position
        earlier = by_meaning.setdefault(entry.reference, (position, entry))
        if earlier[1].digest != entry.digest:
            raise _invalid(
                source,
                f"{where} contradicts image[{earlier[0]}] ({earlier[1].reference.text}): same image, other digest",
            )
    return Lock.of(entries)


def _entry(table: object, position: int, source: str) -> Entry:
    where = f"image[{position}]"
    if not isinstance(table, dict):
        raise _invalid(source, f"{where} is not a table")
    if isinstance(table.get("reference"), str):
        where += f" ({table['reference'][:120]})"
    for key in table:
        if key not in _REQUIRED and key not in _OPTIONAL:
            raise _invalid(
                source,
                f"{where} has an unknown key {key!r}; an entry has {', '.join((*_REQUIRED, *_OPTIONAL))}",
            )
    texts = {key: _text(table, key, where, source) for key in _REQUIRED}
    try:
        platforms = _platforms(table.get("platforms", {}), f"{where}.platforms")
        entry = Entry(
            reference=parse(texts["reference"]),
            digest=Digest.parse(texts["digest"]),
            media_type=texts["media_type"],
            platforms=platforms,
            hints=_hints(table.get("hints", {}), f"{where}.hints"),
        )
        _check_pin(entry, texts["pinned"])
    except FreshnessError as error:
        raise _invalid(source, f"{where}: {error.message}") from None
    return entry


def _text(table: Mapping[str, Any], key: str, where: str, source: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise _invalid(source, f"{where} needs {key}, a text")
    if len(value) > _LONGEST_TEXT or not value.isprintable():
        raise _invalid(source, f"{where}: {key} is too long or has control characters")
    return value


def _platforms(table: object, where: str) -> Mapping[Platform, Digest]:
    if not isinstance(table, dict):
        raise InvalidLock(f"{where} must be a table")
    platforms = {}
    for platform, digest in table.items():
        if not isinstance(digest, str):
            raise InvalidLock(f"{where}.{platform} must be a digest")
        platforms[Platform.parse(platform)] = Digest.parse(digest)
    return platforms


def _hints(table: object, where: str) -> Mapping[str, str]:
    if not isinstance(table, dict):
        raise InvalidLock(f"{where} must be a table")
    for key, value in table.items():
        if key not in HINTS:
            raise InvalidLock(f"{where} has an unknown key {key!r}; hints are {', '.join(sorted(HINTS))}")
        if not isinstance(value, str) or not value.isprintable() or len(value) > _LONGEST_TEXT:
            raise InvalidLock(f"{where}.{key} must be a short printable text")
    return dict(table)


def _check_pin(entry: Entry, pinned: str) -> None:
    """Check that `pinned` is the reference's own repository at the entry's digest, and nothing else."""
    own = entry.reference.digest
    if own is not None and own != entry.digest:
        raise InvalidLock(f"the reference itself names {own}, but digest is {entry.digest}")
    if pinned != entry.pinned.text:
        raise InvalidLock(f"pinned is {pinned!r}, but its reference and digest make {entry.pinned.text!r}")


def _invalid(source: str, problem: str) -> InvalidLock:
    return InvalidLock(
        f"cannot use the lock file {source}: {problem}",
        hint="restore it from version control, or delete it and let the next run make a new one",
    )
