"""What makes Apptainer slow on this machine: where it unpacks images, and how it mounts them.

* It unpacks the layers of an image below its temporary folder, file by file. A parallel file system takes minutes for
  what a local disk does in seconds; a small tmpfs fills up, and takes memory.
* An installation with its setuid starter mounts by the kernel. Every other one mounts through FUSE, by squashfuse_ll
  where it finds that, else by squashfuse, which reads with one thread. It looks in its own ``bin`` folder, then on
  PATH. Where it finds neither it unpacks the whole image for each job.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.actions.machine import MachineProblem
from snakemake_apptainer_freshness.apptainer.program import Apptainer
from snakemake_apptainer_freshness.common.environment import is_on
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.settings import DISK

MOUNTS: Final = Path("/proc/self/mountinfo")
KIND: Final = "slow"
_SHARED: Final = frozenset(
    {"afs", "beegfs", "ceph", "cifs", "cvmfs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "panfs", "smb3", "wekafs"}
)
"""File systems of many machines, as the kernel calls them; FUSE puts ``fuse.`` before the name."""
SMALL: Final = 8 * 1024**3
"""Bytes of a tmpfs below which a large image does not fit unpacked."""
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")
_BUILT_WITH: Final = re.compile(r"^LIBEXECDIR=(.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount: where it is, and the type of its file system."""

    point: str
    file_system: str


def mount_of(path: Path, mounts: str) -> Mount | None:
    """Return the mount that `path`, absolute and without links, lies in, of what ``mountinfo`` says (proc(5)).

    Of several at one place the last counts: it hides those before.
    """
    found = None
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields, after = left.split(" "), right.split(" ")
        if len(fields) < 5 or not after[0]:  # noqa: PLR2004  the mount point is the fifth
            continue
        point = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[4])
        if path.is_relative_to(point) and (found is None or len(point) >= len(found.point)):
            found = Mount(point=point, file_system=after[0])
    return found


def slowness(environment: Mapping[str, str], temporary: Path, mounts: Path = MOUNTS) -> Iterator[MachineProblem]:
    """Give what makes Apptainer slow: where its `temporary` folder lies, and how it mounts."""
    yield from _of_folder(temporary, mounts)
    if is_on(environment, "APPTAINER_UNSQUASH"):
        return  # images are unpacked because that is wanted
    try:
        program = Apptainer.find(environment)
    except FreshnessError:
        return
    yield from _of_mounting(program.program, environment)


def _of_folder(folder: Path, mounts: Path) -> Iterator[MachineProblem]:
    try:
        mount = mount_of(folder.resolve(), mounts.read_text(encoding="utf-8", errors="surrogateescape"))
        statistics = os.statvfs(folder)
    except OSError:
        return
    size = statistics.f_blocks * statistics.f_frsize
    if mount is None:
        return
    elsewhere = "set APPTAINER_TMPDIR to a folder on a local disk"
    name = mount.file_system.removeprefix("fuse.")
    if name in _SHARED:
        yield MachineProblem(
            kind=KIND, text=f"Apptainer unpacks images in {folder}, which is on {name}: that takes long", hint=elsewhere
        )
    elif name == "tmpfs" and size < SMALL:
        yield MachineProblem(
            kind=KIND,
            text=f"Apptainer unpacks images in {folder}, a tmpfs of {size / 1024**3:.1f} GiB: a large image does not "
            "fit, and what is there takes memory",
            hint=elsewhere,
        )


def _of_mounting(program: str, environment: Mapping[str, str]) -> Iterator[MachineProblem]:
    own = _own_programs(program, environment)
    if own is not None and (own / "starter-suid").exists():
        return
    path = os.pathsep.join([*([str(own)] if own is not None else []), environment.get("PATH", os.defpath)])
    if shutil.which("squashfuse_ll", path=path) is not None:
        return
    hint = "install squashfuse with squashfuse_ll (Debian: squashfuse; Fedora and EPEL: squashfuse)"
    if shutil.which("squashfuse", path=path) is not None:
        text = "Apptainer finds squashfuse and no squashfuse_ll: it reads images with one thread"
    else:
        text = "Apptainer finds no squashfuse: it unpacks the whole image for each job"
    yield MachineProblem(kind=KIND, text=text, hint=hint)


def _own_programs(program: str, environment: Mapping[str, str]) -> Path | None:
    """Return the folder in which `program` looks for its helpers first; None where it does not say."""
    try:
        said = subprocess.run(
            [program, "buildcfg"], env=dict(environment), capture_output=True, text=True, errors="replace",
            timeout=DISK.program_timeout, check=False, stdin=subprocess.DEVNULL,
        ).stdout  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _BUILT_WITH.search(said)
    family = "apptainer" if "PACKAGE_NAME=apptainer" in said else "singularity"
    return Path(match[1], family, "bin") if match else None
