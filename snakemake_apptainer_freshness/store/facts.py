"""Facts of content: of which digest a SIF is the image, by its SHA-256; true for ever, and wherever the file lies.

A fact comes from having hashed: an image that was pulled by digest past every cache entry that we had not proven, or
whose files were compared with the layers that the digest names, each layer hashed. It is kept in the user's own state
folder (:mod:`.store.state`), and read from there and from the fact stores that a site names (:mod:`.store.sites`). What
lies beside an image, in a bundle or in a lock is a claim.

There are two kinds:

* :class:`ContentFact`: the SIF with this SHA-256 is, or provably is not, the image of a digest on a platform. One small
  file each, found by the digest, so that writing one disturbs no other process.
* Of an index, by its digest: which manifest it has for a platform. It comes from having fetched and hashed the index;
  what the platform table of a lock says is no such fact.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from snakemake_apptainer_freshness.common.tables import Damaged, Table, read_json
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import sites, state
from snakemake_apptainer_freshness.store.sites import FactStore

VERSION: Final = 1
_CONTENTS: Final = "contents"
_PLATFORMS: Final = "platforms"


class ProvenBy(StrEnum):
    """How a fact of content came to be known."""

    PULLED = "pulled"
    COPIED = "copied"
    COMPARED = "compared"
    NAMED = "named"
    BUILT = "built"

    @property
    def text(self) -> str:
        """The same in words, for a person."""
        return _TEXTS[self]

    @property
    def is_fetched(self) -> bool:
        """Whether this program put the image where it lies."""
        return self is not ProvenBy.COMPARED


_TEXTS: Final = {
    ProvenBy.PULLED: "pulled by digest",
    ProvenBy.COPIED: "copied from Apptainer's cache, where we had pulled it by digest",
    ProvenBy.COMPARED: "proven by comparison with its layers",
    ProvenBy.NAMED: "its SHA-256 is the one that its reference names",
    ProvenBy.BUILT: "built from the layers that its digest names",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentFact:
    """That the SIF with this `sha256` (hex) and `size` (bytes) is the image of `digest` on `platform`.

    `manifest` is that platform's manifest where it was hashed, or is `digest` itself; a lock's word for it does not
    count. `refuted` says why the SIF is provably *not* that image; empty in every other fact. `pinned` and `reference`
    are the texts under which it was asked for, `apptainer` the program that built it, `proven_at` UTC, ISO 8601.
    `store` is the folder of the site's fact store that says so; empty where it is the user's own proof.
    """

    sha256: str
    size: int
    digest: Digest
    platform: Platform
    manifest: Digest | None = None
    pinned: str
    reference: str
    proven_by: ProvenBy
    proven_at: str
    apptainer: str = ""
    refuted: str = ""
    store: str = field(default="", compare=False)

    def is_about(self, pin: Pin) -> bool:
        """Return whether this proves, or refutes, that the SIF is what `pin` names."""
        return (self.digest, self.platform) == (pin.digest, pin.platform) or self.manifest == pin.digest

    def pin(self) -> Pin:
        """Return the pin that this is about; raises FreshnessError where a text in it is no reference."""
        pinned = parse(self.pinned)
        return Pin(
            reference=parse(self.reference),
            pinned=pinned,
            digest=self.digest,
            platform=self.platform,
            manifest=self.manifest,
            content=self.digest if pinned.scheme.is_content else None,
        )

    def dumps(self) -> bytes:
        """Return the fact as it is written."""
        table: dict[str, Any] = {"version": VERSION}
        for name in _WRITTEN:
            value = getattr(self, name)
            table[name] = value if value is None or isinstance(value, int) else str(value)
        return (json.dumps(table, indent=1) + "\n").encode()

    @classmethod
    def loads(cls, content: bytes) -> Self:
        """Return the fact that `content` spells; raises Damaged where it is none, or of a newer version."""
        table = Table.versioned(read_json(content), VERSION, _KEYS)
        return cls(
            sha256=table.hex("sha256", may_be_empty=False),
            size=table.number("size"),
            digest=table.parsed("digest", Digest.parse),
            platform=table.parsed("platform", Platform.parse),
            manifest=table.parsed_or_none("manifest", Digest.parse),
            proven_by=table.member("proven_by", ProvenBy),
            **{key: table.text(key) for key in ("pinned", "reference", "proven_at", "apptainer", "refuted")},
        )


_WRITTEN: Final = tuple(field.name for field in fields(ContentFact) if field.name != "store")
_KEYS: Final = frozenset(_WRITTEN)


def keep(fact: ContentFact) -> None:
    """Keep `fact` under its digest, and under its manifest where that is known; raises OSError where it cannot."""
    content = fact.dumps()
    for digest in {fact.digest, fact.manifest or fact.digest}:
        state.write(_own(*_folder_of(digest), _name_of(fact.sha256, fact.platform)), content)


def find(digest: Digest, platform: Platform, sha256: str) -> ContentFact | None:
    """Return what is known of the SIF `sha256` as the image of `digest` on `platform`; None where nothing is.

    What this user has proven comes before what a site says.
    """
    names = (*_folder_of(digest), _name_of(sha256, platform))
    for store in (None, *sites.site().stores):
        fact = _load(store, names)
        if fact is not None and fact.sha256 == sha256 and _is_of(fact, digest):
            return fact
    return None


def about(pin: Pin) -> tuple[ContentFact, ...]:
    """Return all that is known of any SIF as what `pin` names; of one SIF what this user has proven, else the site."""
    manifest = manifest_of(pin.digest, pin.platform)
    known: dict[str, ContentFact] = {}
    for store in (None, *sites.site().stores):
        same = manifest or _manifest_in(store, pin.digest, pin.platform)
        for digest in dict.fromkeys((pin.digest, same or pin.digest)):
            for name in _listed(store, _folder_of(digest)):
                fact = _load(store, (*_folder_of(digest), name)) if name.endswith(_SUFFIX) else None
                if fact is not None and _is_of(fact, digest) and fact.platform == pin.platform:
                    known.setdefault(fact.sha256, fact)
    return tuple(known.values())


def _is_of(fact: ContentFact, digest: Digest) -> bool:
    """Return whether `fact` belongs where it lies."""
    return digest in (fact.digest, fact.manifest)


def manifest_of(digest: Digest, platform: Platform) -> Digest | None:
    """Return the manifest for `platform` of the index `digest`, where this user hashed it; else None.

    A site's word for it is not given out: what is proven by way of it would be kept as this user's own proof.
    """
    return _manifest_in(None, digest, platform)


def _manifest_in(store: FactStore | None, digest: Digest, platform: Platform) -> Digest | None:
    with contextlib.suppress(KeyError, FreshnessError):
        return Digest.parse(_platforms(store, digest)[str(platform)])
    return None


def _platforms(store: FactStore | None, digest: Digest) -> dict[str, str]:
    """Return what `store` has of the index `digest`: the text of each platform and of its manifest."""
    content = _content(store, _index_of(digest))
    with contextlib.suppress(Damaged):
        if content is not None:
            return dict(Table.versioned(read_json(content), VERSION, frozenset({"platforms"})).mapping("platforms"))
    return {}


def keep_index(digest: Digest, platforms: Mapping[Platform, Digest]) -> None:
    """Keep that the index `digest`, which was fetched and hashed, has these manifests; raises OSError.

    A single image has itself.
    """
    known = _platforms(None, digest)
    table = known | {str(platform): str(manifest) for platform, manifest in platforms.items()}
    if table == known:
        return
    state.write(
        _own(*_index_of(digest)),
        (json.dumps({"version": VERSION, "platforms": table}, indent=1, sort_keys=True) + "\n").encode(),
    )


def learn(entries: Iterable[Entry]) -> None:
    """Keep which manifests the indexes of `entries` have, which were just fetched and hashed, as far as it can be."""
    with contextlib.suppress(OSError):
        for entry in entries:
            if entry.platforms:
                keep_index(entry.digest, entry.platforms)


def now() -> str:
    """Return the time for `proven_at`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_SUFFIX: Final = ".json"


