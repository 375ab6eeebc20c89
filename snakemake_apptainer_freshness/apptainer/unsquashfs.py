"""The file system inside a SIF as a tree, read by ``unsquashfs`` and never extracted.

``unsquashfs -pf -`` (squashfs-tools 4.5 and later) writes a *pseudo file*: one line for each path, then the content of
all files as one stream. So one pass in bounded memory gives everything, straight from the image
(``-offset``), and the disk is not written to. The program gets the image as an open file, so what it reads is the
file that is being judged, whatever happens to the name.

**Whoever made the image chose the names in it.** In a pseudo file names are escaped, the targets of symbolic links are
not, and neither are the names of extended attributes: a new line in one of them could pretend that files are there
that are not (seen with 4.7.5). Therefore extended attributes are left out, and a second listing, whose every entry
starts with a number drawn at random, has to show that no link's target has a new line. Every line has to be
understood, every path to be new and in a folder, the stream to end where the lines say, and the program to succeed:
else the image proves nothing.
"""

import contextlib
import hashlib
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import BinaryIO, Final, Self

from snakemake_apptainer_freshness.errors import MissingProgram, redact
from snakemake_apptainer_freshness.image.tree import PERMISSIONS, FileType, Node, NotComparable, shown
from snakemake_apptainer_freshness.settings import DISK, TREE, TreeLimits

_ENTRY: Final = re.compile(rb"((?:\\[\s\S]|[^\\ \n])+) (?:([DRSIBC]) ([^\n]*)|(L) ((?:\\[\s\S]|[^\\\n])+))\n")
_DESCRIBED: Final = re.compile(rb"(\d{1,20}) ([0-7]{1,4}) (\d{1,10}) (\d{1,10})(?: ([\s\S]*))?")
_FILE: Final = re.compile(rb"(\d{1,19}) (\d{1,19}) \d")
_DEVICE: Final = re.compile(rb"(\d{1,10}) (\d{1,10})")
_ESCAPED: Final = re.compile(rb"\\([\s\S])")
_KINDS: Final = {
    b"D": FileType.FOLDER,
    b"R": FileType.FILE,
    b"S": FileType.LINK,
    b"B": FileType.BLOCK,
    b"C": FileType.CHARACTER,
}
_SPECIAL: Final = {b"f": FileType.FIFO, b"s": FileType.SOCKET}
_DATA: Final = (b"# START OF DATA - DO NOT MODIFY\n", b"#\n")
_BOUNDED: Final = ("-no-progress", "-no-xattrs", "-da", "16", "-fr", "16")
"""Queues of 16 MiB for data and fragments: it would else take what the machine has."""
_SBIN: Final = os.pathsep.join(["", "/usr/sbin", "/sbin", "/usr/local/sbin"])


def read(image: BinaryIO, offset: int, *, environment: Mapping[str, str], limits: TreeLimits = TREE) -> Node:
    """The tree of the squashfs that begins at `offset` in `image`.

    Raises
    ------
    NotComparable
        where it cannot be read for certain, or exceeds a limit.
    MissingProgram
        where there is no unsquashfs.
    """
    program = find(environment)
    where = ["-offset", str(offset), f"/proc/self/fd/{image.fileno()}"]
    _refuse_broken_links(program, where, image, limits)
    arguments = [program, *_BOUNDED, "-pf", "-", *where]
    with _Output(arguments, image, limits) as output:
        root, files = _tree(output, limits)
        for node in files:
            node.sha256 = output.hashed(node.size)
        output.end()
    return root


def find(environment: Mapping[str, str]) -> str:
    """The program ``unsquashfs``, which Apptainer needs, too; also where only administrators look."""
    found = shutil.which("unsquashfs", path=environment.get("PATH", os.defpath) + _SBIN)
    if found is None:
        raise MissingProgram(
            "cannot look into an image: unsquashfs is not on PATH", hint="install squashfs-tools 4.5 or later"
        )
    return found


