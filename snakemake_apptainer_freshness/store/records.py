"""The record: beside each image that we fetched, what it is and how we got it.

A small JSON file ``<image>.freshness.json``, written atomically, so that any number of runs on any number of hosts
may read it while it is replaced. It binds the image's bytes (SHA-256) to the digest that they were pulled by. A
record that is damaged, of a newer version, or of another image says nothing: the image is then judged without it,
never worse than if there had been no record, and never better.

The record also holds the stat key under which the image was last hashed, so that the next check is one ``stat``. A
key is kept only once the image's times are two seconds older than the hashing by the clock of the file system itself;
until then every check hashes anew.

Whoever can write the folder can write records and images alike; against him a record is no protection.
"""

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from snakemake_apptainer_freshness.common.files import (
    NotAFile,
    StatKey,
    read_small,
    replace_own,
    status_of,
    unique,
    writable_by_all,
)
from snakemake_apptainer_freshness.errors import InvalidDigest
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import DISK

VERSION: Final = 1
SUFFIX: Final = ".freshness.json"

PULLED: Final = "pulled by digest"
COPIED: Final = "copied from Apptainer's cache, where we had pulled it by digest"
BUNDLED: Final = "loaded from a bundle; its SHA-256 is the one that its reference names"
BUILT: Final = "built from the layers that its digest names, which came in a bundle"

_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TEXTS: Final = ("image", "reference", "pinned", "platform", "refuted", "apptainer", "obtained_at", "obtained_by")
_LONGEST_TEXT: Final = 4096


class DamagedRecord(ValueError):
    """A record that says nothing; the text is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What we know of one image because we fetched it.

    `image` is the file's name, `pinned` what was pulled, `digest` what that names, `manifest` the platform's manifest
    where it is another one, `sha256` (hex) and `size` the file's. `writable_by_all` says that the folder's file
    system gives every file that mode, so that the mode says nothing. `stat` is the key under which `sha256` was last
    seen to hold, where that is to be trusted. `refuted` says why what has this `sha256` is provably not what `pinned`
    names, whatever its label says; empty in every other record. `obtained_at` is UTC, ISO 8601.
    """

    image: str
    reference: str
    pinned: str
    digest: Digest
    platform: str
    manifest: Digest | None = None
    sha256: str
    size: int
    writable_by_all: bool = False
    stat: StatKey | None = None
    refuted: str = ""
    apptainer: str
    obtained_at: str
    obtained_by: str

    def pin(self) -> Pin:
        """Return what this record says that its image has to be.

        Raises
        ------
        FreshnessError
            where a text in it is no reference or no platform.
        """
        pinned = parse(self.pinned)
        return Pin(
            reference=parse(self.reference),
            pinned=pinned,
            digest=self.digest,
            platform=Platform.parse(self.platform),
            manifest=self.manifest,
            content=self.digest if pinned.scheme.is_content else None,
        )

    def dumps(self) -> bytes:
        """The record as it is written."""
        table: dict[str, Any] = {"version": VERSION}
        for field in fields(self):
            value = getattr(self, field.name)
            table[field.name] = str(value) if isinstance(value, Digest) else value
        table["stat"] = self.stat.to_dict() if self.stat else None
        return (json.dumps(table, indent=1) + "\n").encode()

    @classmethod
    def loads(cls, content: bytes) -> Self:
        """The record that `content` spells.

        Raises
        ------
        DamagedRecord
            where it is not one, or of a newer version.
        """
        try:
            table = json.loads(content)
        except (ValueError, RecursionError):
            raise DamagedRecord("its record is not JSON") from None
        if not isinstance(table, dict):
            raise DamagedRecord("its record is not an object")
        if type(version := table.pop("version", None)) is not int or version > VERSION:
            raise DamagedRecord(f"its record has version {str(version)[:20]}; this program knows version {VERSION}")
        try:
            return cls(**_checked(table))
        except (ValueError, TypeError, InvalidDigest):
            raise DamagedRecord("its record is damaged") from None


def _checked(table: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(table)
    if set(values) != {field.name for field in fields(Record)}:
        raise ValueError
    if not all(isinstance(values[key], str) and len(values[key]) <= _LONGEST_TEXT for key in _TEXTS):
        raise ValueError
    if type(values["size"]) is not int or type(values["writable_by_all"]) is not bool:
        raise ValueError
    if _HEX.fullmatch(values["sha256"]) is None:
        raise ValueError
    values["digest"] = Digest.parse(values["digest"])
    values["manifest"] = None if values["manifest"] is None else Digest.parse(values["manifest"])
    values["stat"] = None if values["stat"] is None else StatKey.from_dict(values["stat"])
    return values


def path_of(image: Path) -> Path:
    """Where the record of `image` lies."""
    return image.with_name(image.name + SUFFIX)


def load(image: Path) -> Record | None:
    """The record of `image`; None where there is none.

    Raises
    ------
    DamagedRecord
        where what is there says nothing.
    """
    try:
        exposed = writable_by_all(status_of(path_of(image)).st_mode)
        record = Record.loads(read_small(path_of(image), DISK.record_size))
    except FileNotFoundError:
        return None
    except NotAFile as error:
        raise DamagedRecord(f"its record is {error}") from None
    except OSError as error:
        raise DamagedRecord(f"its record cannot be read: {error.strerror}") from None
    except DamagedRecord:
        raise
    except ValueError:
        raise DamagedRecord("its record is too large to be one") from None
    if exposed and not record.writable_by_all:
        raise DamagedRecord("anyone may write to its record")
    if record.image != image.name:
        raise DamagedRecord(f"its record is of another image, {record.image[:80]!r}")
    return record


def store(image: Path, record: Record) -> None:
    """Write the record of `image`; raises OSError where that cannot be done."""
    target = path_of(image)
    with contextlib.suppress(OSError):
        if target.is_symlink() or (target.exists() and not target.is_file()):
            target.rename(target.with_name(f"{target.name}.quarantine-{unique()}"))
    replace_own(target, record.dumps())


def clock_of(folder: Path) -> int:
    """What the file system of `folder` says that the time is, in nanoseconds; raises OSError where it is read-only.

    Its clock stamps the images, on NFS the server's; ours may differ, and may be set.
    """
    probe = folder / f".freshness-clock-{unique()}"
    try:
        probe.touch(exist_ok=False)
        return probe.lstat().st_mtime_ns
    finally:
        probe.unlink(missing_ok=True)


def with_stat(record: Record, stat: StatKey, *, hashed_at: int) -> Record:
    """`record` after the image, with the key `stat`, was hashed from `hashed_at` (the file system's clock) on."""
    return replace(record, stat=stat if stat.settled(hashed_at) else None)


def now() -> str:
    """The time for `obtained_at`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def renamed(record: Record, image: Path) -> Record:
    """`record` for the file under the name that it is about to get."""
    return replace(record, image=image.name)
