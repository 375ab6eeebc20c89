"""Folders that cannot be written to, for one command and what it starts: a mount namespace of its own."""

from __future__ import annotations

import os
from pathlib import Path

_SCRIPT = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


def with_read_only(folder: Path) -> list[str]:
    """What to put before a command for which `folder` is a read-only mount, even for root."""
    namespaces = ["--mount"] if os.geteuid() == 0 else ["--mount", "--user", "--map-root-user"]
    return ["unshare", *namespaces, "--", "sh", "-c", _SCRIPT, str(folder)]
