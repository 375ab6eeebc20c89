"""Our reader of squashfs against the real mksquashfs, unsquashfs and squashfuse: all see the same in an image."""

from __future__ import annotations

import os
import random
import socket
import struct
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.image.tree import NotComparable
from tests.support import programs, squashfses
from tests.support.squashfses import packed, shown_by_us, tree_of

IS_ROOT = os.geteuid() == 0
MOUNTS = os.access(programs.FUSE, os.R_OK | os.W_OK)
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
SIZES = (0, 1, 4095, 4096, 4097, 131071, 131072, 131073, 300_000, (1 << 20) + 1)
ODD_NAMES = (
    b"new\nline", b"caf\xe9", b"\xff\xfe", b"-rf", b" ", b"...", b"back\\slash", b'"', b"#", b"\x01", b"n" * 255,
    "東京".encode(),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with everything that a squashfs can hold."""
    root = tmp_path_factory.mktemp("squashfs") / "root"
    chance = random.Random(5)
    (root / "sizes").mkdir(parents=True)
    for size in SIZES:
        (root / f"sizes/random-{size}").write_bytes(chance.randbytes(size))
        (root / f"sizes/text-{size}").write_bytes(b"".join(b"%d\n" % n for n in range(size // 4))[:size])
    (root / "sizes/same").write_bytes((root / "sizes/random-300000").read_bytes())
    (root / "sizes/same-end").write_bytes((root / "sizes/random-1").read_bytes())
    _sparse(root / "sparse")
    _names(root, chance)
    _special(root)
    if IS_ROOT:
        _of_root(root)
    return root


def _sparse(folder: Path) -> None:
    folder.mkdir()
    for name, at, size in (("middle", 400_000, 800_000), ("end", 0, 500_001), ("start", 1_200_000, 1_200_003)):
        with (folder / name).open("wb") as file:
            file.seek(at)
            file.write(b"xyz")
            file.truncate(size)
    (folder / "all").touch()
    os.truncate(folder / "all", 1_500_000)


def _names(root: Path, chance: random.Random) -> None:
    for name in ODD_NAMES:
        (Path(os.fsdecode(os.fsencode(root) + b"/" + name))).write_bytes(name)
    large = root / "large"
    large.mkdir()
    for number in range(700):  # with an index, and in several blocks of the table
        name = f"{chance.randrange(10**6)}-{number}-" + "long" * 40
        (large / name).mkdir() if number % 5 == 0 else (large / name).write_text(str(number % 7))
    deep = root
    for number in range(60):
        deep /= f"d{number}"
    deep.mkdir(parents=True)
    (deep / "bottom").write_text("here")


def _special(root: Path) -> None:
    here = root / "special"
    here.mkdir()
    os.mkfifo(here / "fifo", 0o620)
    with socket.socket(socket.AF_UNIX) as server:
        before = Path.cwd()
        os.chdir(here)  # the path of a socket is at most 107 bytes long
        server.bind("socket")
        os.chdir(before)
    (here / "link").symlink_to("../nowhere\nD 0 755")
    (here / "far").symlink_to("x/" * 2047)
    (here / "empty").mkdir()
    (here / "modes").write_text("mode")
    (here / "modes").chmod(0o6751)
    (here / "closed").write_text("closed")
    (here / "closed").chmod(0)
    (root / "special").chmod(0o1777)
    for number in range(3):
        os.link(root / "sizes/random-300000", here / f"hard-{number}")
        os.link(root / "sizes/random-0", here / f"hard-empty-{number}")
    os.link(here / "fifo", here / "fifo-too")
    os.link(here / "link", here / "link-too", follow_symlinks=False)


def _of_root(root: Path) -> None:
    here = root / "special"
    for name, kind, device in (
        ("null", 0o20666, (1, 3)),
        ("disk", 0o60640, (259, 70_000)),
        ("big", 0o20600, (4095, 1)),
    ):
        os.mknod(here / name, kind, os.makedev(*device))
        os.link(here / name, here / f"{name}-too")
    os.chown(here / "modes", 1000, 4_294_967_294)
    os.chown(here / "link", 77, 78, follow_symlinks=False)
    for number in range(40):
        path = here / f"noted-{number}"
        path.write_text("noted")
        os.setxattr(path, "user.note", b"n" * (number % 3))
        os.setxattr(path, "trusted.long", b"shared value " * 50)
        os.setxattr(path, f"user.{'name' * (number % 4 + 1)}", str(number).encode())
        if number % 2:
            os.setxattr(path, "security.capability", CAPABILITY)
    os.setxattr(here / "empty", "user.folder", b"f")
    os.setxattr(here / "null", "trusted.device", b"d")


COMPRESSIONS = ("gzip", "xz", "zstd", "lz4")
OPTIONS = [
    *(("-comp", name) for name in COMPRESSIONS),
    ("-comp", "gzip", "-b", "1M", "-no-fragments"),
    ("-comp", "zstd", "-b", "4K", "-always-use-fragments"),
    ("-no-compression",),
    ("-noD", "-noF", "-no-tailends"),
    ("-no-xattrs", "-no-exports", "-nopad"),
    ("-no-sparse", "-no-duplicates", "-no-hardlinks"),
    ("-comp", "gzip", "-Xcompression-level", "1", "-Xwindow-size", "9", "-Xstrategy", "huffman_only,default"),
    ("-comp", "xz", "-Xbcj", "x86,arm", "-Xdict-size", "50%", "-b", "64K"),
    ("-all-root", "-root-mode", "0700", "-mkfs-time", "0", "-all-time", "0"),
]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_what_we_read_is_what_unsquashfs_unpacks(folder, options):
    image = packed(folder, *options)
    try:
        ours = shown_by_us(tree_of(image))
        theirs = squashfses.shown_by_unsquashfs(image)
    finally:
        image.unlink()

    assert {path for path in ours if ours[path] != theirs.get(path)} == set()
    assert set(ours) == set(theirs)


@pytest.mark.skipif(not MOUNTS, reason="mounting takes /dev/fuse")
@pytest.mark.parametrize("options", [("-comp", "gzip"), ("-comp", "xz", "-b", "16K")], ids=" ".join)
def test_what_we_read_is_what_a_mount_shows(folder, options):
    image = packed(folder, *options)
    try:
        ours = shown_by_us(tree_of(image))
        theirs = squashfses.shown_by_squashfuse(image)
    finally:
        image.unlink()

    assert {path for path in ours if ours[path] != theirs.get(path)} == set()
    assert set(ours) == set(theirs)


@pytest.mark.parametrize("compression", ["lzo", "lzma"])
def test_a_compression_that_nothing_here_reads_is_named(tmp_path, compression):
    (tmp_path / "root").mkdir()
    (tmp_path / "root/file").write_text("x")
    image = packed(tmp_path / "root", "-comp", compression)

    with pytest.raises(NotComparable, match=f"compressed with {compression}, for which there is no reader here"):
        tree_of(image)
