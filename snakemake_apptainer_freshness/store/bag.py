"""Bags: a folder whose files are listed with their checksums (BagIt 1.0, RFC 8493), as data repositories take them.

What is to be kept lies in ``data/``; ``manifest-sha256.txt`` lists each file of it with its SHA-256, and
``tagmanifest-sha256.txt`` the files that describe the bag. A bag is whole once that last file is there, so it is
written last. Its checksums say that nothing was damaged or lost on the way. They prove nothing against who made it.

A bag may come from anywhere, so reading is strict: all that is listed is there, nothing else is in ``data/``, each file
is a regular one under a path within, and each path is listed once. A link, a device, a path that leads out, and a list
of files that are to be fetched from elsewhere (``fetch.txt``) are refused. Names are only compared with what a walk
through the folder found, never opened as they stand in a list.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from snakemake_apptainer_freshness.common.files import NotAFile, opened, read_small, sha256_of, write_atomically
from snakemake_apptainer_freshness.errors import InvalidArchive, LocalIOError, one_line
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.settings import DISK

PAYLOAD: Final = "data"
DECLARATION: Final = "bagit.txt"
_INFORMATION: Final = "bag-info.txt"
_MANIFEST: Final = "manifest-sha256.txt"
_TAGS: Final = "tagmanifest-sha256.txt"
_FETCH: Final = "fetch.txt"
_DECLARED: Final = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
_LINE: Final = re.compile(r"([0-9a-fA-F]{64}) [ *]?(\S.*)")
_AGAIN: Final = "copy the archive again from where it came"


def can_be_named(name: str) -> bool:
    """Return whether a file of this name can be listed: as UTF-8, without characters that readers spell differently."""
    return name.isprintable() and "%" not in name and name.strip() == name and _is_within(name)


def _is_within(name: str) -> bool:
    return not name.startswith(("/", "~")) and all(part not in ("", ".", "..") for part in name.split("/"))


def begin(root: Path) -> None:
    """Make the folder `root` one that is to become a bag: it says so, and is none yet.

    Raises
    ------
    InvalidArchive
        where something else is in there.
    OSError
        where it cannot be written.
    """
    if not is_bag(root):
        if root.exists() and any(root.iterdir()):
            raise InvalidArchive(f"cannot write into {root}: something else is in it", hint="name another folder")
        root.mkdir(parents=True, exist_ok=True)
        write_atomically(root / DECLARATION, _DECLARED)
    (root / PAYLOAD).mkdir(exist_ok=True)
    for folder in (root, root / PAYLOAD):
        status = os.lstat(folder)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise InvalidArchive(f"cannot write into {folder}: it is a link, or not yours", hint="name another folder")
    for name in (_TAGS, _MANIFEST, _INFORMATION):
        (root / name).unlink(missing_ok=True)


def finish(root: Path, files: Mapping[str, str], information: Iterable[tuple[str, str]]) -> None:
    """Make `root` a whole bag of `files`, SHA-256 by name within the payload; `information` describes it for people."""
    size = sum((root / PAYLOAD / name).stat().st_size for name in files)
    facts = [*information, ("Payload-Oxum", f"{size}.{len(files)}")]
    listed = "".join(f"{sha256}  {PAYLOAD}/{name}\n" for name, sha256 in sorted(files.items()))
    tags = {
        DECLARATION: _DECLARED,
        _INFORMATION: "".join(f"{label}: {one_line(value)}\n" for label, value in facts).encode(),
        _MANIFEST: listed.encode(),
    }
    for name, content in tags.items():
        write_atomically(root / name, content)
    sums = "".join(f"{Digest.of(content).hex}  {name}\n" for name, content in sorted(tags.items()))
    write_atomically(root / _TAGS, sums.encode())


def is_bag(root: Path) -> bool:
    """Return whether the folder `root` says that it is a bag, or is to become one."""
    return (root / DECLARATION).is_file()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bag:
    """The bag in the folder `root`: the SHA-256 that it lists for each file, by its name within the payload."""

    root: Path
    files: Mapping[str, str]

    @classmethod
    def of(cls, root: Path) -> Self:
        """Read what the bag lists and see that just that is there; no file of the payload is hashed yet.

        Raises
        ------
        InvalidArchive
            where it is incomplete, hostile, or no bag.
        LocalIOError
            where it cannot be read.
        """
        with _Reading(root):
            if (root / _FETCH).exists():
                raise _refused(root, f"{_FETCH} names files that are elsewhere")
            _hold_tags(root)
            listed = _listed(root, _MANIFEST)
            there = set(_walk(root, root / PAYLOAD))
            prefix = f"{PAYLOAD}/"
            if strange := [name for name in listed if not name.startswith(prefix)]:
                raise _refused(root, f"{_MANIFEST} lists {min(strange)!r}, which is not in {prefix}")
            if missing := listed.keys() - there:
                raise _refused(root, f"it lacks {min(missing)}" + _more(missing))
            if unlisted := there - listed.keys():
                raise _refused(root, f"it holds {min(unlisted)!r}, which {_MANIFEST} does not list")
        return cls(root=root, files={name.removeprefix(prefix): sha256 for name, sha256 in listed.items()})

    @property
    def size(self) -> int:
        """The bytes of the payload, as they lie there."""
        return sum(self.path(name).stat().st_size for name in self.files)

    def path(self, name: str) -> Path:
        """Return where the file `name` of the payload, one of `files`, lies."""
        return self.root / PAYLOAD / name

    def verify(self) -> Iterator[int]:
        """Hash each file of the payload, and give its size once it is what the bag lists.

        Raises
        ------
        InvalidArchive
            where one is something else.
        LocalIOError
            where one cannot be read.
        """
        for name, sha256 in self.files.items():
            with _Reading(self.root), opened(self.path(name)) as file:
                if sha256_of(file) != sha256:
                    raise _refused(self.root, f"{PAYLOAD}/{name} has another SHA-256 than {_MANIFEST} says")
                size = file.tell()
            yield size


def _hold_tags(root: Path) -> None:
    """See that the files that describe the bag are what its last list says."""
    listed = _listed(root, _TAGS)
    for name in (DECLARATION, _MANIFEST):
        if name not in listed:
            raise _refused(root, f"{_TAGS} does not list {name}")
    for name, sha256 in listed.items():
        if "/" in name:
            raise _refused(root, f"{_TAGS} lists {name!r}, which is in a folder")
        if Digest.of(_small(root, name)).hex != sha256:
            raise _refused(root, f"{name} has another SHA-256 than {_TAGS} says")
    if _small(root, DECLARATION).split() != _DECLARED.split():
        raise _refused(root, f"{DECLARATION} does not say that it is a bag of version 1.0 in UTF-8")


def _listed(root: Path, name: str) -> dict[str, str]:
    """Return what the list `name` of `root` says: SHA-256 by path, each path once and within."""
    listed: dict[str, str] = {}
    try:
        lines = _small(root, name).decode().split("\n")
    except UnicodeDecodeError:
        raise _refused(root, f"{name} is not UTF-8 text") from None
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise _refused(root, f"line {number} of {name} is no SHA-256 and path")
        path = match[2]
        if not can_be_named(path):
            raise _refused(root, f"{name} lists {path[:80]!r}, which is no path within the archive")
        if path in listed:
            raise _refused(root, f"{name} lists {path!r} twice")
        listed[path] = match[1].lower()
    return listed


def _small(root: Path, name: str) -> bytes:
    try:
        return read_small(root / name, DISK.bag_list)
    except FileNotFoundError:
        raise _refused(root, f"it lacks {name}, without which it is not whole") from None
    except NotAFile as error:
        raise _refused(root, f"{name} is {error}") from None
    except ValueError:
        raise _refused(root, f"{name} is larger than {DISK.bag_list} bytes") from None


def _walk(root: Path, top: Path) -> Iterator[str]:
    """Give the path of each file below `top`, from `root` on; nothing but files and folders may be there."""
    if top.is_symlink() or not top.is_dir():
        raise _refused(root, f"{PAYLOAD} is no folder")
    waiting = [top]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                mode = entry.stat(follow_symlinks=False).st_mode
                name = str(Path(entry.path).relative_to(root))
                if stat.S_ISDIR(mode):
                    waiting.append(Path(entry.path))
                elif stat.S_ISREG(mode):
                    yield name
                else:
                    raise _refused(root, f"it holds {name[:80]!r}, which is a link or a device")


class _Reading:
    """Turns what cannot be read in `root` into an error that says so."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, NotAFile):
            raise _refused(self._root, f"a file in it is now {error}") from None
        if isinstance(error, OSError):
            raise LocalIOError(
                f"cannot read the archive {self._root}: {error.filename or 'a file in it'}: {error.strerror or error}",
                hint="check its permissions",
            ) from error


def _more(names: set[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _refused(root: Path, problem: str) -> InvalidArchive:
    return InvalidArchive(f"the archive {root} cannot be used: {problem}", hint=_AGAIN)
