"""Archives of audits for tests: written of a work directory in which nothing was run, taken to pieces, and changed.

``archived`` writes a good one, with an image out of memory; :func:`rebagged` makes the lists of one fit whatever was
put into it, as an attacker would who knows the format.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snakemake_apptainer_freshness.audit import archive, judge
from snakemake_apptainer_freshness.audit.archive_files import ArchiveRequest
from snakemake_apptainer_freshness.audit.archive_replay import ArchiveReplay, replay
from snakemake_apptainer_freshness.audit.results import Audit
from snakemake_apptainer_freshness.engine.persistence import read
from snakemake_apptainer_freshness.record.run import LockUsed, Run, WorkflowSource
from tests.support import audits, images, records
from tests.support.bundles import entry_text
from tests.support.digests import sha256
from tests.support.images import Image, Index
from tests.support.proofs import REPOSITORY, Served

SNAKEFILE = b"rule all:\n    input: 'result.txt'\n"


def project(folder: Path, content: Image | Index, *, number: int = 1) -> Run:
    """A work directory in `folder` with a lock, a Snakefile, and one run that made ``result.txt`` of ``text.txt``."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = entry_text(content)
    (folder / "Snakefile").write_bytes(SNAKEFILE)
    (folder / "containers.lock").write_text(lock)
    (folder / "text.txt").write_text("one two\n")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    own = [one.digest for one in getattr(content, "children", []) if isinstance(one, Image)]
    ran = audits.image(
        f"docker://{REPOSITORY}:1.0",
        pinned=f"docker://{REPOSITORY}@{content.digest}",
        digest=content.digest,
        manifest=own[0] if own else content.digest,
        platform=f"linux/{images.native_architecture()}",
        path="",
    )
    left = records.output(folder, "result.txt")
    plain = records.output(folder, "plain.txt")
    records.metadata(folder, "result.txt", input=["text.txt"], container_img_url=ran.pinned)
    records.metadata(folder, "plain.txt", rule="plain", input=["result.txt"])
    run = records.run(
        folder,
        number,
        records.job(1, "count", left, ran=ran),
        records.job(2, "plain", plain),
        images=(ran,),
        source=WorkflowSource(snakefile=str(folder / "Snakefile"), sha256=hashlib.sha256(SNAKEFILE).hexdigest()),
        lock=LockUsed(path=str(folder / "containers.lock"), sha256=hashlib.sha256(lock.encode()).hexdigest()),
    )
    return records.write(folder, run)[-1]


def audited(folder: Path) -> Audit:
    """The audit of the work directory `folder`."""
    return judge.audit([folder], read_metadata=read)


def request(target: Path, *more: Path, snakefile: Path | None = None) -> ArchiveRequest:
    """What is asked for: `target`, and what goes in besides."""
    return ArchiveRequest(target=target, more=more, snakefile=snakefile)


def written(
    folder: Path,
    wanted: ArchiveRequest,
    content: Image | Index,
    *,
    registry: Served | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> archive.ArchivePlan:
    """Archive the work directory `folder` as the command line does; the plan of it."""
    audit = audited(folder)
    archive.check(audit, wanted)
    made = archive.plan(audit, wanted, registry=registry or Served(content=content), advance=lambda _: None)
    archive.write(made, advance)
    return made


def archived(folder: Path, content: Image | Index) -> Path:
    """A good archive in `folder`."""
    project(folder / "work", content)
    written(folder / "work", request(folder / "archive", folder / "work" / "text.txt"), content)
    return folder / "archive"


def replayed(root: Path, *, allowed: Path | None = None) -> ArchiveReplay:
    """What is said of the archive in `root`."""
    return replay(root, allowed=allowed, hashed=lambda _size, _total: None)


def answers(root: Path) -> dict[str, tuple[bool, str]]:
    """For each output, whether it could be made again, and why."""
    return {one.path: (one.possible, one.why) for one in replayed(root).outputs}


def copied(root: Path, target: Path) -> Path:
    """A copy of the archive in `root`, to be changed."""
    shutil.copytree(root, target, symlinks=True)
    return target


def rebagged(root: Path) -> Path:
    """Make the lists of the archive fit what is in it now."""
    payload = sorted(path for path in (root / "data").rglob("*") if path.is_file() and not path.is_symlink())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n" for path in payload]
    (root / "manifest-sha256.txt").write_text("".join(lines))
    return retagged(root)


def retagged(root: Path) -> Path:
    """Make the last list fit the files that describe the archive."""
    names = ("bag-info.txt", "bagit.txt", "manifest-sha256.txt")
    tags = [f"{hashlib.sha256((root / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (root / "tagmanifest-sha256.txt").write_text("".join(tags))
    return root


def announced(root: Path, **changes: Any) -> None:
    """Change the archive's own table."""
    path = root / "data" / "archive.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def blob(root: Path, digest: str) -> Path:
    """Where the blob `digest` lies in the archive."""
    return root / "data" / "images" / "blobs" / digest.replace(":", "/")


def reannounced(root: Path) -> None:
    """Make the table of contents of the bundle in it fit what is there."""
    images_folder = root / "data" / "images"
    table = json.loads((images_folder / "bundle.json").read_text())
    there = {one["name"]: one for one in table["file"]}
    files = []
    names = [one["name"] for one in table["file"] if (images_folder / one["name"]).exists()]
    for name in names:
        content = (images_folder / name).read_bytes()
        named = name.startswith("blobs/")
        digest = there[name]["digest"] if named else sha256(content)
        files.append({"name": name, "size": len(content), "digest": digest})
    (images_folder / "bundle.json").write_text(json.dumps(table | {"file": files}))
