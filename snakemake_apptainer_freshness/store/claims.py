"""Claims: which lock files need images of a folder that several workflows share.

A command that fills an image folder for a lock leaves a small file ``.freshness-claim-….json`` in it: where the lock
lies, and what it needs. A clean-up of the folder keeps what any claim asks for.

* **The lock is the truth**: where it can be read, what it names now is needed, whatever its claim says.
* **Where it cannot be read**, since it is damaged, not ours to read, or lies on another host, its claim stands for it.
* **A lock that is gone** keeps its claim for a grace time, from the day on which it was first missed. It counts as
  gone only where it could be seen: on the host that made the claim, or where its folder is the one that was claimed
  from. On shared file systems a folder has one inode number on all hosts.
* **A claim that cannot be understood** stops a clean-up: what it asks for is not known.

A claim is read with suspicion, since others may write the folder, but it can do no more than keep an image.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from snakemake_apptainer_freshness import lockfile
from snakemake_apptainer_freshness.common.files import HOST, NotAFile, read_small, replace_own
from snakemake_apptainer_freshness.common.tables import Table, read_json
from snakemake_apptainer_freshness.errors import FreshnessError, LocalIOError, UsageError
from snakemake_apptainer_freshness.image.pinned import pinned_form
from snakemake_apptainer_freshness.lockfile import Entry, Lock
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import facts
from snakemake_apptainer_freshness.store.prefix import CLAIM, ItemKind, image_name, survey

VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one lock asks for.

    `lockfile` is its absolute path on `host`, `folder` the inode number of the folder that it lies in. `locked` are the
    urls that it names, `unpinned` those that its workflow runs without a pin. `missing_since` is when it was first
    missed (UTC, ISO 8601).
    """

    lockfile: str
    host: str
    folder: int
    locked: tuple[str, ...]
    unpinned: tuple[str, ...] = ()
    missing_since: str | None = None

    @property
    def name(self) -> str:
        """The name of its file; one lock has one claim, whichever host it is used from."""
        identity = f"{self.folder}\0{self.lockfile}"
        return CLAIM.format(hashlib.sha256(os.fsencode(identity)).hexdigest()[:32])

    def dumps(self) -> bytes:
        """Return the claim as it is written."""
        return (json.dumps({"version": VERSION, **asdict(self)}, indent=1) + "\n").encode()

    @classmethod
    def loads(cls, content: bytes) -> Self:
        """Return the claim that `content` spells; raises Damaged where it is none."""
        table = Table.versioned(read_json(content), VERSION, _KEYS)
        for key in ("lockfile", "host"):
            if "\0" in table.text(key):
                table.refuse(key, "must be a text without a null character")
        return cls(
            lockfile=table.text("lockfile"),
            host=table.text("host"),
            folder=table.integer("folder"),
            locked=tuple(table.texts("locked")),
            unpinned=tuple(table.texts("unpinned")),
            missing_since=_missing_since(table),
        )


_KEYS: Final = frozenset(field.name for field in fields(Claim))


def _missing_since(table: Table) -> str | None:
    if table.values["missing_since"] is None:
        return None
    text = table.text("missing_since")
    try:
        _moment(text)
    except ValueError:
        table.refuse("missing_since", "must be a time with its offset from UTC")
    return text


def urls_of(lock: Iterable[Entry]) -> set[str]:
    """Return every url that a run of `lock` may use, on whatever platform, by index or manifest."""
    urls = set()
    for entry in lock:
        urls.add(entry.pinned.text)
        for digest in entry.platforms.values():
            with contextlib.suppress(FreshnessError):
                urls.add(pinned_form(entry.reference, digest).text)
    return urls


def register(prefix: Path, lock_path: Path, lock: Lock, *, unpinned: Iterable[str] = ()) -> None:
    """Claim in the image folder `prefix` what `lock`, which lies at `lock_path`, needs; written only where it changed.

    Raises
    ------
    LocalIOError
        where that cannot be done.
    """
    path = lock_path.absolute()
    try:
        inode = path.parent.stat().st_ino
        claim = Claim(
            lockfile=str(path),
            host=HOST,
            folder=inode,
            locked=tuple(sorted(urls_of(lock))),
            unpinned=tuple(sorted(set(unpinned))),
        )
        target = prefix / claim.name
        with contextlib.suppress(OSError, NotAFile, ValueError):
            if replace(Claim.loads(read_small(target, DISK.claim_size)), host=HOST) == claim:
                return
        if len(lock) or os.path.lexists(target):
            prefix.mkdir(parents=True, exist_ok=True)
            replace_own(target, claim.dumps(), readable=True)
    except OSError as error:
        raise LocalIOError(
            f"cannot note in the image folder {prefix} that {path} needs its images: {error.strerror or error}",
            hint="a clean-up there will not know of this lock; make the folder writable",
        ) from error