def _folder_of(digest: Digest) -> tuple[str, ...]:
    """Return what leads from the top of any store to the facts of `digest`."""
    return _CONTENTS, digest.hex[:2], f"{digest.algorithm}-{digest.hex}"


def _name_of(sha256: str, platform: Platform) -> str:
    return f"{sha256}.{str(platform).replace('/', '-')}{_SUFFIX}"


def _index_of(digest: Digest) -> tuple[str, ...]:
    return _PLATFORMS, digest.hex[:2], f"{digest.algorithm}-{digest.hex}{_SUFFIX}"


def _own(*names: str) -> Path:
    return state.folder().joinpath(*names)


def _listed(store: FactStore | None, names: tuple[str, ...]) -> list[str]:
    if store is not None:
        return store.names(names)
    folder = _own(*names)
    with contextlib.suppress(OSError):
        return sorted(os.listdir(folder))  # noqa: PTH208  names are all that is needed
    return []


def _content(store: FactStore | None, names: tuple[str, ...]) -> bytes | None:
    """Return what the file at `names` holds in `store`, None: the user's own; None where there is none to believe."""
    if store is not None:
        return store.read(names, DISK.record_size)
    return state.read(_own(*names), DISK.record_size)


def _load(store: FactStore | None, names: tuple[str, ...]) -> ContentFact | None:
    content = _content(store, names)
    with contextlib.suppress(Damaged):
        fact = ContentFact.loads(content) if content is not None else None
        return replace(fact, store=str(store.path)) if fact is not None and store is not None else fact
    return None


def proving(facts: Iterable[ContentFact], sha256: str) -> ContentFact | None:
    """Return the one of `facts` that is about the SIF `sha256`; None where none is."""
    return next((fact for fact in facts if fact.sha256 == sha256), None)
