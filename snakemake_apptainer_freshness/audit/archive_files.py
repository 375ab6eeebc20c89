"""Which files go into an archive: those of the workflow, its lock, what a person names, and the records of its runs.

A record was perhaps written by another user, and names files: what is taken lies in the work directory, by its real
path, or is named by the person who asks. Links are left out, and what is left out is told.
"""

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.audit.affected import owner
from snakemake_apptainer_freshness.audit.archive_layout import PROJECT, WORKFLOW
from snakemake_apptainer_freshness.audit.disk import place
from snakemake_apptainer_freshness.common.files import opened, sha256_of
from snakemake_apptainer_freshness.errors import UsageError
from snakemake_apptainer_freshness.record import journal, seal
from snakemake_apptainer_freshness.record.git import top_of, tracked_files
from snakemake_apptainer_freshness.record.pruning import path_in
from snakemake_apptainer_freshness.record.run import Run
from snakemake_apptainer_freshness.settings import RECORDS
from snakemake_apptainer_freshness.store import bag

_PRIVATE: Final = ".snakemake"
_SHOWN: Final = 3
"""Of files that are left out, where there are more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveRequest:
    """What a person asks for: the folder to be made, files besides, and a Snakefile outside of the work directory."""

    target: Path
    more: tuple[Path, ...] = ()
    snakefile: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenFile:
    """A file that goes into the archive as `name`; `sha256` where a record has it, else empty."""

    name: str
    source: Path
    size: int
    sha256: str = ""


def partial_of(target: Path) -> Path:
    """Return where the unfinished archive `target` lies."""
    return target.with_name(f"{target.name}.partial")


class FilePicking:
    """Chooses files, and says which it left."""

    def __init__(self, *, workdir: Path, request: ArchiveRequest) -> None:
        self._workdir = workdir
        self._real = workdir.resolve()
        self._request = request
        self._own = (request.target.absolute(), partial_of(request.target).absolute())
        self.taken: list[TakenFile] = []
        self._left: dict[str, list[Path]] = {}
        self._notes: list[str] = []

    @property
    def notes(self) -> list[str]:
        """What a person should know: what was left out, and why."""
        return [
            *self._notes,
            *(f"not in the archive: {listed(paths)} ({why})" for why, paths in self._left.items()),
        ]

    def workflow(self, run: Run) -> str:
        """Take what git tracks of the workflow and, of all that, the main Snakefile in any case; where it lies then."""
        inside = self._tracked(self._workdir, PROJECT)
        if not inside:
            self._notes.append(
                f"{self._workdir} is in no git repository: of the workflow only the Snakefile and the lock are "
                "taken, and what --archive-with names"
            )
        named = self._request.snakefile
        path = named or place(run.source.snakefile, recorded_in=run.workdir, workdir=self._workdir)
        if (within := self._within(path)) is not None:
            return self._add(f"{PROJECT}/{within}", path.resolve())
        if named is None:
            return f"{WORKFLOW}/Snakefile"  # for the crate to refuse, which says what to do
        top = top_of(path.parent) or path.parent
        self._tracked(top, WORKFLOW)
        return self._add(f"{WORKFLOW}/{path.resolve().relative_to(top.resolve())}", path.resolve())

    def lock(self, run: Run) -> TakenFile:
        """Take the lock that the newest run used, and return it."""
        if run.lock is None:
            raise UsageError(
                f"cannot archive: the newest run {run.id} used no lock", hint="run it once in mode 'lock' or 'locked'"
            )
        path = place(run.lock.path, recorded_in=run.workdir, workdir=self._workdir)
        named = self._request.snakefile
        if (within := self._within(path)) is not None:
            name = f"{PROJECT}/{within}"
        elif named is not None and path.resolve().parent == named.resolve().parent:
            top = top_of(named.parent) or named.parent
            name = f"{WORKFLOW}/{path.resolve().relative_to(top.resolve())}"
        else:
            raise UsageError(
                f"cannot archive: the lock {path} of the run {run.id} lies outside of {self._workdir}",
                hint="name the Snakefile that it lies beside: --snakefile FILE",
            )
        if not is_file(path.resolve()):
            raise UsageError(f"cannot archive: the lock {path} is gone", hint="restore it, from git for example")
        self._add(name, path.resolve())
        if sha256_at(path.resolve()) != run.lock.sha256:
            self._notes.append(f"the lock {path} is not the one that the newest run used: it was changed since")
        taken = next((file for file in reversed(self.taken) if file.name == name), None)
        if taken is None:
            raise UsageError(f"cannot archive the lock {path}: its name cannot be listed", hint="give it another name")
        return taken

    def named(self, path: Path) -> None:
        """Take a file, or all files of a folder, that a person named."""
        within = self._within(path)
        if within is None:
            raise UsageError(
                f"cannot put {path} into the archive: it lies outside of {self._workdir}",
                hint="only what lies in the work directory keeps its place there",
            )
        if not path.exists():
            raise UsageError(f"cannot put {path} into the archive: it is not there", hint="check its path")
        if path.is_file():
            self._add(f"{PROJECT}/{within}", path)
            return
        for file in files_in(path):
            self._add(f"{PROJECT}/{within / file.relative_to(path)}", file)

    def records(self, runs: Iterable[Run]) -> None:
        """Take the record of each run, as it was judged, and its seal; and what says which older ones were removed."""
        for run in runs:
            source = Path(run.file)
            name = f"{PROJECT}/{journal.FOLDER}/{run.id}{journal.SUFFIX}"
            self.taken.append(TakenFile(name=name, source=source, size=size_of(source), sha256=run.sha256))
            sealed = source.with_name(source.name + seal.SUFFIX)
            if is_file(sealed) and (size := size_of(sealed)) <= RECORDS.seal:
                self.taken.append(TakenFile(name=name + seal.SUFFIX, source=sealed, size=size))
        removed = path_in(journal.folder_of(self._workdir))
        for source in (removed, seal.seal_of(removed)):
            if is_file(source) and size_of(source) <= RECORDS.removal:
                self._add(f"{PROJECT}/{journal.FOLDER}/{source.name}", source)

    def _tracked(self, folder: Path, where: str) -> bool:
        names = tracked_files(folder)
        for name in names or ():
            if name.partition("/")[0] != _PRIVATE:
                self._add(f"{where}/{name}", folder / name)
        return names is not None

    def _add(self, name: str, source: Path) -> str:
        if any(source.absolute().is_relative_to(own) for own in self._own):
            return name  # the archive itself, where it is made in the work directory
        if name.startswith(f"{PROJECT}/{_PRIVATE}/"):
            return name  # Snakemake's own; records are taken by themselves
        if not bag.can_be_named(name):
            self._left.setdefault("a name that cannot be listed in one", []).append(source)
        elif not is_file(source):
            self._left.setdefault("no regular file, or gone", []).append(source)
        else:
            self.taken.append(TakenFile(name=name, source=source, size=size_of(source)))
        return name

    def _within(self, path: Path) -> Path | None:
        """Return the path within the work directory; None where it is outside, by its real path, too."""
        try:
            real = path.resolve()
            if not real.is_relative_to(self._real):
                return None
            absolute = path.absolute()
            inside = absolute.is_relative_to(self._workdir.absolute())
            found = absolute.relative_to(self._workdir.absolute()) if inside else real.relative_to(self._real)
        except (OSError, RuntimeError, ValueError):
            return None
        return found if ".." not in found.parts else real.relative_to(self._real)


def listed(names: Sequence[object]) -> str:
    """Return the first of `names`, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(map(str, names[:_SHOWN]))}{more}"


