"""``audit --archive`` and ``audit --replay`` of an archive: what they print."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_apptainer_freshness.cli import output
from snakemake_apptainer_freshness.errors import UsageError

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.audit.archive_files import ArchiveRequest
    from snakemake_apptainer_freshness.audit.archive_replay import ArchivedOutput, ArchiveReplay
    from snakemake_apptainer_freshness.audit.results import Audit

_ASKING = "asking what the images are made of"
_WRITING = "writing the archive"
_CHECKING = "checking the archive"


def is_archive(folder: Path) -> bool:
    """Return whether `folder` is, or says that it is, an archive."""
    from snakemake_apptainer_freshness.store.bag import is_bag

    return is_bag(folder)


def request(target: Path | None, more: tuple[Path, ...], snakefile: object) -> "ArchiveRequest | None":
    """Return what is to be archived; None where nothing is.

    Raises
    ------
    UsageError
        where files are named for no archive.
    """
    from snakemake_apptainer_freshness.audit.archive_files import ArchiveRequest

    if target is None:
        if more:
            raise UsageError("--archive-with needs --archive DIR", hint="add --archive DIR, or leave it out")
        return None
    return ArchiveRequest(target=target, more=more, snakefile=snakefile if isinstance(snakefile, Path) else None)


def check_request(audit: "Audit", wanted: "ArchiveRequest") -> None:
    """Refuse what cannot be archived, before anything is written."""
    from snakemake_apptainer_freshness.audit.archive import check

    check(audit, wanted)


def write_archive(audit: "Audit", wanted: "ArchiveRequest") -> None:
    """Print how large the archive of `audit` will be, and write it."""
    from snakemake_apptainer_freshness.actions.elsewhere import Elsewhere
    from snakemake_apptainer_freshness.actions.layer_sources import LayerSources
    from snakemake_apptainer_freshness.audit.archive import image_folders, plan, write
    from snakemake_apptainer_freshness.audit.archive_files import partial_of
    from snakemake_apptainer_freshness.common.parallel import stopping_cleanly
    from snakemake_apptainer_freshness.common.progress import ProgressBars
    from snakemake_apptainer_freshness.registry.resolver import Resolver

    stop = threading.Event()
    try:
        with stopping_cleanly(stop), Resolver() as registry, Elsewhere() as mirrors, ProgressBars() as bars:
            sources = LayerSources(registry=registry, mirrors=mirrors, folders=image_folders(audit, wanted))
            bars.begin(_ASKING)
            planned = plan(audit, wanted, registry=sources, advance=lambda _: None)
            bars.end(_ASKING)
            images, files = planned.images, planned.files
            there = f", of which {output.size(planned.there)} are there already" if planned.there else ""
            output.note(
                f"archive: {output.counted(len(images.images), 'image')}, {output.size(images.contents.size)}{there}; "
                f"{output.counted(len(files), 'file')}, {output.size(sum(file.size for file in files))}"
            )
            for image in images.images:
                output.note(f"  {image.pin.reference.text}: {output.size(image.size)}")
            for note in planned.notes:
                output.note(note)
            bars.begin(_WRITING, images.contents.size + sum(file.size for file in files))
            size = write(planned, lambda count: bars.advance(_WRITING, count))
    except BaseException:
        partial = partial_of(wanted.target)
        if partial.exists():
            output.note(f"what was written so far is kept as {partial}; the same command goes on with it")
        raise
    output.note(
        f"{wanted.target} is whole, {output.size(size)}: apptainer-freshness audit --replay says what it can do"
    )


def replay_archive(folder: Path, *, allowed: Path | None, as_json: bool) -> int:
    """Print whether each output could be made again from the archive in `folder` alone; return the exit status."""
    from snakemake_apptainer_freshness.audit.archive_replay import replay
    from snakemake_apptainer_freshness.common.progress import ProgressBars

    with ProgressBars() as bars:
        begun = False

        def hashed(size: int, total: int) -> None:
            nonlocal begun
            if not begun:
                bars.begin(_CHECKING, total)
                begun = True
            bars.advance(_CHECKING, size)

        replayed = replay(folder, allowed=allowed, hashed=hashed)
    if as_json:
        _print_document(replayed)
    else:
        output.row(("answer", replayed.answer))
        output.row(("seal", replayed.seals.text))
        output.table(("again", "output", "rule", "why"), [_row(archived) for archived in replayed.outputs])
    for note in replayed.notes:
        output.note(f"note: {note}")
    return int(not replayed.possible)


def _row(archived: "ArchivedOutput") -> tuple[str, str, str, str]:
    return ("yes" if archived.possible else "no", archived.path, archived.rule, archived.why)


def _print_document(replayed: "ArchiveReplay") -> None:
    def row(archived: "ArchivedOutput") -> dict[str, Any]:
        return {
            "path": archived.path,
            "possible": archived.possible,
            "why": archived.why,
            "rule": archived.rule or None,
            "reference": archived.reference or None,
            "digest": archived.digest or None,
            "run": archived.run or None,
        }

    output.document(
        archive=replayed.archive,
        answer=replayed.answer,
        possible=replayed.possible,
        seal=replayed.seals.text,
        output=[row(archived) for archived in replayed.outputs],
        note=list(replayed.notes),
    )
