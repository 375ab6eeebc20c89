"""Snakemake's image folder: where it is, which file is which image, and what else lies there.

As ``snakemake/deployment/singularity.py`` and ``persistence`` of Snakemake 9 have it: the folder is
``--apptainer-prefix``, else ``$APPTAINER_CACHEDIR``, else ``.snakemake/singularity`` of the working directory, with
``~`` and variables expanded; the file of an image is ``md5(url).simg``. An image that several locks name is one file.
Files that are neither an image of that form nor ours are foreign: nothing here ever touches them.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from snakemake_apptainer_freshness.errors import LocalIOError
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.image.scheme import Scheme

_IMAGE: Final = re.compile(r"[0-9a-f]{32}\.simg", re.ASCII)
_DEFAULT: Final = ".snakemake/singularity"
PARTIAL: Final = ".partial-"
QUARANTINE: Final = ".quarantine-"
LOCK: Final = ".lock"
OURS: Final = ".freshness-"
INDEX: Final = ".freshness-index.json"
CLAIM: Final = ".freshness-claim-{}.json"
RECORD: Final = ".freshness.json"
"""Ends the name of what earlier versions wrote beside an image (:mod:`.store.records`)."""
_CLAIM: Final = re.escape(CLAIM).replace(r"\{\}", "[0-9a-f]{32}")


class ItemKind(StrEnum):
    """What a file in the image folder is."""

    IMAGE = "image"
    ALIAS = "alias"
    """A link from the name of a tag's image to that of its pin, while a run lasts (:mod:`.aliases`)."""
    RECORD = "record"
    LOCK = "lock"
    PARTIAL = "partial"
    """A pull that is under way, or was killed."""
    INDEX = "index"
    """Of the records."""
    CLAIM = "claim"
    """Of a lock on the images that it needs."""
    QUARANTINE = "quarantine"
    """Moved aside because it was not what its pin names."""
    FOREIGN = "foreign"


class FolderItem(NamedTuple):
    """One file in the image folder; `urls` are the references that it belongs to, of those that were asked about."""

    path: Path
    kind: ItemKind
    image: str = ""
    urls: tuple[str, ...] = ()


def folder(
    prefix: str | os.PathLike[str] | None = None,
    *,
    workdir: str | os.PathLike[str] = ".",
    environment: Mapping[str, str] | None = None,
) -> Path:
    """Return where Snakemake keeps its images; `prefix` is what ``--apptainer-prefix`` says."""
    environment = os.environ if environment is None else environment
    chosen = os.fspath(prefix) if prefix is not None else environment.get("APPTAINER_CACHEDIR")
    if chosen is None:
        return Path(workdir).absolute() / _DEFAULT
    return Path(workdir).absolute() / Path(os.path.expandvars(chosen)).expanduser()


def image_name(url: str) -> str:
    """Return the name of the file of the image `url`."""
    return hashlib.md5(url.encode(), usedforsecurity=False).hexdigest() + ".simg"


def image_path(prefix: str | os.PathLike[str], url: str) -> Path:
    """Return where the image `url` lies in the image folder `prefix`."""
    return Path(prefix) / image_name(url)


def place_of(prefix: Path, url: str) -> Path:
    """Return where Snakemake looks for the image `url`: a file of this machine stays where it is."""
    reference = parse(url)
    return Path(reference.path).expanduser().absolute() if reference.scheme is Scheme.FILE else image_path(prefix, url)


def survey(prefix: Path, urls: Iterable[str] = ()) -> Iterator[FolderItem]:
    """Yield all that lies in the image folder, sorted by name; `urls` are the pinned references of the locks in use.

    Raises
    ------
    LocalIOError
        where the folder is there but cannot be listed.
    """
    names: dict[str, list[str]] = {}
    for url in dict.fromkeys(urls):
        names.setdefault(image_name(url), []).append(url)
    try:
        listed = sorted(os.listdir(prefix))  # noqa: PTH208  names are all that is needed
    except FileNotFoundError:
        return
    except OSError as error:
        raise LocalIOError(f"cannot list the image folder {prefix}: {error.strerror}") from error
    for name in listed:
        kind, image = _kind(name)
        if kind is ItemKind.IMAGE and alias_target(prefix / name) is not None:
            kind = ItemKind.ALIAS
        yield FolderItem(path=prefix / name, kind=kind, image=image, urls=tuple(names.get(image, ())))


def alias_target(path: Path) -> str | None:
    """Return the name of the image that the file at `path` is a link to, as :mod:`.aliases` makes it.

    None for other files.
    """
    try:
        target = os.readlink(path)  # noqa: PTH115  its text as it is
    except OSError:
        return None
    return target if _IMAGE.fullmatch(target) else None


def _kind(name: str) -> tuple[ItemKind, str]:
    """Return what the file `name` is, and of which image."""
    if name.startswith(OURS):
        if re.fullmatch(_CLAIM, name):
            return ItemKind.CLAIM, ""
        return (ItemKind.INDEX if name == INDEX else ItemKind.PARTIAL), ""
    image = name.lstrip(".")[:37]  # an MD5 and ".simg"; the name of a lock begins with a dot
    if _IMAGE.fullmatch(image) is None:
        return ItemKind.FOREIGN, ""
    rest = name.lstrip(".")[37:]
    if not rest:
        return (ItemKind.IMAGE, image) if name == image else (ItemKind.FOREIGN, "")
    if QUARANTINE in rest:
        return ItemKind.QUARANTINE, image
    if PARTIAL in rest:
        return ItemKind.PARTIAL, image
    if rest == RECORD:
        return ItemKind.RECORD, image
    return (ItemKind.LOCK, image) if rest.startswith(LOCK) else (ItemKind.FOREIGN, "")
