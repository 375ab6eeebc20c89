"""Layers: merging tar streams into one tree. Pure: nothing is ever written to a disk.

They are merged as Apptainer 1.4.5 was seen to merge them: umoci unpacks one layer after the other into a folder
(``internal/pkg/build/sources/oci_unpack.go``; umoci 0.5, ``oci/layer/tar_extract.go``):

* ``.wh.NAME`` removes NAME, ``.wh..wh..opq`` all that is in its folder; neither touches what the same layer brought,
  wherever in the layer it stands.
* A path is taken from the root: ``..`` does not lead out, and symbolic links in the middle of it are followed, an
  absolute one from the root again. What is in the way of a folder is replaced.
* A folder that was there keeps its content and gets the new mode; everything else replaces what was there.
* A hard link is another name of what stands at its target at that moment.
* A folder that no entry describes is made, with a mode that depends on the umask of the user who unpacks.

**A layer is hostile until it is merged.** Headers, entries, path lengths and the bytes that it unpacks to are bounded
(:data:`~.settings.TREE`), a decompression bomb ends at that bound having cost time and no memory. What another
program could understand in another way is not understood in one way here, but refused: an archive that breaks off or
goes on after a damaged header, sparse files, global headers, unknown types, zstd (which Python 3.11 cannot unpack).
"""

import contextlib
import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final, cast

from snakemake_apptainer_freshness.image.tree import PERMISSIONS, FileType, Node, NotComparable, shown
from snakemake_apptainer_freshness.settings import TREE, TreeLimits

MEDIA_TYPES: Final = frozenset(
    [
        f"application/vnd.oci.image.layer.{kind}v1.tar{how}"
        for kind in ("", "nondistributable.")
        for how in ("", "+gzip")
    ]
    + [
        f"application/vnd.docker.image.rootfs.{kind}.tar{how}"
        for kind in ("diff", "foreign.diff")
        for how in ("", ".gzip")
    ]
)
"""Of layers that can be merged; how one is compressed is read from its first bytes, as Apptainer does."""

_CAPABILITY: Final = "SCHILY.xattr.security.capability"
"""Where Go's tar package and so umoci find it."""
_WHITEOUT: Final = b".wh."
_OPAQUE: Final = b".wh..wh..opq"
_MOST_LINKS: Final = 255
"""Symbolic links that are followed for one path, as in filepath-securejoin."""
_KINDS: Final = {
    tarfile.REGTYPE: FileType.FILE,
    tarfile.AREGTYPE: FileType.FILE,
    tarfile.DIRTYPE: FileType.FOLDER,
    tarfile.SYMTYPE: FileType.LINK,
    tarfile.CHRTYPE: FileType.CHARACTER,
    tarfile.BLKTYPE: FileType.BLOCK,
    tarfile.FIFOTYPE: FileType.FIFO,
}


