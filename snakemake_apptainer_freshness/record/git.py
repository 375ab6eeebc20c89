"""The repository that a workflow lies in, as git tells it.

Where there is no git, no repository, or no answer in time, nothing is known, and that is said: never an error. Nothing
in the repository is changed, and no program that its configuration names is started but those that git needs to
compare files.
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.settings import RECORDS

_QUIETLY: Final = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
_CALM: Final = ("-c", "core.fsmonitor=false", "-c", "core.pager=cat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """The commit that is checked out (empty: none, or not known), and whether tracked files differ from it.

    `lock_committed` says whether the lock's bytes are in that commit; None where that could not be asked.
    """

    name: str = ""
    dirty: bool | None = None
    lock_committed: bool | None = None


def commit_of(snakefile: Path, lock: Path, content: bytes | None) -> Commit:
    """Return the commit that the workflow of `snakefile` is at.

    `content` is what its `lock` file holds, None without one.
    """
    name = _git(snakefile.parent, "rev-parse", "--verify", "--quiet", "HEAD")
    if name is None:
        return Commit()
    status = _git(snakefile.parent, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
    return Commit(
        name=name.decode("ascii", "replace").strip(),
        dirty=None if status is None else bool(status.strip()),
        lock_committed=None if content is None else _is_committed(lock, content),
    )


def committed_content(file: Path) -> bytes | None:
    """Return what `file` holds in the commit that is checked out; None where it is in none, or is no lock's size."""
    name = f"HEAD:./{file.name}"
    size = _git(file.parent, "cat-file", "-s", name)
    if size is None or not size.strip().isdigit() or int(size) > RECORDS.lock_size:
        return None
    return _git(file.parent, "cat-file", "blob", name)


def tracked_files(folder: Path) -> list[str] | None:
    """Return the files in `folder` that its repository tracks, as paths within; None where it lies in none."""
    listed = _git(folder, "ls-files", "-z")
    return None if listed is None else [os.fsdecode(name) for name in listed.split(b"\0") if name]


def top_of(folder: Path) -> Path | None:
    """Return the top of the repository that `folder` lies in; None where it lies in none."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    return None if top is None else Path(os.fsdecode(top.rstrip(b"\n")))


def _is_committed(lock: Path, content: bytes) -> bool | None:
    """Return whether the commit of the repository that `lock` lies in has these bytes for it.

    None where it lies in none.
    """
    if _git(lock.parent, "rev-parse", "--verify", "--quiet", "HEAD") is None:
        return None
    return committed_content(lock) == content


def _git(folder: Path, *arguments: str) -> bytes | None:
    """Return what git prints in `folder`; None where it fails."""
    try:
        answer = subprocess.run(
            ["git", *_CALM, *arguments],
            cwd=folder,
            env=os.environ | _QUIETLY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=RECORDS.repository_timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None
