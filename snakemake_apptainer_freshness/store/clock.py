"""The clock of an image folder: what its file system says that the time is.

Its clock stamps the images, on NFS the server's; ours may differ, and may be set. A stat key stands for a hash only
once the file's times are older than the hashing by that clock (:mod:`.store.places`, :mod:`.store.held`).
"""

import contextlib
import time
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.common.files import unique
from snakemake_apptainer_freshness.settings import DISK

_NANOSECONDS: Final = 1_000_000_000


def time_or_past(folder: Path, *, read_only: bool = False) -> int:
    """Return the time of the file system of `folder` or, where it cannot be written, a time that is past there.

    In a folder that is `read_only` to us, nothing is written to tell the time.

    That is our own clock, set back by more than two clocks of one network differ. So an old image in a folder of a site
    is not hashed by each check.
    """
    if not read_only:
        with contextlib.suppress(OSError):
            return time_in(folder)
    return time.time_ns() - int(DISK.clock_doubt * _NANOSECONDS)


def time_in(folder: Path) -> int:
    """Return what the file system of `folder` says that the time is, in nanoseconds; raises OSError if read-only."""
    probe = folder / f".freshness-clock-{unique()}"
    try:
        probe.touch(exist_ok=False)
        return probe.lstat().st_mtime_ns
    finally:
        probe.unlink(missing_ok=True)