def _refuse_broken_links(program: str, where: list[str], image: BinaryIO, limits: TreeLimits) -> None:
    """Refuse symbolic links whose target has a new line: the tree's own listing could not be trusted."""
    mark = secrets.token_hex(16).encode()
    is_link = False
    arguments = [program, *_BOUNDED, "-d", mark.decode(), "-lln", *where]
    with _Output(arguments, image, limits) as output:
        for count, line in enumerate(iter(output.line, b"")):
            if count > 2 * limits.entries:
                raise NotComparable(f"its file system has more than {limits.entries} entries")
            if mark in line:
                is_link = line.startswith(b"l")
            elif is_link:
                raise NotComparable("the target of a symbolic link in it has a new line")
        output.end()


def _tree(output: "_Output", limits: TreeLimits) -> tuple[Node, list[Node]]:
    """The tree that the lines describe, and its files in the order in which their contents follow."""
    tree = _Growing(limits)
    for path, kind, rest in _entries(output, limits):
        tree.add(path, kind, rest)
    if tree.root is None:
        raise NotComparable("unsquashfs cannot read its file system")
    return tree.root, tree.files


class _Growing:
    """A tree that paths are put into, each after the folder that it is in."""

    def __init__(self, limits: TreeLimits) -> None:
        self.root: Node | None = None
        self.files: list[Node] = []
        self._folders: dict[bytes, Node] = {}
        self._limits = limits
        self._count = 0
        self._size = 0

    def add(self, path: bytes, kind: bytes, rest: bytes) -> None:
        self._count += 1
        if self._count > self._limits.entries:
            raise NotComparable(f"its file system has more than {self._limits.entries} entries")
        node = _find(self.root, _unescaped(rest)) if kind == b"L" else _node(kind, rest)
        if self.root is None:
            if path != b"/" or node.kind is not FileType.FOLDER:
                raise NotComparable("unsquashfs does not begin with the root folder")
            self.root = self._folders[b""] = node
            return
        folder, _, name = path.rpartition(b"/")
        children = self._folders[folder].children if folder in self._folders else None
        if children is None or name in children or name in (b"", b".", b".."):
            raise NotComparable(f"unsquashfs lists {shown(path)} twice, or in no folder")
        children[name] = node
        if node.kind is FileType.FOLDER:
            self._folders[path] = node
        elif kind == b"R":
            self._expect_content(path, node)

    def _expect_content(self, path: bytes, node: Node) -> None:
        place = _FILE.fullmatch(node.target)
        if place is None or int(place[2]) != self._size:
            raise NotComparable(f"unsquashfs gives the content of {shown(path)} in another order")
        node.target = b""
        self.files.append(node)
        self._size += node.size
        if self._size > self._limits.size:
            raise NotComparable(f"its files are larger than {self._limits.size} bytes")


