"""Sandbox folders: a root file system that lies unpacked in a folder, read as what is in a SIF is read.

``apptainer build --sandbox`` makes one, and some facilities serve images so. It is read through descriptors, without
following a link: what stands in it is what a container would see. What cannot be read for certain proves nothing: a
file that this user may not read, one that every user may write, another file system that is mounted within.

* :func:`read` gives the tree, for a comparison with layers, and its SHA-256, which stands for it as that of a file does
  for a SIF: of each path type, mode, owner, size, content, target of a link, device, capabilities.
* :func:`survey` reads no content: its key changes whenever one of the files does, as the stat key of a SIF.

A user who unpacks an image owns all of it. So who owns the top stands for root, as in a SIF that a user builds.
"""

import hashlib
import json
import os
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness.apptainer import sif
from snakemake_apptainer_freshness.common.files import NotAFile, read_small, sha256_of
from snakemake_apptainer_freshness.image.tree import PERMISSIONS, FileType, Node, NotComparable, shown
from snakemake_apptainer_freshness.settings import DISK, TREE

METADATA: Final = ".singularity.d"
_KINDS: Final = {
    stat.S_IFREG: FileType.FILE,
    stat.S_IFDIR: FileType.FOLDER,
    stat.S_IFLNK: FileType.LINK,
    stat.S_IFCHR: FileType.CHARACTER,
    stat.S_IFBLK: FileType.BLOCK,
    stat.S_IFIFO: FileType.FIFO,
    stat.S_IFSOCK: FileType.SOCKET,
}
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CAPABILITY: Final = "security.capability"
_DEEPEST: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What the files of a sandbox are like: a `key` that changes when one does, bytes of all, the latest change."""

    key: str
    size: int
    newest_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What a sandbox holds: its tree, the SHA-256 of that, and what its files were like meanwhile."""

    tree: Node
    sha256: str
    survey: Survey


def is_sandbox(path: Path) -> bool:
    """Return whether the folder at `path` holds an image that Apptainer unpacked."""
    return (path / METADATA).is_dir()


def survey(path: Path) -> Survey:
    """Return what the files below `path` are like, from a ``stat`` of each; raises as :func:`read` does."""
    reader = _Reader(content=False)
    reader.read(path)
    return reader.survey


def read(path: Path, *, stop: threading.Event | None = None) -> Sandbox:
    """Return what the sandbox at `path` holds; `stop` ends it.

    Raises
    ------
    NotComparable
        where it cannot be read for certain, or changes meanwhile.
    OSError
        where it is not there.
    InterruptedError
        where `stop` was set.
    """
    reader = _Reader(content=True, stop=stop)
    tree = reader.read(path)
    if survey(path) != reader.survey:
        raise NotComparable("it changes while it is read")
    return Sandbox(tree=tree, sha256=_sha256(tree), survey=reader.survey)


