"""How images are run here without privileges: whether they can be mounted, and what makes that slow.

* Layers of an image are unpacked below a temporary folder, file by file. A parallel file system takes minutes for
  what a local disk does in seconds; a small tmpfs fills up, and takes memory.
* An installation with its setuid starter mounts by the kernel. Every other one, by program and version, mounts through
  FUSE or unpacks the whole image for each job (Apptainer: ``internal/pkg/runtime/launch``, before 1.2
  ``cmd/internal/cli/actions_linux.go``; SingularityCE: ``internal/pkg/runtime/launcher/native``):

===================  ==================================================================================================
Apptainer 1.1-       mounts; fails where FUSE does; unpacks where there is no squashfuse, or with ``APPTAINER_UNSQUASH``
SingularityCE 4.1-   mounts; unpacks where FUSE fails, there is no squashfuse, or with ``SINGULARITY_TMP_SANDBOX``
before these         unpack; SingularityCE from 3.10 on mounts with ``SINGULARITY_SIF_FUSE``
===================  ==================================================================================================

* It mounts by squashfuse_ll, else by squashfuse, which reads with one thread; both are looked for in the program's own
  ``bin`` folder, then on PATH.
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
from snakemake_apptainer_freshness.common import container_program
from snakemake_apptainer_freshness.common.container_program import ContainerProgram
from snakemake_apptainer_freshness.common.environment import is_on
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.settings import DISK

MOUNTS: Final = Path("/proc/self/mountinfo")
FUSE: Final = Path("/dev/fuse")
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
class Unprivileged:
    """How the programs of one family and age run an image without privileges, and which `switches` have them unpack."""

    mounts: bool
    falls_back: bool = False
    switches: tuple[str, ...] = ()
    mounts_since: str = ""


_LINES: Final = (
    ("apptainer", (1, 1), Unprivileged(mounts=True, switches=("APPTAINER_UNSQUASH", "SINGULARITY_UNSQUASH"))),
    ("apptainer", (1, 0), Unprivileged(mounts=False, mounts_since="1.1")),
    ("singularity", (4, 1), Unprivileged(mounts=True, falls_back=True, switches=("SINGULARITY_TMP_SANDBOX",))),
    ("singularity", (3, 8), Unprivileged(mounts=False, mounts_since="4.1")),
)
"""Family, since which release, and how it does it; the latest of a family first."""


def unprivileged(program: ContainerProgram) -> Unprivileged:
    """Return how `program` runs an image without privileges."""
    return next(how for family, since, how in _LINES if program.family == family and program.release >= since)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount: where it is, and the type of its file system."""

    point: str
    file_system: str


def mount_of(path: Path, mounts: str) -> Mount | None:
    """Return the mount that `path`, absolute and without links, lies in, of what ``mountinfo`` says (proc(5)).

    Of several at one place the last counts: it hides those before.
    """
    mount = None
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields, after = left.split(" "), right.split(" ")
        if len(fields) < 5 or not after[0]:  # noqa: PLR2004  the mount point is the fifth
            continue
        point = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[4])
        if path.is_relative_to(point) and (mount is None or len(point) >= len(mount.point)):
            mount = Mount(point=point, file_system=after[0])
    return mount


def cannot_mount(environment: Mapping[str, str], fuse: Path = FUSE) -> MachineProblem | None:
    """Return why the program cannot mount an image here without being told to unpack it.

    None where it can, was told, or never mounts. A program that then unpacks by itself is only slow.
    """
    try:
        program = container_program.find(environment)
    except FreshnessError:
        return None
    how = unprivileged(program)
    if not how.mounts or is_on(environment, *how.switches):
        return None
    try:
        os.close(os.open(fuse, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        wrong = f"{fuse} cannot be opened ({error.strerror}), so {program.name}"
        switch = how.switches[0]
        if how.falls_back:
            return MachineProblem(
                kind=KIND,
                text=f"{wrong} unpacks the whole image for each job where it has no privileges",
                hint=f"ask for access to the device; {switch}=1 spares the attempt to mount",
            )
        return MachineProblem(
            kind="fuse",
            text=f"{wrong} cannot mount an image without privileges",
            hint=f"set {switch}=1, which unpacks the image for each run, or ask for access to the device",
        )
    return None


def slowness(environment: Mapping[str, str], temporary: Path, mounts: Path = MOUNTS) -> Iterator[MachineProblem]:
    """Give what makes the program slow: where its `temporary` folder lies, and how it mounts."""
    try:
        program = container_program.find(environment)
    except FreshnessError:
        program = None
    yield from _of_folder(temporary, mounts, program)
    if program is not None and not is_on(environment, *unprivileged(program).switches):
        yield from _of_mounting(program, environment)


def _of_folder(folder: Path, mounts: Path, program: ContainerProgram | None) -> Iterator[MachineProblem]:
    try:
        mount = mount_of(folder.resolve(), mounts.read_text(encoding="utf-8", errors="surrogateescape"))
        statistics = os.statvfs(folder)
    except OSError:
        return
    size = statistics.f_blocks * statistics.f_frsize
    if mount is None:
        return
    who, family = (program.name, program.family) if program is not None else ("Apptainer", "apptainer")
    elsewhere = f"set {family.upper()}_TMPDIR to a folder on a local disk"
    name = mount.file_system.removeprefix("fuse.")
    if name in _SHARED:
        yield MachineProblem(
            kind=KIND, text=f"{who} unpacks images in {folder}, which is on {name}: that takes long", hint=elsewhere
        )
    elif name == "tmpfs" and size < SMALL:
        yield MachineProblem(
            kind=KIND,
            text=f"{who} unpacks images in {folder}, a tmpfs of {size / 1024**3:.1f} GiB: a large image does not "
            "fit, and what is there takes memory",
            hint=elsewhere,
        )


def _of_mounting(program: ContainerProgram, environment: Mapping[str, str]) -> Iterator[MachineProblem]:
    own = _own_programs(program.path, environment)
    if own is not None and (own / "starter-suid").exists():
        return
    since = unprivileged(program).mounts_since
    path = os.pathsep.join([*([str(own)] if own is not None else []), environment.get("PATH", os.defpath)])
    hint = "install squashfuse with squashfuse_ll (Debian: squashfuse; Fedora and EPEL: squashfuse)"
    if since:
        text = f"this {program.name} mounts no image without privileges: it unpacks the whole image for each job"
        hint = f"install {program.name} {since} or later, which mounts through squashfuse, or its setuid starter"
    elif shutil.which("squashfuse_ll", path=path) is not None:
        return
    elif shutil.which("squashfuse", path=path) is not None:
        text = f"{program.name} finds squashfuse and no squashfuse_ll: it reads images with one thread"
    else:
        text = f"{program.name} finds no squashfuse: it unpacks the whole image for each job"
    yield MachineProblem(kind=KIND, text=text, hint=hint)


def _own_programs(program: str, environment: Mapping[str, str]) -> Path | None:
    """Return the folder in which `program` looks for its helpers first; None where it does not say."""
    try:
        printed = subprocess.run(
            [program, "buildcfg"], env=dict(environment), capture_output=True, text=True, errors="replace",
            timeout=DISK.program_timeout, check=False, stdin=subprocess.DEVNULL,
        ).stdout  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _BUILT_WITH.search(printed)
    family = "apptainer" if "PACKAGE_NAME=apptainer" in printed else "singularity"
    return Path(match[1], family, "bin") if match else None
