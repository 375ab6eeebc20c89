"""Facts of configurations: on which day an image was made, as the configuration says that its digest names.

Kept once the configuration was fetched and hashed, in the user's own state folder (:mod:`.store.state`). What a lock
says of it (``hints.created``) is a claim.
"""

import json
import re
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.common.tables import Damaged, Table, read_json
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import state

VERSION: Final = 1
_KEYS: Final = frozenset({"days"})
_MADE: Final = "made"
_DAY: Final = re.compile(r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2})?", re.ASCII)


def day_of(digest: Digest, platform: Platform) -> str | None:
    """Return the day (ISO 8601) on which the image of `digest` for `platform` was made, as its configuration says.

    Empty where that says nothing; None where it was not hashed yet.
    """
    return _days(digest).get(str(platform))


def keep(digest: Digest, platform: Platform, day: str) -> None:
    """Keep what the configuration of that image, which was hashed, says; raises OSError where that cannot be done."""
    known = _days(digest)
    if known.get(str(platform)) != day:
        table = {"version": VERSION, "days": known | {str(platform): day}}
        state.write(_path(digest), (json.dumps(table, indent=1, sort_keys=True) + "\n").encode())


def _days(digest: Digest) -> dict[str, str]:
    content = state.read(_path(digest), DISK.record_size)
    try:
        days = Table.versioned(read_json(content or b""), VERSION, _KEYS).mapping("days")
    except Damaged:
        return {}
    return dict(days) if all(map(_DAY.fullmatch, days.values())) else {}


def _path(digest: Digest) -> Path:
    return state.folder() / _MADE / digest.hex[:2] / f"{digest.algorithm}-{digest.hex}.json"
