"""Trees: a root file system as values, without the files' contents. Pure.

Two things are read into trees and then compared: the layers that a digest names (:mod:`.layers`) and the file system
inside a SIF. Of a file a tree holds type, mode, owner, size and SHA-256, so its memory goes with the number of files
and never with their size. Names and link targets are bytes: what a file is called need not be text.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from snakemake_apptainer_freshness.errors import redact

_LONGEST_SHOWN: Final = 200
PERMISSIONS: Final = 0o7777


class FileType(StrEnum):
    """What stands at a path."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "symbolic link"
    CHARACTER = "character device"
    BLOCK = "block device"
    FIFO = "FIFO"
    SOCKET = "socket"

    @property
    def is_device(self) -> bool:
        """Whether it has device numbers."""
        return self in (FileType.CHARACTER, FileType.BLOCK)


class NotComparable(Exception):
    """A layer or a file system that cannot be read for certain; it proves nothing. The text is the reason."""


@dataclass(slots=True, kw_only=True)
class Node:
    """One path. `mode` has the permission bits, set-id and sticky included; `sha256` is raw, for files alone.

    `capability` is the extended attribute ``security.capability``: what a program may do that its user may not.

    `children` is there for folders alone. `implied` says that nothing describes this folder: it had to be made for
    what is in it. `layer` is the number of the last layer that touched the path, or what is in it.
    """

    kind: FileType
    mode: int = 0
    owner: tuple[int, int] = (0, 0)
    size: int = 0
    sha256: bytes = b""
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    capability: bytes = b""
    children: "dict[bytes, Node] | None" = None
    implied: bool = False
    layer: int = 0

    @classmethod
    def made_folder(cls, layer: int = 0) -> Self:
        """Return a folder that nothing describes."""
        return cls(kind=FileType.FOLDER, mode=0o755, children={}, implied=True, layer=layer)

    def walk(self) -> "Iterator[tuple[bytes, Node]]":
        """Yield every path below this folder, without a leading slash; folders before what is in them."""
        waiting = [(b"", self)]
        while waiting:
            path, node = waiting.pop()
            if path:
                yield path, node
            prefix = path + b"/" if path else b""
            waiting += [(prefix + name, child) for name, child in (node.children or {}).items()]


def shown(path: bytes) -> str:
    """Return `path` for a person: with its leading slash, on one line, not too long."""
    text = redact("/" + path.decode("utf-8", "replace").replace("\n", "\\n").replace("\t", "\\t"))
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