class Presence(StrEnum):
    """What can be seen of the lock that made a claim."""

    HERE = "here"
    GONE = "gone"
    UNREADABLE = "unreadable"
    """Damaged, not ours to read, or on another host; its claim stands for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """One claim, in its `file`: what is seen of its lock, and the `urls` that are needed for it."""

    file: Path
    claim: Claim
    presence: Presence
    urls: frozenset[str]

    def ends(self, grace: int) -> datetime | None:
        """When the claim runs out, `grace` days after its lock was first missed; None where it does not."""
        if self.presence is not Presence.GONE:
            return None
        missing = self.claim.missing_since
        since = _moment(missing) if missing else datetime.now(UTC)
        return since + timedelta(days=grace)

    def has_run_out(self, grace: int) -> bool:
        """Return whether its lock has been gone for longer than `grace` days."""
        end = self.ends(grace)
        return end is not None and end <= datetime.now(UTC)


def registered(prefix: Path) -> Iterator[Registered]:
    """Yield every claim in `prefix`, sorted by name, with what its lock says now.

    Raises
    ------
    UsageError
        where one cannot be understood: what it asks for must not be deleted.
    LocalIOError
        where the folder or a claim cannot be read.
    """
    for item in survey(prefix):
        if item.kind is not ItemKind.CLAIM:
            continue
        try:
            claim = Claim.loads(read_small(item.path, DISK.claim_size))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise LocalIOError(f"cannot read the claim {item.path}: {error.strerror}", hint=_HINT) from error
        except (NotAFile, ValueError) as error:
            raise UsageError(
                f"cannot tell which images are needed: the claim {item.path} cannot be understood: {error}", hint=_HINT
            ) from None
        yield _judged(item.path, claim)


_HINT: Final = "ask its owner, or delete it if the workflow that made it is gone or will run again before the clean-up"


def needed(claims: Iterable[Registered], *, grace: int = DISK.claim_grace) -> set[str]:
    """Return the names of the image files that `claims` keep."""
    return {image_name(url) for claim in claims if not claim.has_run_out(grace) for url in claim.urls}


def remember(claim: Registered) -> None:
    """Note in the claim that its lock is missed from now on, or is there again; as far as it can be written."""
    gone = claim.presence is Presence.GONE
    if claim.presence is Presence.UNREADABLE or gone is (claim.claim.missing_since is not None):
        return
    noted = replace(claim.claim, missing_since=facts.now() if gone else None)
    with contextlib.suppress(OSError):
        replace_own(claim.file, noted.dumps(), readable=True)


def _judged(file: Path, claim: Claim) -> Registered:
    presence, locked = _seen(claim)
    urls = frozenset((*(claim.locked if locked is None else locked), *claim.unpinned))
    return Registered(file=file, claim=claim, presence=presence, urls=urls)


def _seen(claim: Claim) -> tuple[Presence, set[str] | None]:
    """Return what is seen of the lock, and the urls that it names now, where it can be read."""
    path = Path(claim.lockfile)
    if not _would_be_seen(claim, path):
        return Presence.UNREADABLE, None
    try:
        content = read_small(Path(os.path.realpath(path)), DISK.claim_size)
        return Presence.HERE, urls_of(lockfile.loads(content.decode(), source=str(path)))
    except (FileNotFoundError, NotADirectoryError):
        return Presence.GONE, None
    except (OSError, NotAFile, ValueError, FreshnessError):
        return Presence.UNREADABLE, None


def _would_be_seen(claim: Claim, path: Path) -> bool:
    """Return whether the lock, were it there, would be seen at `path` from this host."""
    if claim.host == HOST:
        return True
    try:
        return path.parent.stat().st_ino == claim.folder
    except OSError:
        return False


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError
    return moment