@dataclass(slots=True, kw_only=True)
class _Reader:
    content: bool
    stop: threading.Event | None = None
    _seen: Any = field(default_factory=hashlib.sha256)
    _entries: int = 0
    _size: int = 0
    _newest: int = 0
    _top: os.stat_result | None = None
    _unwritable: bool = False

    @property
    def survey(self) -> Survey:
        return Survey(key=self._seen.hexdigest(), size=self._size, newest_ns=self._newest)

    def read(self, path: Path) -> Node:
        handle = os.open(path, _FOLDER)
        try:
            top = self._top = os.fstat(handle)
            self._unwritable = bool(os.fstatvfs(handle).f_flag & os.ST_RDONLY)
            self._note(b"", top)
            node = _node(top, top)
            self._fill(node, handle, b"", 0)
        except PermissionError as error:
            raise NotComparable(f"{error.filename or path} cannot be read: {error.strerror}") from None
        finally:
            os.close(handle)
        return node

    def _fill(self, node: Node, handle: int, path: bytes, depth: int) -> None:
        """Read what is in the open folder `handle` into `node`."""
        if depth > _DEEPEST:
            raise NotComparable(f"{shown(path)} lies deeper than {_DEEPEST} folders")
        node.children = {}
        for name in sorted(os.fsencode(name) for name in os.listdir(handle)):
            if self.stop is not None and self.stop.is_set():
                raise InterruptedError("stopped while a sandbox was read")
            node.children[name] = self._one(handle, name, path + b"/" + name if path else name, depth)

    def _one(self, handle: int, name: bytes, path: bytes, depth: int) -> Node:
        status = os.stat(name, dir_fd=handle, follow_symlinks=False)
        self._refuse(path, status)
        self._note(path, status)
        node = _node(status, self._top or status)
        try:
            if node.kind is FileType.LINK:
                node.target = os.readlink(name, dir_fd=handle)
            elif node.kind is FileType.FOLDER:
                self._enter(node, handle, name, path, depth)
            elif node.kind is FileType.FILE:
                node.size = status.st_size
                if self.content:
                    self._hash(node, handle, name, path, status)
        except PermissionError:
            raise NotComparable(f"{shown(path)} may not be read by this user") from None
        return node

    def _enter(self, node: Node, handle: int, name: bytes, path: bytes, depth: int) -> None:
        inner = os.open(name, _FOLDER, dir_fd=handle)
        try:
            self._fill(node, inner, path, depth + 1)
        finally:
            os.close(inner)

    def _hash(self, node: Node, handle: int, name: bytes, path: bytes, before: os.stat_result) -> None:
        descriptor = os.open(name, _FILE, dir_fd=handle)
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123  a descriptor, not a path
            if not os.path.samestat(os.fstat(descriptor), before):
                raise NotComparable(f"{shown(path)} changes while it is read")
            node.sha256 = bytes.fromhex(sha256_of(file))
            if _CAPABILITY in os.listxattr(descriptor):
                node.capability = os.getxattr(descriptor, _CAPABILITY)

    def _refuse(self, path: bytes, status: os.stat_result) -> None:
        """Refuse what cannot be read for certain."""
        self._entries += 1
        if self._entries > TREE.entries:
            raise NotComparable(f"it has more than {TREE.entries} files")
        if self._top is not None and status.st_dev != self._top.st_dev:
            raise NotComparable(f"another file system is mounted at {shown(path)}")
        # a mode means nothing on a file system that is mounted read-only, and the mode of a link nowhere
        if not self._unwritable and status.st_mode & stat.S_IWOTH and not stat.S_ISLNK(status.st_mode):
            is_folder = stat.S_ISDIR(status.st_mode)
            if not (is_folder and status.st_mode & stat.S_ISVTX):  # images have such folders: /tmp
                raise NotComparable(f"every user may write {shown(path)}")

    def _note(self, path: bytes, status: os.stat_result) -> None:
        """Put what `status` says of `path` into the key; a device number is another one on each host."""
        self._size += status.st_size if stat.S_ISREG(status.st_mode) else 0
        self._newest = max(self._newest, status.st_mtime_ns, status.st_ctime_ns)
        values = (status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_size)
        self._seen.update(repr((path, *values, status.st_mtime_ns, status.st_ctime_ns)).encode())


def _node(status: os.stat_result, top: os.stat_result) -> Node:
    """Return what `status` says of one path; who owns the `top` stands for root."""
    user = 0 if status.st_uid == top.st_uid else status.st_uid
    group = 0 if status.st_gid == top.st_gid else status.st_gid
    node = Node(kind=_KINDS[stat.S_IFMT(status.st_mode)], mode=status.st_mode & PERMISSIONS, owner=(user, group))
    if node.kind.is_device:
        node.device = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return node


def _sha256(tree: Node) -> str:
    """Return the SHA-256 of all that a comparison looks at."""
    digest = hashlib.sha256(b"sandbox\0")
    for path, node in sorted([(b"", tree), *tree.walk()]):
        values = (path, str(node.kind), node.mode, node.owner, node.size, node.sha256, node.target, node.device)
        digest.update(repr((*values, node.capability)).encode())
    return digest.hexdigest()


def labels(path: Path) -> Mapping[str, str]:
    """Return what the sandbox at `path` says of itself; nothing where it does not."""
    try:
        table = json.loads(read_small(path / METADATA / "labels.json", DISK.sif_metadata))
    except (OSError, NotAFile, ValueError, RecursionError):
        return {}
    return {key: text for key, text in table.items() if isinstance(text, str)} if isinstance(table, dict) else {}


def pulled_reference(labels: Mapping[str, str]) -> str:
    """Return the reference that a sandbox with these labels says it was pulled by; empty where it does not."""
    return labels.get(sif.FROM, "") if labels.get(sif.BOOTSTRAP) == "docker" else ""
