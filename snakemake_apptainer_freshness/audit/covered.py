"""What a run put over a path of an image: binds, overlays and variables of its record, held against the image's tree.

A bind over a program of an image has the image run another program; one at a path that the image does not have, such as
``/scratch``, changes nothing. Which of the two it is the image itself says, where the very file that ran is still here.
Where it is not, a bind counts as being over a path of the image, unless it is where Apptainer itself binds.
"""

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.apptainer import sif, squashfs
from snakemake_apptainer_freshness.audit.verdicts import ImageCondition
from snakemake_apptainer_freshness.common.files import NotAFile, opened
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.image.tree import FileType, Node, NotComparable
from snakemake_apptainer_freshness.record.overrides import FILES_BOUND_ANYWAY, LOADED_FROM, is_open
from snakemake_apptainer_freshness.record.run import Override, OverrideKind, Run

_BOUND_ANYWAY: Final = ("/dev", "/proc", "/sys", "/tmp", "/var/tmp")  # noqa: S108  names, not files
"""Folders of the host that Apptainer mounts into every container, and of which nothing is the image's."""
_MOST_LINKS: Final = 40
"""As many symbolic links as Linux follows on one way."""


def covered(runs: Sequence[Run], conditions: Mapping[str, ImageCondition]) -> dict[tuple[str, str], str]:
    """Return by run and image (its url) what was put over a path of that image, in words; nothing where nothing was.

    `conditions` say what the file of each image is now, by its url.
    """
    trees: dict[str, Node | None] = {}
    texts_by_image = {}
    for run in runs:
        overrides = [override for override in run.runtime.overrides if _may_matter(override)] if run.runtime else []
        for image in run.images if overrides else ():
            now = conditions.get(image.pinned)
            is_here = now is not None and bool(image.sha256) and now.sha256 == image.sha256
            if is_here and now is not None and image.pinned not in trees:
                trees[image.pinned] = _tree(Path(now.path))
            tree = trees.get(image.pinned) if is_here else None
            if texts := list(_describe(overrides, tree)):
                texts_by_image[run.id, image.pinned] = "; ".join(texts)
    return texts_by_image


def _may_matter(override: Override) -> bool:
    if override.kind is not OverrideKind.BIND or is_open(override.path):
        return True
    if override.path in FILES_BOUND_ANYWAY:
        return False
    return not any(override.path == folder or override.path.startswith(f"{folder}/") for folder in _BOUND_ANYWAY)


def _tree(path: Path) -> Node | None:
    """Return the names in the image file `path`; None where they cannot be read for certain."""
    try:
        with opened(path) as file:
            partition = sif.read(file).partition
            return squashfs.names(file, partition.offset, partition.size) if partition is not None else None
    except (OSError, NotAFile, NotComparable, FreshnessError):
        return None


def _describe(overrides: Iterable[Override], tree: Node | None) -> Iterator[str]:
    for override in overrides:
        source = f"{override.source} " if override.source else ""
        if override.kind is OverrideKind.VARIABLE:
            yield f"{override.by} put {source}before what the image sets as {override.path}"
        elif override.kind is OverrideKind.OVERLAY:
            yield f"{override.by} put an overlay {source}over the image"
        elif tree is None:
            yield f"{override.by} bound {source}at {override.path}, and the image is not here to say what it has there"
        elif is_open(override.path) or covers(tree, override.path):
            yield f"{override.by} bound {source}over {override.path} of the image"


def covers(tree: Node, path: str) -> bool:
    """Return whether a bind at the absolute `path` is over something of `tree`, or adds to what its programs load.

    An empty folder is there to be bound over, and so is what the image does not have at all; symbolic links of the
    image are followed, as Apptainer does.
    """
    waiting = [part for part in posixpath.normpath(path).encode(errors="surrogateescape").split(b"/") if part]
    way: list[tuple[bytes, Node]] = []
    links = 0
    while waiting:
        name = waiting.pop(0)
        if name == b"..":
            way = way[:-1]
            continue
        folder = way[-1][1] if way else tree
        node = (folder.children or {}).get(name)
        if node is None:
            return _is_loaded_from(way[0][0] if way else name) or (bool(way) and _has_files(folder))
        if node.kind is FileType.LINK:
            links += 1
            if links > _MOST_LINKS:
                return True
            way = [] if node.target.startswith(b"/") else way
            waiting = [part for part in node.target.split(b"/") if part not in (b"", b".")] + waiting
        else:
            way.append((name, node))
    if not way:
        return True
    return _is_loaded_from(way[0][0]) or way[-1][1].kind is not FileType.FOLDER or bool(way[-1][1].children)


def _is_loaded_from(name: bytes) -> bool:
    return name.decode(errors="replace") in LOADED_FROM


def _has_files(folder: Node) -> bool:
    return any(node.kind is not FileType.FOLDER for node in (folder.children or {}).values())
