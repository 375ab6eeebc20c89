"""File systems that the real mksquashfs makes, and what other readers see in them.

``packed`` runs mksquashfs on a folder. ``shown_by_unsquashfs`` and ``shown_by_squashfuse`` are what those programs make
of an image, ``shown_by_us`` is what our own reader makes of it, all in the same words, so that they can be compared.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import random
import stat
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from snakemake_apptainer_freshness.apptainer import squashfs
from snakemake_apptainer_freshness.image.tree import FileType, Node
from snakemake_apptainer_freshness.settings import TREE, TreeLimits
from tests.support import programs

Shown = dict[bytes, tuple[object, ...]]
"""By path: type, mode, owner, target, device, size and SHA-256, capability."""

_KINDS = {
    stat.S_IFREG: FileType.FILE,
    stat.S_IFDIR: FileType.FOLDER,
    stat.S_IFLNK: FileType.LINK,
    stat.S_IFCHR: FileType.CHARACTER,
    stat.S_IFBLK: FileType.BLOCK,
    stat.S_IFIFO: FileType.FIFO,
    stat.S_IFSOCK: FileType.SOCKET,
}
_CAPABILITY = "security.capability"
_RAW_SOCKETS = base64.b64encode(struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)).decode()
BLOCK = 4096
TEXT = b"".join(b"line %d\n" % number for number in range(2000))[: 2 * BLOCK]
"""Two blocks, which are compressed."""
_WAIT = 10.0


def packed(folder: Path, *options: str) -> Path:
    """A squashfs of `folder`, beside it."""
    image = folder.with_name(f"{folder.name}.squashfs")
    run("mksquashfs", folder, image, "-quiet", "-no-progress", "-noappend", *options)
    return image


def small(place: Path, *options: str) -> Path:
    """An image of a few kilobytes with everything in it, whose tables are not compressed."""
    root = place / "root"
    (root / "bin/inner/deep").mkdir(parents=True)
    (root / "other").mkdir()
    (root / "vacant").mkdir()
    (root / "blocks").write_bytes(TEXT)
    (root / "blocks-too").write_bytes(TEXT[::-1])
    (root / "noise").write_bytes(random.Random(3).randbytes(2 * BLOCK))
    (root / "bin/tool").write_bytes(b"the tool")
    (root / "bin/hard").hardlink_to(root / "bin/tool")
    (root / "bin/hard-too").hardlink_to(root / "bin/tool")
    (root / "other/evil").write_bytes(b"the evil")
    (root / "other/nothing").touch()
    (root / "other/nothing-too").touch()
    (root / "link").symlink_to("bin/tool")
    return packed(
        root, "-noI", "-noX", "-noF", "-b", "4K", "-all-root", "-exports", *options,
        "-p", "null c 666 0 0 1 3", "-p", "bin/tool x user.note=some",
        "-p", f"other/evil x security.capability=0s{_RAW_SOCKETS}",
    )  # fmt: skip


def run(name: str, *arguments: object) -> None:
    """Run a real program of our own, which has to succeed: those of a system may be too old for what is asked."""
    subprocess.run(
        [programs.private(name), *map(str, arguments)], capture_output=True, check=True, env=programs.environment()
    )


def tree_of(image: Path, *, limits: TreeLimits = TREE) -> Node:
    """What our reader makes of `image`."""
    with image.open("rb") as file:
        return squashfs.read(file, 0, image.stat().st_size, limits=limits)


def shown_by_us(root: Node) -> Shown:
    """The tree `root`, to be compared with what other readers show."""
    return {
        path: (
            node.kind, None if node.kind is FileType.LINK else node.mode, node.owner, node.target, node.device,
            (node.size, node.sha256), node.capability,
        )
        for path, node in [(b"", root), *root.walk()]
    }  # fmt: skip


@contextlib.contextmanager
def unpacked(image: Path) -> Iterator[Path]:
    """A folder into which unsquashfs has unpacked `image`, with everything that it knows of a file."""
    with tempfile.TemporaryDirectory(dir=image.parent) as place:
        root = Path(place) / "root"
        run("unsquashfs", "-quiet", "-no-progress", "-dest", root, image)
        yield root


def shown_by_unsquashfs(image: Path) -> Shown:
    """What unsquashfs makes of `image`."""
    with unpacked(image) as root:
        return _walked(root)


def shown_by_unsquashfs_if_it_can(image: Path) -> Shown | None:
    """What unsquashfs makes of `image`; None where it fails."""
    with contextlib.suppress(subprocess.CalledProcessError):
        return shown_by_unsquashfs(image)
    return None


def shown_by_squashfuse(image: Path) -> Shown:
    """What a mount by squashfuse shows of `image`."""
    with tempfile.TemporaryDirectory(dir=image.parent) as place:
        process = subprocess.Popen(
            [programs.private("squashfuse"), "-f", image, place], env=programs.environment(), stderr=subprocess.PIPE
        )
        try:
            give_up = time.monotonic() + _WAIT
            while not os.path.ismount(place):
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
                assert time.monotonic() < give_up
                time.sleep(0.01)
            return _walked(Path(place))
        finally:
            process.terminate()  # it unmounts and ends
            process.wait(_WAIT)
            if process.stderr:
                process.stderr.close()


def _walked(root: Path) -> Shown:
    shown = {b"": _seen(root)}
    for above, folders, files in os.walk(root):
        for path in (Path(above) / name for name in (*folders, *files)):
            shown[os.fsencode(path.relative_to(root))] = _seen(path)
    return shown


def _seen(path: Path) -> tuple[object, ...]:
    status = os.lstat(path)
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    content: tuple[int, bytes] = (0, b"")
    if kind is FileType.FILE:
        with path.open("rb") as file:
            content = (status.st_size, hashlib.file_digest(file, "sha256").digest())
    capability = b""
    with contextlib.suppress(OSError):  # there is none, or it is a symbolic link
        capability = os.getxattr(path, _CAPABILITY, follow_symlinks=False)
    return (
        kind,
        None if kind is FileType.LINK else stat.S_IMODE(status.st_mode),
        (status.st_uid, status.st_gid),
        os.fsencode(os.readlink(path)) if kind is FileType.LINK else b"",  # noqa: PTH115  as it is written
        (os.major(status.st_rdev), os.minor(status.st_rdev)) if kind.is_device else (0, 0),
        content,
        capability,
    )
