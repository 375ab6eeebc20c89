"""The index: what the records of a folder say, in one file, so that a check of thousands of images opens nothing else.

It saves opening each record, which takes a round trip each on NFS. A row is a copy of what makes a record vouch for its
image without a hash: the stat key of the record, its pin, and the image's stat key. It counts only while both
files are what they were; so an index is never wrong, only incomplete, and may be deleted, damaged or old. Folders with
fewer than :data:`~.settings.DiskLimits.index_from` images have none.
"""

import contextlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness.common.files import (
    HOST,
    NotAFile,
    StatKey,
    read_small,
    replace_own,
    status_of,
    writable_by_all,
)
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import records
from snakemake_apptainer_freshness.store.prefix import INDEX, image_name
from snakemake_apptainer_freshness.store.records import DamagedRecord

_VERSION: Final = 1


def vouched(prefix: Path, pins: Iterable[Pin]) -> Iterator[Pin]:
    """Those of `pins` whose images are what their records say, as far as the index in `prefix` knows; opens none."""
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
            image = os.lstat(folder + name)
            record = os.lstat(folder + name + records.SUFFIX)
            if _fits(values, pin, image, record):
                yield pin


def _fits(row: Any, pin: Pin, image: os.stat_result, record: os.stat_result) -> bool:
    """Whether `row`, which may be anything, vouches for `pin`."""
    record_key, pinned, digest, writable, image_key = row
    return (
        stat.S_ISREG(image.st_mode)
        and stat.S_ISREG(record.st_mode)
        and pinned == pin.url
        and digest == str(pin.digest)
        and _is(image_key, image)
        and _is(record_key, record)
        and (writable is True or not writable_by_all(image.st_mode | record.st_mode))
    )


def _is(key: Any, status: os.stat_result) -> bool:
    """Whether `key` was written of what has this `status`: :meth:`StatKey.same_file`, for thousands."""
    host, device, *rest = key
    same: bool = rest == [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    return same and (host != HOST or device == status.st_dev)


def build(prefix: Path, pins: Iterable[Pin]) -> None:
    """Put the records of `pins` in `prefix` into its index, as far as they are settled and it can be written."""
    try:
        now = records.clock_of(prefix)
        rows = dict(_load(prefix))
        for pin in pins:
            name = image_name(pin.url)
            rows.pop(name, None)
            if row := _row(prefix / name, now):
                rows[name] = row
        present = set(os.listdir(prefix))  # noqa: PTH208  names are all that is needed
        kept = {name: values for name, values in sorted(rows.items()) if name in present}
        replace_own(prefix / INDEX, json.dumps({"version": _VERSION, "images": kept}).encode())
    except OSError:
        return


def _row(image: Path, now: int) -> list[Any] | None:
    """The row of `image`; None where its record does not vouch for it, or is too young to be known by its times."""
    try:
        key = StatKey.of(status_of(records.path_of(image)))  # before it is read: a change after this makes the row void
        record = records.load(image)
    except (OSError, NotAFile, DamagedRecord):
        return None
    if record is None or record.stat is None or not key.settled(now):
        return None
    return [astuple(key), record.pinned, str(record.digest), record.writable_by_all, astuple(record.stat)]


def _load(prefix: Path) -> Mapping[str, Any]:
    """The rows of the index by the image's name, not yet checked; none where there is no sound index."""
    try:
        if writable_by_all(status_of(prefix / INDEX).st_mode):
            return {}
        table = json.loads(read_small(prefix / INDEX, DISK.index_size))
    except (OSError, NotAFile, ValueError, RecursionError):
        return {}
    if not isinstance(table, dict) or table.get("version") != _VERSION or not isinstance(table.get("images"), dict):
        return {}
    images: Mapping[str, Any] = table["images"]
    return images
