"""Records that earlier versions wrote beside images: hints which digest an image may be of, and no proof.

A small JSON file ``<image>.freshness.json``. A user who can write the folder can write such a file, and so could the
one who made a folder that was cloned or copied here. So nothing is concluded from one but which digest to try: what
proves an image lies in the user's own state folder (:mod:`.store.facts`). Nothing writes them any more.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Self

from snakemake_apptainer_freshness.common.files import (
    NotAFile,
    StatKey,
    read_small,
    status_of,
    writable_by_all,
)
from snakemake_apptainer_freshness.common.tables import Damaged, Table, read_json
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store.prefix import RECORD

VERSION: Final = 1

_TEXTS: Final = ("image", "reference", "pinned", "platform", "refuted", "apptainer", "obtained_at", "obtained_by")


class DamagedRecord(ValueError):
    """A record that cannot be used; the text is the reason."""


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
            table = Table.versioned(read_json(content), VERSION, _KEYS)
            return cls(
                digest=table.parsed("digest", Digest.parse),
                manifest=table.parsed_or_none("manifest", Digest.parse),
                sha256=table.hex("sha256", may_be_empty=False),
                size=table.number("size"),
                writable_by_all=table.yes_or_no("writable_by_all"),
                stat=StatKey.read(table, "stat"),
                **{key: table.text(key) for key in _TEXTS},
            )
        except Damaged as error:
            raise DamagedRecord(f"its record cannot be used: {error}") from None


_KEYS: Final = frozenset(field.name for field in fields(Record))


def path_of(image: Path) -> Path:
    """Return where the record of `image` lies."""
    return image.with_name(image.name + RECORD)


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
        raise DamagedRecord("every user may write its record")
    if record.image != image.name:
        raise DamagedRecord(f"its record is of another image, {record.image[:80]!r}")
    return record
