"""Facts of descriptions: what an index or a configuration that was fetched and hashed says of the image it describes.

On which day it was made, for a platform, and for which platforms there is one at all. What a lock says of either
(``hints.created``, ``platforms``) is a claim. Each is kept in a file of its own in the user's own state folder
(:mod:`.store.state`). The table of :mod:`.store.facts` is no answer to the second: it may have the one platform that
was asked for, and a single image under any.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness.common.tables import Damaged, Table, read_json
from snakemake_apptainer_freshness.errors import InvalidReference
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import state

VERSION: Final = 1
_DAYS: Final = ("made", "days")
_PLATFORMS: Final = ("offered", "platforms")
"""The folder of such facts, and the one key of each."""
_DAY: Final = re.compile(r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2})?", re.ASCII)


def day_of(digest: Digest, platform: Platform) -> str | None:
    """Return the day (ISO 8601) on which the image of `digest` for `platform` was made, as its configuration says.

    Empty where that says nothing; None where it was not hashed yet.
    """
    return _days(digest).get(str(platform))


def keep_day(digest: Digest, platform: Platform, day: str) -> None:
    """Keep what the configuration of that image, which was hashed, says; raises OSError where that cannot be done."""
    known = _days(digest)
    if known.get(str(platform)) != day:
        _keep(_DAYS, digest, known | {str(platform): day})


def platforms_of(digest: Digest) -> frozenset[Platform] | None:
    """Return the platforms that `digest` has images for; None where what it names was not hashed yet."""
    table = _table(_PLATFORMS, digest)
    try:
        return None if table is None else frozenset(map(Platform.parse, table.texts(_PLATFORMS[1])))
    except (Damaged, InvalidReference):
        return None


def keep_platforms(digest: Digest, platforms: Iterable[Platform]) -> None:
    """Keep that what `digest` names, which was hashed, has images for `platforms` and no others; raises OSError."""
    _keep(_PLATFORMS, digest, sorted(map(str, platforms)))


def _days(digest: Digest) -> dict[str, str]:
    table = _table(_DAYS, digest)
    try:
        days = {} if table is None else dict(table.mapping(_DAYS[1]))
    except Damaged:
        return {}
    return days if all(map(_DAY.fullmatch, days.values())) else {}


def _table(kind: tuple[str, str], digest: Digest) -> Table | None:
    """Return the fact of `kind` about `digest`; None where there is none, or a damaged one."""
    content = state.read(_path(kind, digest), DISK.record_size)
    try:
        return None if content is None else Table.versioned(read_json(content), VERSION, frozenset({kind[1]}))
    except Damaged:
        return None


def _keep(kind: tuple[str, str], digest: Digest, value: Any) -> None:
    table = {"version": VERSION, kind[1]: value}
    state.write(_path(kind, digest), (json.dumps(table, indent=1, sort_keys=True) + "\n").encode())


def _path(kind: tuple[str, str], digest: Digest) -> Path:
    return state.folder() / kind[0] / digest.hex[:2] / f"{digest.algorithm}-{digest.hex}.json"
