"""Records that earlier versions wrote beside images: a hint which digest an image may be of, and never believed.

A small JSON file ``<image>.freshness.json``. Whoever can write the folder can write such a file, and so can whoever
made a folder that was cloned or copied here. So nothing is concluded from one but which digest to try: what proves an
image lies in the user's own state folder (:mod:`.store.facts`). Nothing writes them any more.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Self

from snakemake_apptainer_freshness.common.files import (
    NotAFile,
    StatKey,
    read_small,
    status_of,
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

_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TEXTS: Final = ("image", "reference", "pinned", "platform", "refuted", "apptainer", "obtained_at", "obtained_by")
_LONGEST_TEXT: Final = 4096


class DamagedRecord(ValueError):
    """A record that says nothing; the text is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What an earlier version wrote of one image that it had fetched.

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

    @classmethod
    def loads(cls, content: bytes) -> Self:
        """Return the record that `content` spells.

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
    """Return where the record of `image` lies."""
    return image.with_name(image.name + SUFFIX)


def load(image: Path) -> Record | None:
    """Return the record of `image`; None where there is none.

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
