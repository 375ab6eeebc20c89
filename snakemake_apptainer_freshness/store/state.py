"""The user's state folder, where proofs are kept: made, checked for its owner and mode, read and written.

``$XDG_STATE_HOME/apptainer-freshness``, by default ``~/.local/state/apptainer-freshness``; the environment variable
``APPTAINER_FRESHNESS_STATE`` names another by its absolute path. No configuration of a workflow can: a folder that came
from another user must not bring proofs along. So the folder must belong to the user who runs this, and no other user
may write it; anything else is an error and not an empty store, since it would hide that proofs were planted.

The folder is made when the first thing is written, with mode 0700, and files in it with mode 0600. A file appears whole
or not at all, under its name, by a rename; so any number of processes on any number of hosts, with a home on NFS as
well, may read and write it at once.
"""

import errno
import hashlib
import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.common.files import NotAFile, appearing, read_small
from snakemake_apptainer_freshness.errors import LocalIOError, UsageError

VARIABLE: Final = "APPTAINER_FRESHNESS_STATE"
_NAME: Final = "apptainer-freshness"
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_HINT: Final = f"name a folder of your own in {VARIABLE}"


def folder() -> Path:
    """Return the state folder of this user, which may not be there yet.

    Raises
    ------
    UsageError
        where the environment names it by a relative path, or it cannot be believed.
    LocalIOError
        where it cannot be looked at.
    """
    environment = os.environ.get
    return _checked(environment(VARIABLE, ""), environment("XDG_STATE_HOME", ""), environment("HOME", ""), os.geteuid())


@lru_cache(maxsize=8)
def _checked(chosen: str, state_home: str, home: str, user: int) -> Path:
    """Return the folder that these values of the environment name, once it was looked at; a process looks once."""
    if chosen and not Path(chosen).is_absolute():
        raise UsageError(f"{VARIABLE} must be an absolute path, not {chosen!r}", hint=_HINT)
    if chosen:
        path = Path(chosen)
    elif Path(state_home).is_absolute():  # the specification has relative ones ignored
        path = Path(state_home, _NAME)
    else:
        path = Path(home or Path("~").expanduser(), ".local", "state", _NAME)
    _refuse_foreign(path, user)
    return path


def _refuse_foreign(path: Path, user: int) -> None:
    """Refuse a folder that others may write to, or that belongs to another user."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise LocalIOError(f"cannot look at the state folder {path}: {error.strerror}", hint=_HINT) from error
    if not stat.S_ISDIR(status.st_mode):
        raise UsageError(f"the state folder {path} is no folder", hint=f"move it away, or {_HINT}")
    if status.st_uid != user:
        raise UsageError(
            f"the state folder {path} belongs to user {status.st_uid}, not to user {user} who runs this: "
            "what it says was proven cannot be believed",
            hint=_HINT,
        )
    if status.st_mode & _WRITABLE_BY_OTHERS:
        raise UsageError(
            f"others may write to the state folder {path} (mode {stat.S_IMODE(status.st_mode):04o}): "
            "what it says was proven cannot be believed",
            hint=f"if no other user did, chmod 0700 {path}; else delete it, and images are proven anew",
        )


def read(path: Path, limit: int) -> bytes | None:
    """Return what the file `path` of the state folder holds; None where there is none that can be believed or read."""
    try:
        status = os.lstat(path)
        if status.st_mode & _WRITABLE_BY_OTHERS or status.st_uid != os.geteuid():
            return None  # another user may have written it, so it proves nothing
        return read_small(path, limit)
    except (OSError, NotAFile, ValueError):
        return None


def write(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Put `content` into the file `path` of the state folder, whole or not at all; raises OSError where it cannot.

    What can be asked for again need not be `durable` (:func:`.files.appearing`), which saves the wait for the disk.
    """
    try:
        _replace(path, content, durable=durable)
    except FileNotFoundError:
        make(path.parent)
        _replace(path, content, durable=durable)


def make(path: Path) -> None:
    """Make the folder `path` of the state folder, and what leads there: for this user alone, whatever the umask."""
    root = folder()
    root.parent.mkdir(parents=True, exist_ok=True)
    for each in (root, *reversed([parent for parent in path.parents if root in parent.parents]), path):
        each.mkdir(mode=0o700, exist_ok=True)


def _replace(path: Path, content: bytes, *, durable: bool) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with appearing(path, created=0o600, durable=durable) as file:
        file.write(content)


def cannot_write(error: OSError) -> LocalIOError:
    """Return the error for a user where what was proven cannot be kept."""
    return LocalIOError(
        f"cannot keep what was proven in the state folder {folder()}: {error.strerror or error}",
        hint=f"make it writable, or {_HINT}",
    )


def key_of(path: Path) -> str:
    """Return the name under which things about the folder or file `path` are kept: it stands for its real path."""
    return hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:40]
