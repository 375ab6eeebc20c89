"""The archive of an audit: all that is needed to prove and run again what a work directory holds, in one folder.

What goes in is gathered first, so that its size can be told before anything is written: the images of the lock as
layers (:mod:`.actions.bundle`), the files of the workflow that git tracks and those that a person names, the records of
all runs with their seals, and the crate of the results. Results themselves go in only where they are named: they can be
made again, and may be terabytes.

It is written as ``DIR.partial``, which becomes DIR when it is whole. What was written when it was stopped stays, and
the same command goes on with it. Layers that an earlier archive of the same work directory in DIR has are linked from
it, and it is replaced once the new one is whole.
"""

import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.actions import bundle
from snakemake_apptainer_freshness.actions.bundle import Advance, BundleContent
from snakemake_apptainer_freshness.actions.image_content import BlobSource
from snakemake_apptainer_freshness.actions.pack import there_already, unpacked
from snakemake_apptainer_freshness.audit.archive_files import (
    ArchiveRequest,
    FilePicking,
    TakenFile,
    files_in,
    is_file,
    listed,
    missing_inputs,
    partial_of,
    sha256_at,
)
from snakemake_apptainer_freshness.audit.archive_layout import (
    CRATE,
    IMAGES,
    README,
    TABLE,
    ArchiveTable,
    readme,
)
from snakemake_apptainer_freshness.audit.disk import NotCopied, copy, copy_recorded, place
from snakemake_apptainer_freshness.audit.render import rocrate
from snakemake_apptainer_freshness.audit.results import Audit
from snakemake_apptainer_freshness.common.files import read_small, unique
from snakemake_apptainer_freshness.common.locks import exclusive
from snakemake_apptainer_freshness.common.removal import remove_tree
from snakemake_apptainer_freshness.errors import InvalidArchive, LocalIOError, UsageError
from snakemake_apptainer_freshness.record.run import Ending, Run
from snakemake_apptainer_freshness.settings import DISK, RECORDS
from snakemake_apptainer_freshness.store import bag, prefix
from snakemake_apptainer_freshness.store.bag import PAYLOAD, Bag
from snakemake_apptainer_freshness.store.bundle_layout import CONTENTS

_EXECUTABLE: Final = 0o111
_TAG_FILES: Final = frozenset({"bagit.txt", "bag-info.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt", PAYLOAD})


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivePlan:
    """What goes into an archive. `there` are the bytes of images that need not be written again.

    `notes` are what a person should know: what is not in it, and why.
    """

    audit: Audit
    request: ArchiveRequest
    table: ArchiveTable
    images: BundleContent
    files: tuple[TakenFile, ...]
    there: int
    notes: tuple[str, ...]

    @property
    def to_write(self) -> int:
        """About how many bytes are written."""
        return self.images.contents.size - self.there + sum(file.size for file in self.files)


def check(audit: Audit, request: ArchiveRequest) -> None:
    """Refuse what cannot be archived, before anything is asked or written.

    Raises
    ------
    UsageError
        where it are several work directories, a run goes on, or the folder holds something else.
    """
    rocrate.check(audit, None, _options(request))
    if under_way := [run.id for run in audit.runs if run.ending is Ending.RUNNING]:
        raise UsageError(f"cannot archive: the run {under_way[0]} goes on", hint="archive when it has ended")
    _earlier(request.target, audit.workdirs[0])


def plan(audit: Audit, request: ArchiveRequest, *, registry: BlobSource, advance: Advance) -> ArchivePlan:
    """Return what goes into the archive; layers that are not here are asked for at `registry`.

    `advance` is told each image that was asked for. Raises as :func:`check` and :func:`~.actions.bundle.gather` do.
    """
    workdir, run = Path(audit.workdirs[0]), audit.runs[-1]
    picking = FilePicking(workdir=workdir, request=request)
    snakefile = picking.workflow(run)
    lock = picking.lock(run)
    for path in request.more:
        picking.named(path)
    picking.records(audit.runs)
    selection = bundle.BundleSelection(prefix=_image_folder(run, workdir))
    content = bundle.gather(lock.source, selection, registry=registry, advance=advance)
    table = ArchiveTable(
        workdir=str(workdir),
        snakefile=snakefile,
        lock=lock.name,
        inputs={output.path: output.inputs for output in audit.outputs},
    )
    folders = image_folders(audit, request)
    files = {taken.name: taken for taken in picking.taken}
    notes = [*picking.notes, *(f"not in the archive: {left.reference}: {left.why}" for left in content.left)]
    return ArchivePlan(
        audit=audit,
        request=request,
        table=table,
        images=content,
        files=tuple(files.values()),
        there=there_already(content, folders),
        notes=(*notes, *_missing_inputs(table, files.keys())),
    )


def image_folders(audit: Audit, request: ArchiveRequest) -> tuple[Path, ...]:
    """Return where images lie that an archive of `audit` has already: an earlier one, and one that was begun."""
    return (*_earlier(request.target, audit.workdirs[0]), partial_of(request.target) / PAYLOAD / IMAGES)