def _entries(output: "_Output", limits: TreeLimits) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Path, type and description of each line, up to where the contents begin."""
    while line := output.line():
        if line == b"#\n":
            if (output.line(), output.line()) != _DATA:
                raise NotComparable("unsquashfs writes something that is no pseudo file")
            return
        while (match := _ENTRY.fullmatch(line)) is None:  # a name may have an escaped new line
            more = output.line()
            if not more or not line.endswith(b"\\\n") or len(line) > limits.line:
                raise NotComparable("unsquashfs writes something that is no pseudo file")
            line += more
        yield (_unescaped(match[1]), match[2] or match[4], match[3] if match[2] else match[5])


def _node(kind: bytes, rest: bytes) -> Node:
    match = _DESCRIBED.fullmatch(rest)
    if match is None:
        raise NotComparable("unsquashfs describes a file in an unknown way")
    more = match[5] or b""
    node = Node(kind=FileType.FILE, mode=int(match[2], 8) & PERMISSIONS, owner=(int(match[3]), int(match[4])))
    if kind == b"I":
        if more not in _SPECIAL:
            raise NotComparable("unsquashfs describes a file in an unknown way")
        node.kind = _SPECIAL[more]
        return node
    node.kind = _KINDS[kind]
    match node.kind:
        case FileType.FOLDER:
            node.children = {}
        case FileType.LINK:
            node.target = more
        case FileType.FILE if said := _FILE.fullmatch(more):
            node.size, node.target = int(said[1]), more  # until its place is checked
        case FileType.BLOCK | FileType.CHARACTER if said := _DEVICE.fullmatch(more):
            node.device = (int(said[1]), int(said[2]))
        case _:
            raise NotComparable("unsquashfs describes a file in an unknown way")
    return node


def _find(root: Node | None, path: bytes) -> Node:
    """What a hard link leads to."""
    node = root
    for name in path.split(b"/"):
        node = node.children.get(name) if node is not None and node.children is not None else None
    if node is None or node.kind is FileType.FOLDER:
        raise NotComparable(f"unsquashfs lists a hard link to {shown(path)}, which is not there")
    return node


def _unescaped(text: bytes) -> bytes:
    return _ESCAPED.sub(rb"\1", text)


class _Output:
    """What a program writes, as long as the ``with`` block lasts; then it has ended, one way or the other."""

    def __init__(self, arguments: list[str], image: BinaryIO, limits: TreeLimits) -> None:
        self._limits = limits
        self._buffer = b""
        self._position = 0
        self._give_up = time.monotonic() + limits.timeout
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed at the end of the block
        try:
            self._process = subprocess.Popen(
                arguments,
                # Its own environment: SQFS_CMDLINE makes it write a file.
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                pass_fds=(image.fileno(),),
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise MissingProgram(f"{arguments[0]} does not start: {error.strerror}") from error
        assert self._process.stdout is not None  # noqa: S101  it was started with a pipe
        self._pipe = self._process.stdout.fileno()
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN | select.POLLHUP)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def _fill(self) -> bool:
        """Whether there is something to read; waits for it."""
        if self._position < len(self._buffer):
            return True
        while not self._poll.poll(DISK.lock_poll * 1000):
            if time.monotonic() > self._give_up:
                raise NotComparable(f"unsquashfs did not end in {self._limits.timeout:.0f} s")
        if time.monotonic() > self._give_up:
            raise NotComparable(f"unsquashfs did not end in {self._limits.timeout:.0f} s")
        self._buffer, self._position = os.read(self._pipe, self._limits.chunk), 0
        return bool(self._buffer)

    def line(self) -> bytes:
        """The next line with its end; empty at the end."""
        whole = b""
        while self._fill():
            end = self._buffer.find(b"\n", self._position) + 1
            part = self._buffer[self._position : end or None]
            self._position += len(part)
            whole += part
            if end:
                return whole
            if len(whole) > self._limits.line:
                raise NotComparable("unsquashfs writes an unreasonably long line")
        return whole

    def hashed(self, size: int) -> bytes:
        """The SHA-256 of the next `size` bytes."""
        hasher, left = hashlib.sha256(), size
        while left and self._fill():
            part = memoryview(self._buffer)[self._position : self._position + left]
            hasher.update(part)
            self._position += len(part)
            left -= len(part)
        if left:
            raise NotComparable(f"its file system cannot be read to its end{self._complaint()}")
        return hasher.digest()

    def end(self) -> None:
        """That the program has nothing more to say, and is content."""
        if self._fill():
            raise NotComparable("its file system has more in it than unsquashfs lists")
        if self._process.wait(self._limits.timeout) != 0:
            raise NotComparable(f"unsquashfs cannot read its file system{self._complaint()}")

    def _complaint(self) -> str:
        self._errors.seek(0)
        lines = redact(self._errors.read(DISK.output_size).decode("utf-8", "replace")).strip().splitlines()
        return f": {lines[-1][:200]}" if lines else ""
