"""An unpacked bundle: the folder that ``tar`` makes of one; nothing in it is believed unless its hash fits.

It holds what :mod:`.bundle_tar` has in its tar file, under the same names and with the same table of contents; so it is
an OCI image layout that podman, skopeo, crane and oras read as it stands. An archive of an audit holds its images so,
for layers that are there already need not be written again.

Reading is as strict as there: all that the table of contents announces is there, as regular files with their sizes, and
nothing else. No symbolic link is followed, and a name out of the folder is only ever compared, never used as a path.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from snakemake_apptainer_freshness.common.files import NotAFile, opened, read_small
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store.bundle_layout import CONTENTS, FOLDERS, Bundle, Contents, Member, refused


class BundleFolder(Bundle):
    """The unpacked bundle in the folder `root`."""

    def __init__(self, root: Path) -> None:
        """Read the table of contents in `root` and see that all that it announces is there, and nothing else.

        Raises
        ------
        InvalidBundle
            where it is damaged, hostile, or of another version.
        OSError
            where it cannot be read.
        """
        self._root = root
        contents = Contents.loads(_small(root, CONTENTS, DISK.contents_size))
        there = dict(_sizes(root))
        there.pop(CONTENTS, None)
        for member in contents.files:
            if there.pop(member.name, None) != member.size:
                raise refused(f"{member.name} is not there with the announced size")
        if there:
            raise refused(f"it holds {min(there)[:80]!r}, which it does not announce")
        super().__init__(contents)

    def _pieces(self, member: Member) -> Iterator[bytes]:
        try:
            with opened(self._root / member.name) as file:
                yield from iter(lambda: file.read(DISK.chunk), b"")
        except NotAFile as error:
            raise refused(f"{member.name} is {error}") from None


def _small(root: Path, name: str, limit: int) -> bytes:
    try:
        return read_small(root / name, limit)
    except FileNotFoundError:
        raise refused(f"it lacks {name}") from None
    except NotAFile as error:
        raise refused(f"{name} is {error}") from None
    except ValueError:
        raise refused(f"{name} is larger than {limit} bytes") from None


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
