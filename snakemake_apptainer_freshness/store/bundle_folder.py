"""A bundle that is unpacked: the folder that ``tar`` makes of one, of which nothing is believed but by its hash.

It holds what :mod:`.archive` has in its tar file, under the same names and with the same table of contents; so it is an
OCI image layout that podman, skopeo, crane and oras read as it stands. An archive of an audit holds its images so, for
layers that are there already need not be written again.

Reading is as strict as there: all that the table of contents announces is there, as regular files with their sizes, and
nothing else. No symbolic link is followed, and a name out of the folder is only ever compared, never used as a path.
"""

import os
import stat
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from snakemake_apptainer_freshness.common.files import NotAFile, opened, read_small
from snakemake_apptainer_freshness.errors import NotFound
from snakemake_apptainer_freshness.image import layout
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import Reference
from snakemake_apptainer_freshness.settings import DISK, LIMITS
from snakemake_apptainer_freshness.store.bundle import CONTENTS, FOLDERS, LOCK, Contents, Member, refused


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFolder:
    """The unpacked bundle in the folder `root`; it can stand where a registry would (:class:`BlobSource`).

    `lock` and `index` are what came with it; both are claims.
    """

    root: Path
    contents: Contents
    lock: bytes
    index: bytes
    _members: dict[str, Member] = field(repr=False)

    @classmethod
    def of(cls, root: Path) -> Self:
        """Read the table of contents in `root` and see that all that it announces is there, and nothing else.

        Raises
        ------
        InvalidBundle
            where it is damaged, hostile, or of another version.
        OSError
            where it cannot be read.
        """
        contents = Contents.loads(_small(root, CONTENTS, DISK.contents_size))
        members = {member.name: member for member in contents.files}
        there = dict(_sizes(root))
        there.pop(CONTENTS, None)
        for name, member in members.items():
            if there.pop(name, None) != member.size:
                raise refused(f"{name} is not there with the announced size")
        if there:
            raise refused(f"it holds {min(there)[:80]!r}, which it does not announce")
        lock, index, _ = (_announced(root, members[name]) for name in (LOCK, layout.INDEX, layout.LAYOUT))
        return cls(root=root, contents=contents, lock=lock, index=index, _members=members)

    def size_of(self, digest: Digest) -> int | None:
        """Return how long the blob `digest` is; None where it is not in here."""
        found = self._members.get(layout.blob_name(digest))
        return None if found is None else found.size

    def manifest(self, reference: Reference, digest: Digest) -> bytes:
        """Return what lies under the name of the manifest or index `digest`, unchecked.

        Raises
        ------
        NotFound
            where it is not in here, or too large to be one.
        """
        size = self.size_of(digest)
        if size is None or size > LIMITS.manifest_size:
            raise NotFound(f"the bundle lacks {digest}, which {reference.text} needs")
        return b"".join(self.blob(reference, digest))

    def blob(self, reference: Reference, digest: Digest) -> Generator[bytes, None, None]:
        """Give what lies under the name of the blob `digest`, a piece at a time, unchecked.

        Raises
        ------
        NotFound
            where it is not in here.
        """
        name = layout.blob_name(digest)
        if name not in self._members:
            raise NotFound(f"the bundle lacks {digest}, which {reference.text} needs")
        try:
            with opened(self.root / name) as file:
                while piece := file.read(DISK.chunk):
                    yield piece
        except NotAFile as error:
            raise refused(f"{name} is {error}") from None


def _small(root: Path, name: str, limit: int) -> bytes:
    try:
        return read_small(root / name, limit)
    except FileNotFoundError:
        raise refused(f"it lacks {name}") from None
    except NotAFile as error:
        raise refused(f"{name} is {error}") from None
    except ValueError:
        raise refused(f"{name} is larger than {limit} bytes") from None


def _announced(root: Path, member: Member) -> bytes:
    content = _small(root, member.name, DISK.contents_size)
    if not member.digest.matches(content):
        raise refused(f"{member.name} is not what its table of contents says")
    return content


def _sizes(root: Path) -> Iterator[tuple[str, int]]:
    """Give name and size of each regular file in `root` and in the folders of a layout; anything else is refused."""
    for folder in ("", *FOLDERS):
        where = root / folder
        if folder and (not where.is_dir() or where.is_symlink()):
            raise refused(f"{folder} is no folder")
        with os.scandir(where) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    yield name, status.st_size
                elif not stat.S_ISDIR(status.st_mode) or name not in FOLDERS:
                    raise refused(f"it holds {name[:80]!r}, which is no regular file")
