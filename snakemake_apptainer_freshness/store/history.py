"""The memory of a project: what was proven of the images that made its outputs, kept for when they are gone.

One JSON file a project, in the user's own state folder (:mod:`.store.state`): one in the project would come along with
a clone, and could call outputs the same that another image made. Two things are remembered:

* ``manifests``: which manifest an index has for each platform, by its digest, as far as the index was hashed. A digest
  names one content for ever, so this never becomes wrong. A digest that is a manifest itself has itself.
* ``images``: that the image file of a url was proven to be of a digest, by what, and from when to when it was that
  file: from its modification time to the last time that it was seen. A tag's file may have been another one before
  and after, so such a row speaks of outputs alone that were made in between.

A memory that is damaged, of a newer version, or that every user may write to proves nothing; outputs are then judged as
if there were none.
"""

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Self

from snakemake_apptainer_freshness.common.files import (
    NotAFile,
    StatKey,
    read_small,
    replace_own,
    status_of,
    writable_by_all,
)
from snakemake_apptainer_freshness.common.locks import exclusive
from snakemake_apptainer_freshness.common.tables import Damaged, Table, read_json
from snakemake_apptainer_freshness.errors import InvalidDigest, LocalIOError
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import facts, state

VERSION: Final = 1
_PROJECTS: Final = "projects"
"""The folder of all memories, in the state folder; each lies under the key of its project."""

_LARGEST: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenTag:
    """That the image file of `url` was what `digest` names, from `since` to `until` (seconds since the epoch).

    `manifest` is the manifest of `platform` in it, where that is known. `sha256` is the file's, where it was hashed;
    `stat` the key under which it was proven, where it can be known again by that. `proven_by` says how.
    """

    url: str
    digest: Digest
    manifest: Digest | None
    platform: Platform
    since: float
    until: float
    sha256: str = ""
    stat: StatKey | None = None
    proven_by: str

    def covers(self, moment: float) -> bool:
        """Return whether what ran at `moment` was this file; a file system's clock may be coarse."""
        return self.since - DISK.settle <= moment <= self.until

    def to_dict(self) -> dict[str, Any]:
        """Return the row as it is written."""
        return {
            "url": self.url,
            "digest": str(self.digest),
            "manifest": str(self.manifest) if self.manifest else None,
            "platform": str(self.platform),
            "since": self.since,
            "until": self.until,
            "sha256": self.sha256,
            "stat": self.stat.to_dict() if self.stat else None,
            "proven_by": self.proven_by,
        }

    @classmethod
    def read(cls, row: Table) -> Self:
        """Return what `row` spells; raises Damaged where it is none."""
        return cls(
            url=row.text("url"),
            digest=row.parsed("digest", Digest.parse),
            manifest=row.parsed_or_none("manifest", Digest.parse),
            platform=row.parsed("platform", Platform.parse),
            since=row.seconds("since"),
            until=row.seconds("until"),
            sha256=row.hex("sha256"),
            stat=StatKey.read(row, "stat"),
            proven_by=row.text("proven_by"),
        )

    @property
    def key(self) -> tuple[str, Digest, Platform, float]:
        """What tells this row from all others."""
        return self.url, self.digest, self.platform, self.since