class Layers:
    """A tree that layers are put onto, the lowest first."""

    def __init__(self, limits: TreeLimits = TREE) -> None:
        self.root = Node.made_folder()
        self._limits = limits
        self._number = 0
        self._entries = 0
        self._left = limits.size

    def add(self, archive: Iterable[bytes]) -> None:
        """Put the layer in the tar `archive` on top; it is read to its end.

        Raises
        ------
        NotComparable
            where it cannot be merged for certain, or exceeds a limit. What `archive` raises goes through.
        """
        self._number += 1
        self.root.layer = self._number
        tape = _Tape(iter(archive), self._limits, self._left)
        if not tape.empty:
            try:
                self._merge(tape)
            except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
                raise NotComparable(f"a layer is not a sound tar archive: {error}") from None
            if tape.last.strip(b"\0"):
                raise NotComparable("a layer is not a sound tar archive: a header is damaged")
        tape.drain()
        self._left = tape.left

    def _merge(self, tape: "_Tape") -> None:
        with tarfile.open(  # type: ignore[call-overload]  # a tape reads forward, and is not written to
            fileobj=tape, mode="r:", encoding="utf-8", errors="surrogateescape"
        ) as opened:
            archive = cast("tarfile.TarFile", opened)
            while (entry := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would keep them all
                if archive.pax_headers:
                    raise NotComparable("a layer has a global header")
                self._entries += 1
                if self._entries > self._limits.entries:
                    raise NotComparable(f"its layers have more than {self._limits.entries} entries")
                self._place(entry, tape)
                tape.next_entry()

    def _place(self, entry: tarfile.TarInfo, tape: "_Tape") -> None:
        path = _bytes(entry.name)
        if (longest := max(len(path), len(_bytes(entry.linkname)))) > self._limits.path:
            raise NotComparable(f"a layer has a path of {longest} bytes")
        parts = _cleaned(path)
        if not parts:
            self._describe_root(entry)
            return
        *above, name = parts
        folder = self._resolved(above)
        if name.startswith(_WHITEOUT):
            self._white_out(folder, name)
            return
        node = self._hard_linked(entry, [*folder, name]) if entry.islnk() else _node(entry, tape)
        node.layer = self._number
        children = self._make(folder)
        there = children.get(name)
        if there is not None and there.kind is FileType.FOLDER and node.kind is FileType.FOLDER:
            node.children = there.children
        children[name] = node

    def _describe_root(self, entry: tarfile.TarInfo) -> None:
        if entry.type != tarfile.DIRTYPE:
            raise NotComparable("a layer replaces the root folder by something else")
        self.root.mode, self.root.owner = entry.mode & PERMISSIONS, (entry.uid, entry.gid)
        self.root.implied = False

    def _hard_linked(self, entry: tarfile.TarInfo, path: list[bytes]) -> Node:
        *above, name = _cleaned(_bytes(entry.linkname)) or [b""]
        target = [*self._resolved(above), name]
        node = self._find(target)
        if node is None or node.kind is FileType.FOLDER or target == path:
            raise NotComparable(f"a layer has a hard link to {shown(_bytes(entry.linkname))}, which is not there")
        return replace(node)

    def _white_out(self, above: list[bytes], name: bytes) -> None:
        folder = self._find(above)
        if folder is None or folder.children is None:
            return
        if name == _OPAQUE:
            self._hide(folder)
            return
        hidden = folder.children.get(name.removeprefix(_WHITEOUT))
        if hidden is None:
            return
        if hidden.layer == self._number:
            self._hide(hidden)
        else:
            del folder.children[name.removeprefix(_WHITEOUT)]

    def _hide(self, folder: Node) -> None:
        """Remove all that is in `folder` and was not brought by the layer that is being merged."""
        waiting = [folder]
        while waiting:
            node = waiting.pop()
            if node.children is not None:
                for name in [name for name, child in node.children.items() if child.layer != self._number]:
                    del node.children[name]
                waiting += node.children.values()

    def _resolved(self, parts: list[bytes]) -> list[bytes]:
        """Return the same folder, without a symbolic link on the way; a path that is not there yet stays as it is."""
        waiting, names, links = parts[::-1], list[bytes](), 0
        nodes: list[Node | None] = [self.root]
        while waiting:
            part = waiting.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                del names[-1:]
                del nodes[len(names) + 1 :]
                continue
            above = nodes[-1]
            node = above.children.get(part) if above is not None and above.children is not None else None
            if node is None or node.kind is not FileType.LINK:
                names.append(part)
                nodes.append(node)
                continue
            links += 1
            if links > _MOST_LINKS:
                raise NotComparable("a layer has symbolic links that lead in a circle")
            if node.target.startswith(b"/"):
                names, nodes = [], [self.root]
            waiting += node.target.split(b"/")[::-1]
            if sum(map(len, waiting)) > self._limits.path:
                raise NotComparable("a layer has symbolic links that lead too far")
        return names

    def _find(self, names: list[bytes]) -> Node | None:
        node: Node | None = self.root
        for name in names:
            node = node.children.get(name) if node is not None and node.children is not None else None
        return node

    def _make(self, names: list[bytes]) -> dict[bytes, Node]:
        """Return what is in the folder `names`, which is made where it is not there, and marked as touched."""
        children = self.root.children
        assert children is not None  # noqa: S101  the root is a folder
        for name in names:
            node = children.get(name)
            if node is None or node.children is None:
                node = children[name] = Node.made_folder()
            node.layer = self._number
            assert node.children is not None  # noqa: S101  made above
            children = node.children
        return children


class _Tape:
    """What :mod:`tarfile` reads from: forward only, headers of bounded size, no more than `left` bytes."""

    def __init__(self, pieces: Iterator[bytes], limits: TreeLimits, left: int) -> None:
        self._pieces = pieces
        self._limits = limits
        self._buffer = memoryview(b"")
        self._at = 0
        self._headers = 0
        self.left = left
        self.last = b""
        self.empty = not self._fill()

    def _fill(self) -> bool:
        while not self._buffer:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self.left -= len(piece)
            if self.left < 0:
                raise NotComparable(f"its layers unpack to more than {self._limits.size} bytes")
            self._buffer = memoryview(piece)
        return True

    def some(self, size: int) -> memoryview:
        """Return at most `size` of the next bytes; empty at the end."""
        if not self._buffer and not self._fill():
            return self._buffer
        part, self._buffer = self._buffer[:size], self._buffer[size:]
        self._at += len(part)
        return part

    def read(self, size: int) -> bytes:
        """Return a header, or what belongs to one."""
        self._headers += size
        if self._headers > self._limits.header:
            raise NotComparable("a layer has an unreasonably large header")
        content = bytearray()
        while len(content) < size and (part := self.some(size - len(content))):
            content += part
        self.last = bytes(content)
        return self.last

    def next_entry(self) -> None:
        self._headers = 0

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, _whence: int = 0) -> None:
        if offset < self._at:
            raise tarfile.ReadError("an entry has an impossible size")
        while self._at < offset and self.some(offset - self._at):
            pass

    def drain(self) -> None:
        """Read to the end: only then is it known what the bytes hash to."""
        while self.some(self._limits.chunk):
            pass


def _node(entry: tarfile.TarInfo, tape: _Tape) -> Node:
    kind = _KINDS.get(entry.type)
    if kind is None or entry.issparse():
        raise NotComparable(f"a layer has an entry of type {entry.type!r}, {shown(_bytes(entry.name))}")
    node = Node(kind=kind, mode=entry.mode & PERMISSIONS, owner=(entry.uid, entry.gid))
    node.capability = _bytes(entry.pax_headers.get(_CAPABILITY, ""))
    match kind:
        case FileType.FILE:
            node.size, node.sha256 = entry.size, _hashed(entry.size, tape)
        case FileType.FOLDER:
            node.children = {}
        case FileType.LINK:
            node.target = _bytes(entry.linkname)
        case FileType.CHARACTER | FileType.BLOCK:
            node.device = (entry.devmajor, entry.devminor)
    return node


def _hashed(size: int, tape: _Tape) -> bytes:
    hasher, left = hashlib.sha256(), size
    while left > 0 and (part := tape.some(left)):
        hasher.update(part)
        left -= len(part)
    if left:
        raise NotComparable("a layer breaks off in the middle of a file")
    return hasher.digest()


def _cleaned(path: bytes) -> list[bytes]:
    """Return the parts of `path` from the root on; ``..`` does not lead out of it (umoci, ``CleanPath``)."""
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            with contextlib.suppress(IndexError):
                parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return parts


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
