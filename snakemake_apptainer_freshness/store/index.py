"""The index: what the facts of a folder's images say, in one file, so that a check of thousands opens nothing else.

It saves opening two small files an image, which takes a round trip each where the home is on NFS. A row is a copy of
what lets an image be known without a hash: the stat key of the image, and of which digest on which platform it is. It
counts only while the image is what it was; so an index is never wrong, only incomplete, and may be deleted, damaged or
old. It lies in the user's state folder (:mod:`.store.state`). Folders with fewer than
:data:`~.settings.DiskLimits.index_from` images have none.
"""

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness.common.files import HOST, StatKey, writable_by_all
from snakemake_apptainer_freshness.common.tables import Damaged, Table, read_json, version_of
from snakemake_apptainer_freshness.freshness import FileHash
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import places, state
from snakemake_apptainer_freshness.store.prefix import image_name

_VERSION: Final = 3
_INDEXES: Final = "indexes"
_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def vouched(prefix: Path, pins: Iterable[Pin]) -> Iterator[tuple[Pin, FileHash]]:
    """Yield those of `pins` whose images are what their facts say, as far as the index of `prefix` knows.

    Each with what its image hashed to; opens none.
    """
    rows = _load(prefix)
    if not rows:
        return
    folder = f"{os.fspath(prefix)}/"
    for pin in pins:
        name = image_name(pin.url)
        values = rows.get(name)
        if values is None:
            continue
        with contextlib.suppress(OSError, ValueError, TypeError):
            if _fits(values, pin, os.lstat(folder + name)):
                yield pin, _hash_of(values)


def _fits(row: Any, pin: Pin, image: os.stat_result) -> bool:
    """Return whether `row`, which may be anything, vouches for `pin`."""
    digest, platform, sha256, writable, key = row
    return (
        stat.S_ISREG(image.st_mode)
        and digest == str(pin.digest)
        and platform == str(pin.platform)
        and _HEX.fullmatch(sha256) is not None
        and _is(key, image)
        and (writable is True or not writable_by_all(image.st_mode))
    )


def _is(key: Any, status: os.stat_result) -> bool:
    """Return whether `key` was written of what has this `status`: :meth:`StatKey.same_file`, for thousands."""
    host, device, *rest = key
    same: bool = rest == [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return same and (host != HOST or device == status.st_dev)


def _hash_of(row: Any) -> FileHash:
    """Return what the image of a `row` that fits hashed to."""
    _, _, sha256, writable, key = row
    stat_key = StatKey(**dict(zip(StatKey.__slots__, key, strict=True)))
    return FileHash(sha256=sha256, stat=stat_key, writable_by_all=writable is True)


def build(prefix: Path, pins: Iterable[Pin]) -> None:
    """Put what is known of the images of `pins` in `prefix` into its index, as far as that can be written."""
    try:
        rows = dict(_load(prefix))
        for pin in pins:
            name = image_name(pin.url)
            rows.pop(name, None)
            if row := _row(prefix / name, pin):
                rows[name] = row
        present = set(os.listdir(prefix))  # noqa: PTH208  names are all that is needed
        kept = {name: values for name, values in sorted(rows.items()) if name in present}
        state.write(path_of(prefix), json.dumps({"version": _VERSION, "images": kept}).encode())
    except OSError:
        return


def forget_all() -> None:
    """Delete every index: a fact that one may hold a copy of has been refuted."""
    folder = state.folder() / _INDEXES
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208  names are all that is needed
            (folder / name).unlink(missing_ok=True)


def path_of(prefix: Path) -> Path:
    """Return where the index of `prefix` lies."""
    return state.folder() / _INDEXES / f"{state.key_of(prefix)}.json"


def _row(image: Path, pin: Pin) -> list[Any] | None:
    """Return the row of `image`; None where what is known of it does not vouch for it without a hash."""
    place = places.load(image)
    fact = place.content if place is not None else None
    if place is None or place.stat is None or fact is None or fact.refuted or not fact.is_about(pin):
        return None
    if fact.store:  # a copy would outlive what a site takes back
        return None
    return [str(pin.digest), str(pin.platform), place.sha256, place.writable_by_all, astuple(place.stat)]


def _load(prefix: Path) -> Mapping[str, Any]:
    """Return the rows of the index by the image's name, not yet checked; none where there is no sound index."""
    try:
        content = state.read(path_of(prefix), DISK.index_size)
        if content is None or version_of(document := read_json(content)) != _VERSION:
            return {}
        images = Table.versioned(document, _VERSION, frozenset({"images"})).values["images"]
    except Damaged:
        return {}
    return images if isinstance(images, dict) else {}
