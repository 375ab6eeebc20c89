"""A program that stands in for Apptainer where a test needs it to misbehave, or to be fast.

It answers ``--version`` and ``pull [--disable-cache] DESTINATION URL``, writes each URL to a log, and copies a file
that was prepared for that URL. What else it does is a few lines of shell, which see ``$destination``,
``$past_cache``, ``$url`` and ``$image``.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from pathlib import Path

from snakemake_apptainer_freshness.pin import Pin
from tests.support import sifs

COPY = 'cp "$image" "$destination"'

_SCRIPT = """#!/bin/sh
if [ "$1" = --version ]; then echo {version}; exit 0; fi
shift
past_cache=
if [ "$1" = --disable-cache ]; then shift; past_cache=1; fi
destination=$1 url=$2
image={folder}/$(printf %s "$url" | md5sum | cut -d' ' -f1)
echo "$url" >> {log}
{behaviour}
"""


class FakeApptainer:
    """The program, in a folder of its own."""

    def __init__(self, folder: Path, *, version: str = "apptainer version 1.4.5", name: str = "apptainer") -> None:
        self._images = folder / "served"
        self._images.mkdir(parents=True)
        self._log = folder / "pulls.log"
        self._program = folder / "bin" / name
        self._program.parent.mkdir()
        self._version = version
        self.environment = {
            "PATH": os.pathsep.join([str(self._program.parent), os.environ.get("PATH", os.defpath)]),
            "HOME": str(folder / "home"),
            "APPTAINER_DISABLE_CACHE": "1",
            "TMPDIR": str(folder / "tmp"),
        }
        (folder / "tmp").mkdir()
        self.temporary = folder / "tmp"
        self.behave(COPY)

    def behave(self, behaviour: str) -> None:
        """Do this instead of a plain copy."""
        text = _SCRIPT.format(
            version=shlex.quote(self._version),
            folder=shlex.quote(str(self._images)),
            log=shlex.quote(str(self._log)),
            behaviour=behaviour,
        )
        new = self._program.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o755)
        new.replace(self._program)

    def serve(self, pin: Pin, content: bytes | None = None) -> bytes:
        """Have an image for `pin`: a sound one, labelled with its digest, unless `content` is given."""
        if content is None:
            content = sifs.pulled(pin.url.partition("://")[2])
        (self._images / hashlib.md5(pin.url.encode(), usedforsecurity=False).hexdigest()).write_bytes(content)
        return content

    @property
    def pulls(self) -> list[str]:
        """The URLs that were pulled, in order."""
        return self._log.read_text().split() if self._log.exists() else []


def unprivileged() -> list[str]:
    """What makes a program that root starts obey file modes, as everyone else's does; nothing for everyone else."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-chown,-fowner"]


def python(code: str) -> list[str]:
    """The command that runs `code`."""
    return [sys.executable, "-c", code]
