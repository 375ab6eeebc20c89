"""Comparing the file system of an image with its layers: every difference that Apptainer does not explain counts.

Compared are, for each path: type, permission bits, owner, target of a link, device numbers, capabilities
(``security.capability``), size, SHA-256 of the content. Not compared are times, other extended attributes (see
:mod:`.squashfs_tables`) and which names are hard links of one file.

This is all that Apptainer is known to change, seen in images that 1.4.5 built, as root and as a user, and read in its
sources (``internal/pkg/build``; umoci, ``oci/layer/tar_extract.go``):

1. It **inserts its own** (``makeBaseEnv``, ``insertRunScript``, ``insertEnv``), which :mod:`.inserted` finds out. A
   folder or a symbolic link is only made where the layers have nothing there; a file always replaces theirs, which
   empties ``/etc/hosts`` and ``/etc/resolv.conf``, unless the layers have a symbolic link there. What stands in
   ``labels.json`` and ``Singularity`` is data of the build, and never run.
2. **Folders that no entry describes** get their mode from the umask of the user who builds.
3. The **root folder** becomes writable for its owner.
4. **Owners** become root where a user builds (``mksquashfs -all-root``).
5. **Devices** become empty files where a user builds: only root may make them.
6. What its **owner may not read** a user cannot pack: mksquashfs leaves such a folder out and makes such a file empty
   (in real images: ``/etc/shadow`` with mode 0000).
7. **Capabilities** of a file are lost where a user builds: only root may give them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from snakemake_apptainer_freshness.image.tree import FileType, Node, shown

_FREE: Final = frozenset({b".singularity.d/labels.json", b".singularity.d/Singularity"})
"""Inserted files whose content is about the build."""
_ROOT: Final = (0, 0)
_WRITE, _READ, _SEARCH = 0o200, 0o400, 0o100
_IMPLIED: Final = 0o777
"""The bits that a umask can take away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeDifference:
    """One path at which an image is not what its layers and Apptainer make.

    `of_apptainer` says that it is about what Apptainer inserts, and not about a layer.
    """

    path: bytes
    what: str
    of_apptainer: bool = False

    def __str__(self) -> str:
        return f"{shown(self.path)}: {self.what}"


def differences(layers: Node, inserted: Node, image: Node) -> Iterator[TreeDifference]:
    """Yield where the tree `image` is not what comes of `layers` with what Apptainer has `inserted`; sorted by path."""
    if what := _compared(layers, image, is_root=True):
        yield TreeDifference(path=b"", what=what)
    waiting: list[tuple[bytes, Node | None, Node | None, Node | None]] = [(b"", layers, inserted, image)]
    while waiting:
        path, *nodes = waiting.pop()
        if path:
            wanted, own, found = nodes
            difference = _judge(path, wanted, own, found)
            if difference is not None:
                yield difference
            if difference is not None or found is None or found.kind is not FileType.FOLDER:
                continue
        waiting += reversed(list(_below(path, *nodes)))


def _below(
    path: bytes, wanted: Node | None, own: Node | None, found: Node | None
) -> Iterator[tuple[bytes, Node | None, Node | None, Node | None]]:
    sides = [(node.children if node is not None else None) or {} for node in (wanted, own, found)]
    prefix = path + b"/" if path else b""
    for name in sorted(set().union(*sides)):
        yield prefix + name, sides[0].get(name), sides[1].get(name), sides[2].get(name)


def _judge(path: bytes, wanted: Node | None, own: Node | None, found: Node | None) -> TreeDifference | None:
    """Return what is wrong at `path`: `wanted` is what the layers have there, `own` what Apptainer inserts."""
    by_apptainer = own is not None and (
        wanted is None or (own.kind is FileType.FILE and wanted.kind is not FileType.LINK)
    )
    expected = own if by_apptainer else wanted
    if found is None:
        if wanted is not None and not by_apptainer and _unreadable_folder(wanted):
            return None  # where a user builds, a folder that its owner may not enter is left out
        what = "is missing"
    elif expected is None:
        what = "is in no layer"
    elif by_apptainer:
        what = _compared_to_own(path, expected, found)
    else:
        what = _compared(expected, found)
    return TreeDifference(path=path, what=what, of_apptainer=by_apptainer) if what else None


def _compared_to_own(path: bytes, own: Node, found: Node) -> str:
    """Return what is wrong with something that Apptainer inserts."""
    if own.kind is not found.kind:
        return f"is a {found.kind}, Apptainer makes a {own.kind}"
    if own.kind is FileType.FOLDER:
        return _wrong_implied(found)
    if path in _FREE:
        return "" if found.mode == own.mode else _other_mode(found, own)
    if own.kind is FileType.FILE and (own.size, own.sha256) != (found.size, found.sha256):
        return "is not what Apptainer writes there"
    return _compared(own, found)


def _compared(wanted: Node, found: Node, *, is_root: bool = False) -> str:
    """Return what is wrong with `found`, where the layers have `wanted`; empty where nothing is."""
    if wanted.kind is not found.kind and not _stands_for_device(wanted, found):
        return f"is a {found.kind}, its layers have a {wanted.kind}"
    if wanted.implied:
        return _wrong_implied(found)
    if found.owner not in (wanted.owner, _ROOT):  # where a user builds, all becomes root's
        return f"its owner is {found.owner[0]}:{found.owner[1]}, by its layers {wanted.owner[0]}:{wanted.owner[1]}"
    if wanted.kind is not FileType.LINK and found.mode not in (wanted.mode, wanted.mode | _WRITE * is_root):
        return _other_mode(found, wanted)
    if found.target != wanted.target:
        return f"leads to {_quoted(found.target)}, by its layers to {_quoted(wanted.target)}"
    if found.kind.is_device and found.device != wanted.device:
        return f"is device {found.device[0]}:{found.device[1]}, by its layers {wanted.device[0]}:{wanted.device[1]}"
    if found.capability not in (wanted.capability, b""):  # where a user builds, capabilities are lost
        return f"has {'other capabilities than in' if wanted.capability else 'capabilities that are not in'} its layers"
    if wanted.kind is not FileType.FILE or (found.size == 0 and not wanted.mode & _READ):
        return ""  # where a user builds, a file that its owner may not read becomes empty
    if found.size != wanted.size:
        return f"has {found.size} bytes, by its layers {wanted.size}"
    return "" if found.sha256 == wanted.sha256 else "its content is another one than in its layers"


def _stands_for_device(wanted: Node, found: Node) -> bool:
    # where a user builds, devices become empty files
    return wanted.kind.is_device and found.kind is FileType.FILE and found.size == 0


def _unreadable_folder(wanted: Node) -> bool:
    return wanted.kind is FileType.FOLDER and not wanted.implied and wanted.mode & (_READ | _SEARCH) != _READ | _SEARCH


def _wrong_implied(found: Node) -> str:
    if found.owner != _ROOT:
        return f"its owner is {found.owner[0]}:{found.owner[1]}, and not root"
    if found.mode & ~_IMPLIED:
        return f"has mode {found.mode:04o}, which no umask explains"
    return ""


def _other_mode(found: Node, wanted: Node) -> str:
    return f"has mode {found.mode:04o}, by its layers {wanted.mode:04o}"


def _quoted(target: bytes) -> str:
    return repr(shown(target)[1:])