class TagHistory:
    """What is remembered of one project; `problem` says why its file could not be used, if it could not."""

    def __init__(self, *, problem: str = "") -> None:
        self.problem = problem
        self._manifests: dict[tuple[Digest, Platform], Digest] = {}
        self._images: dict[tuple[str, Digest, Platform, float], ProvenTag] = {}
        self._news = False

    @property
    def has_news(self) -> bool:
        """Whether something was learned that the file does not have."""
        return self._news

    def manifest(self, digest: Digest, platform: Platform) -> Digest | None:
        """Return the manifest of `platform` in what `digest` names, where that is known."""
        return self._manifests.get((digest, platform))

    def images(self, url: str) -> list[ProvenTag]:
        """Return what the image file of `url` was, at one time or another."""
        return [seen for seen in self._images.values() if seen.url == url]

    def learn_manifests(self, digest: Digest, platforms: Mapping[Platform, Digest]) -> None:
        """Remember the manifest of each platform in what `digest` names."""
        for platform, manifest in platforms.items():
            if self._manifests.get((digest, platform)) != manifest:
                self._manifests[digest, platform] = manifest
                self._news = True

    def learn_entries(self, entries: Iterable[Entry]) -> None:
        """Remember what the digests of `entries` have for each platform, as far as that was hashed."""
        here = Platform.here()
        for entry in entries:
            claimed = entry.platforms or {here: entry.digest}
            proven = {
                platform: manifest
                for platform, manifest in claimed.items()
                if manifest in (entry.digest, facts.manifest_of(entry.digest, platform))
            }
            self.learn_manifests(entry.digest, proven)

    def learn(self, seen: ProvenTag) -> None:
        """Remember an image; one that is known was seen once more."""
        known = self._images.get(seen.key)
        if known is not None:
            seen = replace(
                seen,
                until=max(seen.until, known.until),
                manifest=seen.manifest or known.manifest,
                sha256=seen.sha256 or known.sha256,
                stat=seen.stat or known.stat,
            )
        self._images[seen.key] = seen
        self._news = True

    def dumps(self) -> bytes:
        """Return the memory as it is written."""
        manifests: dict[str, dict[str, str]] = {}
        for (digest, platform), manifest in sorted(self._manifests.items()):
            manifests.setdefault(str(digest), {})[str(platform)] = str(manifest)
        images = [self._images[key].to_dict() for key in sorted(self._images)]
        return (json.dumps({"version": VERSION, "manifests": manifests, "images": images}, indent=1) + "\n").encode()

    @classmethod
    def loads(cls, content: bytes) -> Self:
        """Return the memory that `content` spells; where it spells none, an empty one with its problem."""
        history = cls()
        try:
            table = Table.versioned(read_json(content), VERSION, _KEYS)
            manifests = table.values["manifests"]
            digests = table.child("manifests", frozenset(manifests) if isinstance(manifests, dict) else frozenset())
            for text in digests.values:
                digest = _digest(digests, text)
                for platform, manifest in digests.pairs(text, Platform.parse, Digest.parse).items():
                    history._manifests[digest, platform] = manifest
            for row in table.children("images", _ROW):
                seen = ProvenTag.read(row)
                history._images[seen.key] = seen
        except Damaged as error:
            return cls(problem=str(error))
        return history

    def merged_into(self, other: "TagHistory") -> "TagHistory":
        """Return `other` with all that this one knows."""
        for (digest, platform), manifest in self._manifests.items():
            other.learn_manifests(digest, {platform: manifest})
        for seen in self._images.values():
            other.learn(seen)
        return other


_KEYS: Final = frozenset({"manifests", "images"})
_ROW: Final = frozenset(field.name for field in fields(ProvenTag))


def _digest(table: Table, text: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidDigest as error:
        table.refuse(text[:80], f"is wrong: {error.message}")


def path_in(folder: Path) -> Path:
    """Return where the memory of the project lies whose Snakemake folder (``.snakemake``) is `folder`.

    Raises
    ------
    UsageError
        where the user's state folder cannot be believed.
    """
    return state.folder() / _PROJECTS / f"{state.key_of(folder)}.json"


def load(path: Path) -> TagHistory:
    """Return the memory in the file `path`; an empty one where there is none, or none that proves anything."""
    try:
        if writable_by_all(status_of(path).st_mode):
            return TagHistory(problem="every user may write it")
        return TagHistory.loads(read_small(path, _LARGEST))
    except FileNotFoundError:
        return TagHistory()
    except NotAFile as error:
        return TagHistory(problem=f"it is {error}")
    except OSError as error:
        return TagHistory(problem=f"it cannot be read: {error.strerror}")
    except ValueError:
        return TagHistory(problem="it is too large to be one")


def save(path: Path, memory: TagHistory) -> None:
    """Bring what `memory` learned into the file `path`; what another process wrote meanwhile is kept.

    A file that could not be used is moved aside, not overwritten.

    Raises
    ------
    LocalIOError
        where it cannot be written; it is then as it was.
    """
    if not memory.has_news:
        return
    try:
        state.make(path.parent)
        with exclusive(path):
            there = load(path)
            if there.problem:
                with contextlib.suppress(FileNotFoundError):
                    path.rename(path.with_name(f"{path.name}.unusable"))
                there = TagHistory()
            replace_own(path, memory.merged_into(there).dumps())
    except OSError as error:
        raise LocalIOError(
            f"cannot remember in {path} which images made the outputs: {error.strerror or error}",
            hint=f"make {path.parent} writable",
        ) from error
    memory._news = False  # noqa: SLF001  of the same module
