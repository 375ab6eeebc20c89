"""Bundles for tests: saved of images in memory, taken apart, changed, and loaded.

``saved`` is a good bundle of one image; :class:`TakenApart` changes a file of one and what is announced of it, as an
attacker would who knows the format.
"""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from snakemake_apptainer_freshness.actions.bundle import BundleSelection, gather
from snakemake_apptainer_freshness.actions.pack import save
from snakemake_apptainer_freshness.actions.unpack import LoadedBundle, Loader
from snakemake_apptainer_freshness.common.progress import ProgressBars
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from snakemake_apptainer_freshness.settings import PinKind
from snakemake_apptainer_freshness.store import bundle_tar
from tests.support import images, programs
from tests.support.digests import sha256
from tests.support.images import Image, Index
from tests.support.pins import lock_entry
from tests.support.proofs import REPOSITORY, Served


def entry_text(content: Image | Index) -> str:
    """A lock that pins `content`, which stands in no registry."""
    here = f"linux/{images.native_architecture()}"
    children = content.children if isinstance(content, Index) else []
    own = [one.digest for one in children if isinstance(one, Image) and here.endswith(one.architecture)]
    platforms = {here: own[0]} if own else {}
    reference = f"docker://{REPOSITORY}:1.0"
    return dumps(Lock.of([lock_entry(reference, content.digest, platforms, media_type=content.media_type)]))


def saved(
    content: Image | Index,
    folder: Path,
    *,
    registry: Served | None = None,
    all_platforms: bool = False,
    with_images: bool = False,
) -> Path:
    """The bundle of `content`, in `folder`, which has its lock and, in ``images``, its ready SIF if that is wanted."""
    lock, target = folder / "containers.lock", folder / "all.tar"
    folder.mkdir(parents=True, exist_ok=True)
    lock.write_text(entry_text(content))
    selection = BundleSelection(prefix=folder / "images", all_platforms=all_platforms, with_images=with_images)
    registry = registry or Served(content=content)
    save(gather(lock, selection, registry=registry, advance=lambda _: None), target, lambda _: None)
    return target


@dataclass(kw_only=True)
class Place:
    """A folder that bundles are loaded into; it collects what was noted."""

    folder: Path
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of_a_user(cls, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
        """A place in `folder` of a user who has an empty home there, for the real Apptainer."""
        for key, value in programs.environment(folder / "home").items():
            monkeypatch.setenv(key, value)
        monkeypatch.setenv("APPTAINER_TMPDIR", str(folder))
        (folder / "home").mkdir()
        return cls(folder=folder / "target")

    @property
    def lock(self) -> Path:
        """Where the lock is put."""
        return self.folder / "containers.lock"

    @property
    def prefix(self) -> Path:
        """Where the images are put."""
        return self.folder / "images"

    @property
    def put(self) -> list[str]:
        """What stands there that a run would use or that was left half-done: everything but our registrations."""
        names = [path.name for path in self.folder.rglob("*") if path.is_file()]
        return sorted(name for name in names if not name.startswith(".freshness-"))

    def load(self, bundle: Path | bytes, *, kind: PinKind = PinKind.INDEX) -> LoadedBundle:
        """Load a bundle: from a file, unpacked in a folder, or, given as bytes, from a pipe."""
        self.folder.mkdir(exist_ok=True)
        loader = Loader(
            lock_path=self.lock,
            prefix=self.prefix,
            kind=kind,
            bars=ProgressBars(enabled=False),
            note=self.notes.append,
        )
        if isinstance(bundle, bytes):
            return loader.load(Pipe(bundle))
        if bundle.is_dir():
            return loader.load(bundle)
        with bundle.open("rb") as file:
            return loader.load(file)


class Pipe(io.BytesIO):
    """Bytes that can be read once, forward."""

    def seekable(self) -> bool:
        """A pipe is not."""
        return False

    def seek(self, *_: Any) -> int:
        """A pipe cannot."""
        raise io.UnsupportedOperation("seek")


@dataclass(kw_only=True)
class TakenApart:
    """What a bundle holds, in order, to be changed and put together again."""

    files: list[tuple[tarfile.TarInfo, bytes]]

    @classmethod
    def of(cls, bundle: Path) -> TakenApart:
        """Take `bundle` apart."""
        with tarfile.open(bundle) as opened:
            return cls(
                files=[(one, content.read()) for one in opened.getmembers() if (content := opened.extractfile(one))]
            )

    @property
    def table(self) -> dict[str, Any]:
        """The table of contents."""
        return dict(json.loads(self.files[0][1]))

    def announce(self, **changes: Any) -> None:
        """Change the table of contents."""
        self.files[0] = (self.files[0][0], json.dumps(self.table | changes).encode())

    def announce_of(self, position: int, **changes: Any) -> None:
        """Change what is announced of one file."""
        files = self.table["file"]
        files[position - 1] |= changes
        self.announce(file=files)

    def position(self, digest: str) -> int:
        """Where the blob `digest` stands."""
        name = f"blobs/{digest.replace(':', '/')}"
        return next(number for number, (member, _) in enumerate(self.files) if member.name == name)

    def named(self, name: str) -> int:
        """Where the file `name` stands."""
        return next(number for number, (member, _) in enumerate(self.files) if member.name == name)

    def put(self, position: int, content: bytes) -> None:
        """Change a file, and what is announced of its size; a blob keeps its name."""
        member = self.files[position][0]
        self.files[position] = (member, content)
        is_blob = member.name.startswith("blobs/")
        self.announce_of(position, size=len(content), **({} if is_blob else {"digest": sha256(content)}))

    def add(self, content: bytes) -> str:
        """Add a blob, announced as it is; its digest."""
        digest = sha256(content)
        name = f"blobs/{digest.replace(':', '/')}"
        self.files.append((tarfile.TarInfo(name), content))
        self.announce(file=[*self.table["file"], {"name": name, "size": len(content), "digest": digest}])
        return digest

    def drop(self, position: int) -> None:
        """Take a file out, and what is announced of it."""
        files = self.table["file"]
        del files[position - 1], self.files[position]
        self.announce(file=files)

    @property
    def bytes(self) -> bytes:
        """The archive, put together again."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as new:
            for number, (member, content) in enumerate(self.files):
                for folder in ("blobs", "blobs/sha256") if number == 1 else ():
                    header = tarfile.TarInfo(folder)
                    header.type = tarfile.DIRTYPE
                    new.addfile(header)
                member.size = len(content) if member.type == tarfile.REGTYPE else 0
                new.addfile(member, io.BytesIO(content))
        return out.getvalue()


def older() -> bytes:
    """A bundle of the first version, in which nothing was proven."""
    table = {"version": 1, "platform": "linux/amd64", "file": []}
    content = json.dumps(table).encode()
    return bundle_tar.header("bundle.json", len(content)) + content + bundle_tar.padding(len(content)) + bundle_tar.END
