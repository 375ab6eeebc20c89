"""The lock: the pins that were agreed on, in a file that is committed and reviewed.

TOML, one ``[[image]]`` a container reference, sorted by reference, without time stamps: the same pins give the same
bytes. Text in, text out; the file itself is read and written elsewhere (:mod:`.actions.lock_io`).

A lock comes from a pull request as easily as from ourselves, so :func:`loads` believes nothing: an unknown key, a
digest of the wrong length, an entry that stands twice or contradicts another, a ``pinned`` that is not its
reference's own repository at its own digest are errors that name the entry. A newer major version is an error, too:
guessing what it means could run the wrong image. A :class:`Lock` that exists is valid.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from snakemake_apptainer_freshness.common.tables import Damaged, NewerVersion, Table, read_toml
from snakemake_apptainer_freshness.errors import FreshnessError, InvalidLock, NotLocked
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.pinned import pinned_form
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference, parse
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
_KEYS: Final = frozenset({*_REQUIRED, *_OPTIONAL})
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
    changed = [Change(reference=r, old=old.get(r), new=new.get(r)) for r in references]
    return [change for change in changed if change.old != change.new]


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
    try:
        document = read_toml(text)
        table = Table.versioned(document, VERSION, frozenset({"image"}), optional=("image",))
        return _collect([_entry(row, place) for place, row in table.rows("image")])
    except NewerVersion:
        raise InvalidLock(
            f"{source} has version {document['version']}; this program knows version {VERSION}",
            hint="upgrade snakemake-apptainer-freshness",
        ) from None
    except Damaged as error:
        raise InvalidLock(
            f"cannot use the lock file {source}: {error}",
            hint="restore it from version control, or delete it and let the next run make a new one",
        ) from None


def _collect(entries: list[Entry]) -> Lock:
    by_meaning: dict[Reference, tuple[int, Entry]] = {}
    seen: dict[str, int] = {}
    for position, entry in enumerate(entries, 1):
        text = entry.reference.text
        where = f"image[{position}] ({text})"
        if text in seen:
            raise Damaged(f"{where} stands already as image[{seen[text]}]")
        seen[text] = position
        earlier = by_meaning.setdefault(entry.reference, (position, entry))
        if earlier[1].digest != entry.digest:
            raise Damaged(
                f"{where} contradicts image[{earlier[0]}] ({earlier[1].reference.text}): same image, other digest"
            )
    return Lock.of(entries)


def _entry(value: object, place: str) -> Entry:
    """Return the entry that the table `value` spells; an error names it by its place and by its reference."""
    try:
        row = Table(value, _KEYS, optional=_OPTIONAL, at=place)
        texts = {key: row.words(key, longest=_LONGEST_TEXT) for key in _REQUIRED}
        entry = Entry(
            reference=row.parsed("reference", parse),
            digest=row.parsed("digest", Digest.parse),
            media_type=texts["media_type"],
            platforms=row.pairs("platforms", Platform.parse, Digest.parse),
            hints=_hints(row),
        )
        _check_pin(row, entry, texts["pinned"])
    except (Damaged, FreshnessError) as error:
        named = value.get("reference") if isinstance(value, dict) else None
        problem = str(error) if isinstance(error, Damaged) else f"{place}: {error.message}"
        raise Damaged(f"{problem} ({named[:120]})" if isinstance(named, str) else problem) from None
    return entry


def _hints(row: Table) -> Mapping[str, str]:
    if "hints" not in row.values:
        return {}
    hints = row.child("hints", HINTS, optional=HINTS)
    return {key: hints.words(key, longest=_LONGEST_TEXT) for key in hints.values}


def _check_pin(row: Table, entry: Entry, pinned: str) -> None:
    """Check that `pinned` is the reference's own repository at the entry's digest, and nothing else."""
    own = entry.reference.digest
    if own is not None and own != entry.digest:
        row.refuse("digest", f"is {entry.digest}, but the reference itself names {own}")
    if pinned != entry.pinned.text:
        row.refuse("pinned", f"is {pinned!r}, but its reference and digest make {entry.pinned.text!r}")