def write(plan: ArchivePlan, advance: Advance) -> int:
    """Write the archive; `advance` is told the bytes that are done. Returns how many bytes it has.

    Raises
    ------
    UnprovenImage, RegistryError
        as :func:`~.actions.pack.unpacked` does.
    UsageError
        where a file changed since it was looked at, or the crate cannot be made.
    LocalIOError
        where something cannot be read or written.
    """
    target, partial = plan.request.target, partial_of(plan.request.target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(partial):
            earlier = _earlier(target, plan.audit.workdirs[0])
            bag.begin(partial)
            _refuse_without_room(plan, target)
            data = partial / PAYLOAD
            _sweep(data, plan)
            unpacked(plan.images, data / IMAGES, advance, earlier=earlier)
            sums = {f"{IMAGES}/{file.name}": file.digest.hex for file in plan.images.contents.files}
            sums |= {file.name: _copied(file, data / file.name, plan, advance) for file in plan.files}
            rocrate.write(plan.audit, data / CRATE, _options(plan.request))
            (data / TABLE).write_bytes(plan.table.dumps())
            (data / README).write_bytes(readme(plan.table, plan.audit.answer))
            for path in [*files_in(data / CRATE), data / TABLE, data / README, data / IMAGES / CONTENTS]:
                sums[str(path.relative_to(data))] = sha256_at(path)
            bag.finish(partial, sums, _information(plan))
            size = sum((data / name).stat().st_size for name in sums)
            _put(partial, target)
    except OSError as error:
        raise LocalIOError(
            f"cannot write the archive {target}: {error.filename or ''}: {error.strerror or error}",
            hint="check that you may write there, and that there is room for it",
        ) from error
    return size


def _image_folder(run: Run, workdir: Path) -> Path:
    """Return the image folder of `run`, for images that are carried as they are."""
    path = next((image.path for image in run.images if image.path), "")
    return place(path, recorded_in=run.workdir, workdir=workdir).parent if path else prefix.folder(workdir=workdir)


def _missing_inputs(table: ArchiveTable, names: Iterable[str]) -> Iterator[str]:
    missing = missing_inputs(table.inputs, set(names))
    wanted = sorted({name for inputs in missing.values() for name in inputs})
    if wanted:
        yield (
            f"not in the archive: {listed(wanted)}: outputs were made of it, and no job made it; "
            "add it with --archive-with"
        )


# --- Writing ---------------------------------------------------------------------------------------------------------


def _options(request: ArchiveRequest) -> dict[str, Path]:
    return {"--snakefile": request.snakefile} if request.snakefile is not None else {}


def _earlier(target: Path, workdir: str) -> list[Path]:
    """Return the images of an archive that is there already; nothing where nothing is there."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return []
    foreign = InvalidArchive(
        f"cannot write the archive {target}: something else is there", hint="name a folder that is new"
    )
    if not target.is_dir() or not bag.is_bag(target) or not {path.name for path in target.iterdir()} <= _TAG_FILES:
        raise foreign
    there = Bag.of(target)
    if TABLE not in there.files:
        raise foreign
    table = ArchiveTable.loads(read_small(there.path(TABLE), DISK.bag_list))
    if table.workdir != workdir:
        raise InvalidArchive(
            f"cannot write the archive {target}: the one that is there is of {table.workdir}",
            hint="name a folder that is new",
        )
    return [there.path(IMAGES)]


def _refuse_without_room(plan: ArchivePlan, target: Path) -> None:
    free = shutil.disk_usage(target.parent).free
    if plan.to_write > free:
        raise LocalIOError(
            f"cannot write the archive {target}: it takes {plan.to_write} bytes, and there is room for {free}",
            hint="make room, or name a folder elsewhere",
        )


def _sweep(data: Path, plan: ArchivePlan) -> None:
    """Remove what an unfinished archive has that this one has not; the rest is hashed before it counts."""
    wanted = {f"{IMAGES}/{file.name}" for file in plan.images.contents.files} | {file.name for file in plan.files}
    for name in (CRATE, *(path.name for path in data.iterdir() if path.name.startswith(f".{CRATE}."))):
        if (data / name).exists():
            remove_tree(data / name)
    for path in list(files_in(data)):
        if str(path.relative_to(data)) not in wanted:
            path.unlink()


def _copied(file: TakenFile, target: Path, plan: ArchivePlan, advance: Advance) -> str:
    """Copy a file, unless it is there already; its SHA-256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    advance(file.size)
    if is_file(target):
        if (
            is_file(file.source)
            and (there := sha256_at(target)) == sha256_at(file.source)
            and file.sha256 in ("", there)
        ):
            return there
        target.unlink()
    try:
        if file.sha256:
            workdir = Path(plan.audit.workdirs[0])
            copy_recorded(file.source, target, workdir=workdir, sha256=file.sha256, limit=RECORDS.size)
            return file.sha256
        sha256 = copy(file.source, target, limit=DISK.bundle_file)
        if file.source.stat().st_mode & stat.S_IXUSR:
            target.chmod(target.stat().st_mode | _EXECUTABLE)
    except NotCopied as reason:
        target.unlink(missing_ok=True)
        raise UsageError(
            f"cannot put {file.source} into the archive: {reason}", hint="look at it, and try again"
        ) from None
    return sha256


def _information(plan: ArchivePlan) -> list[tuple[str, str]]:
    version = metadata.version("snakemake-apptainer-freshness")
    return [
        ("Bagging-Date", datetime.now(UTC).strftime("%Y-%m-%d")),
        ("Bag-Software-Agent", f"snakemake-apptainer-freshness {version}"),
        ("External-Description", plan.audit.answer),
    ]


def _put(partial: Path, target: Path) -> None:
    """Give the whole archive its name; an earlier one goes once the new one is in its place."""
    if not target.exists():
        partial.rename(target)
        return
    aside = target.with_name(f"{target.name}.former-{unique()}")
    target.rename(aside)
    try:
        partial.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    remove_tree(aside)
