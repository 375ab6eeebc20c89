"""Aliases: links from the name that Snakemake gives to a tag's image to the proven image, while a run lasts.

Plain Snakemake keeps the image of a tag as ``md5(tag url).simg``, and some workflows open that file, say in ``onstart``
to read the labels of their tools. With pins the image is ``md5(pinned url).simg``. So a run links the first name to the
second: a relative symbolic link in the image folder, which nothing of ours ever follows.

The link is taken back when the run ends. While it is there plain Snakemake would take the pinned image for that of the
tag, as if it had pulled it; and the link tells nothing of what made older outputs. Of several runs on one folder the
last that made the link takes it back. A file under the name of a tag is what plain Snakemake once pulled: it stays.

A symbolic link and no hard one, since that would change the times of the image, by which it is known as proven.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from snakemake_apptainer_freshness.common.files import unique
from snakemake_apptainer_freshness.store.prefix import OURS, alias_target, image_name


class Aliases:
    """The links that one run has made in the image folder `prefix`."""

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        self._made: dict[str, tuple[int, int]] = {}

    def make(self, urls: Mapping[str, str]) -> None:
        """Link the name of each reference to the image of its pin, `urls` by reference, where that is there.

        A folder that cannot be written gets none: what looks for them finds no more than before.
        """
        for reference, url in urls.items():
            name, target = image_name(reference), image_name(url)
            if name != target and name not in self._made and (self._prefix / target).is_file():
                with contextlib.suppress(OSError):
                    self._link(name, target)

    def _link(self, name: str, target: str) -> None:
        path = self._prefix / name
        if os.path.lexists(path) and alias_target(path) is None:
            return
        made = self._prefix / f"{OURS}alias-{unique()}"
        made.symlink_to(target)
        identity = _identity(made)
        try:
            made.replace(path)
        except OSError:
            made.unlink()
            raise
        self._made[name] = identity

    def take_back(self) -> None:
        """Remove the links, but those that another run has made anew."""
        for name, identity in self._made.items():
            path = self._prefix / name
            with contextlib.suppress(OSError):
                if _identity(path) == identity:
                    path.unlink()
        self._made.clear()


def _identity(path: Path) -> tuple[int, int]:
    """Return what tells the link at `path` from one that is made there later."""
    status = path.lstat()
    return status.st_ino, status.st_mtime_ns
