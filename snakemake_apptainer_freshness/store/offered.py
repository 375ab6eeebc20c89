"""Facts of platforms: for which ones there is an image under a digest, all of them, as what the digest names says.

That is its index, or the configuration of a single image. Kept once that was fetched and hashed, in the user's own
state folder (:mod:`.store.state`). What a lock says of it (``platforms``) is a claim. The table of :mod:`.store.facts`
is no answer to this: it may have the one platform that was asked for, and a single image under any.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.common.tables import Damaged, Table, read_json
from snakemake_apptainer_freshness.errors import InvalidReference
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import state

VERSION: Final = 1
_KEYS: Final = frozenset({"platforms"})
_OFFERED: Final = "offered"


def platforms_of(digest: Digest) -> frozenset[Platform] | None:
    """Return the platforms that `digest` has images for; None where what it names was not hashed yet."""
    content = state.read(_path(digest), DISK.record_size)
    if content is None:
        return None
    try:
        texts = Table.versioned(read_json(content), VERSION, _KEYS).texts("platforms")
        return frozenset(map(Platform.parse, texts))
    except (Damaged, InvalidReference):
        return None


def keep(digest: Digest, platforms: Iterable[Platform]) -> None:
    """Keep that what `digest` names, which was hashed, has images for `platforms` and no others; raises OSError."""
    table = {"version": VERSION, "platforms": sorted(map(str, platforms))}
    state.write(_path(digest), (json.dumps(table, indent=1) + "\n").encode())


def _path(digest: Digest) -> Path:
    return state.folder() / _OFFERED / digest.hex[:2] / f"{digest.algorithm}-{digest.hex}.json"