def is_file(path: Path) -> bool:
    """Return whether a regular file, and no link, is there."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def size_of(path: Path) -> int:
    """Return its size in bytes; 0 where it is gone."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def files_in(folder: Path) -> Iterator[Path]:
    """Give each file below `folder`, links too, sorted; no link to a folder is followed."""
    for where, folders, names in os.walk(folder):
        folders.sort()
        links = [name for name in folders if Path(where, name).is_symlink()]
        yield from (Path(where, name) for name in sorted([*names, *links]))


def missing_inputs(inputs: Mapping[str, Sequence[str]], names: Collection[str]) -> dict[str, list[str]]:
    """Return, for each output, those of its `inputs` that no job made and the archive with the files `names` lacks."""
    folders = {str(parent) for name in names for parent in Path(name).parents}
    missing: dict[str, list[str]] = {}
    for path, made_of in inputs.items():
        lacking = []
        for name in made_of:
            there = f"{PROJECT}/{os.path.normpath(name)}"
            if not owner(name, inputs) and there not in names and there not in folders:
                lacking.append(name)
        if lacking:
            missing[path] = lacking
    return missing


def sha256_at(path: Path) -> str:
    """Return the SHA-256 of the regular file at `path`, in hex; raises as :func:`~.common.files.opened` does."""
    with opened(path) as file:
        return sha256_of(file)
