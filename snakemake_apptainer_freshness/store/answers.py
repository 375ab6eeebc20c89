"""Answers: what registries said of tags a short while ago, so that a hundred runs in a loop ask once.

One small file a tag in the user's own state folder (:mod:`.store.state`), so that no work directory, clone or bundle
can say that a tag did not move. What is kept is only what a registry answered: where the tag pointed, and that the pin
was served. That a tag was not found, or that no registry answered, is never remembered.

An answer is used for the time that its reader gives it, and never where it comes from a time that is still to come: a
clock that was set back makes answers unknown, not eternal. It is used for the same asker alone: what it was asked with
(logins, mirrors, proxies) is kept as a keyed hash, whose key is made at random and lies beside, so that no name or
content of a file tells anything about a secret.
"""

import contextlib
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from snakemake_apptainer_freshness.common.tables import Table, read_json
from snakemake_apptainer_freshness.common.times import age
from snakemake_apptainer_freshness.freshness import RemoteFact, RemoteState
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import state

VERSION: Final = 1
_ANSWERS: Final = "answers"
_KEY: Final = "key"
_KEY_SIZE: Final = 32
_KEPT: Final = frozenset({RemoteState.CURRENT, RemoteState.MOVED})
_DENIED: Final = frozenset({RemoteState.UNTAGGED, RemoteState.LOST})


@dataclass(frozen=True, slots=True, kw_only=True)
class TagAnswer:
    """That `reference` pointed at `digest`, with these `platforms`, and `pinned` was served, when `asker` asked.

    `at` says when: UTC, ISO 8601.
    """

    reference: str
    pinned: Digest
    digest: Digest
    platforms: Mapping[Platform, Digest]
    asker: str
    at: str

    def dumps(self) -> bytes:
        """Return the answer as it is written."""
        table = {
            "version": VERSION,
            "reference": self.reference,
            "pinned": str(self.pinned),
            "digest": str(self.digest),
            "platforms": {str(platform): str(digest) for platform, digest in self.platforms.items()},
            "asker": self.asker,
            "at": self.at,
        }
        return (json.dumps(table, indent=1) + "\n").encode()

    @classmethod
    def loads(cls, content: bytes) -> Self:
        """Return the answer that `content` spells; raises Damaged where it is none, or of a newer version."""
        table = Table.versioned(read_json(content), VERSION, frozenset(cls.__slots__))
        return cls(
            reference=table.words("reference"),
            pinned=table.parsed("pinned", Digest.parse),
            digest=table.parsed("digest", Digest.parse),
            platforms=table.pairs("platforms", Platform.parse, Digest.parse),
            asker=table.words("asker"),
            at=table.time("at"),
        )

    def fact(self, entry: Entry) -> RemoteFact | None:
        """Return what this says of `entry`; None where it says nothing of its pin."""
        has_tag = entry.reference.tag is not None
        if self.digest == entry.digest:
            digest = entry.digest if has_tag else None
            return RemoteFact(state=RemoteState.CURRENT, digest=digest, asked_at=self.at)
        if self.pinned != entry.digest or not has_tag:
            return None  # that it moved is known; whether this pin is still served is not
        return RemoteFact(state=RemoteState.MOVED, digest=self.digest, platforms=self.platforms, asked_at=self.at)


def is_kept(entry: Entry, fact: RemoteFact) -> bool:
    """Return whether `fact` may be remembered: it says where the tag points, and nothing that a person has to hear."""
    is_of_a_registry = entry.reference.scheme.is_registry
    return is_of_a_registry and fact.state in _KEPT and not fact.detail and not fact.asked_at


def find(entry: Entry, *, asker: str, every: float) -> RemoteFact | None:
    """Return what is remembered of `entry`, where `asker` asked no longer than `every` seconds ago; else None."""
    content = state.read(_path_of(entry.reference), DISK.record_size)
    with contextlib.suppress(ValueError):
        answer = TagAnswer.loads(content) if content is not None else None
        if answer is not None and _is_of(answer, entry, asker) and 0 <= age(answer.at) < every:
            return answer.fact(entry)
    return None


def keep(entry: Entry, fact: RemoteFact, *, asker: str, at: str) -> None:
    """Remember `fact`, where it :func:`is_kept`, or forget what it denies; where that fails, it is asked again."""
    with contextlib.suppress(OSError):
        if fact.state in _DENIED:
            _path_of(entry.reference).unlink(missing_ok=True)
        elif is_kept(entry, fact):
            answer = TagAnswer(
                reference=str(entry.reference),
                pinned=entry.digest,
                digest=fact.digest or entry.digest,
                platforms=fact.platforms,
                asker=asker,
                at=at,
            )
            state.write(_path_of(entry.reference), answer.dumps(), durable=False)


def asker_of(description: bytes) -> str:
    """Return what stands for `description`, which may have secrets in it; raises OSError where no key can be kept."""
    path = state.folder() / _ANSWERS / _KEY
    key = state.read(path, _KEY_SIZE)
    if key is None or len(key) != _KEY_SIZE:
        key = secrets.token_bytes(_KEY_SIZE)
        state.write(path, key, durable=False)
    return hashlib.blake2b(description, key=key, digest_size=20).hexdigest()


def _is_of(answer: TagAnswer, entry: Entry, asker: str) -> bool:
    is_of_reference = answer.reference == str(entry.reference)
    return is_of_reference and secrets.compare_digest(answer.asker.encode(), asker.encode())


def _path_of(reference: Reference) -> Path:
    name = hashlib.sha256(str(reference).encode()).hexdigest()[:40]
    return state.folder() / _ANSWERS / f"{name}.json"
