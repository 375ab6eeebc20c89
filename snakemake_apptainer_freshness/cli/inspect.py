"""``apptainer-freshness inspect``: one image file, what it says of itself and what of that is proven."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snakemake_apptainer_freshness.cli import output
from snakemake_apptainer_freshness.cli.common import find_lock, json_option, lockfile_option
from snakemake_apptainer_freshness.errors import LocalIOError

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.actions.inspect import Inspection
    from snakemake_apptainer_freshness.store.facts import ContentFact

_WIDTH = 14
_REPRODUCIBLE = {
    True: "it says so: the same version of Apptainer makes the same file of the same digest",
    False: "no: it has times and an identifier of its own, so other machines have other files",
}


@click.command("inspect", short_help="Show what one image file is, and what is proven.")
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="SIF")
@lockfile_option
@json_option
def command(image: Path, lockfile: Path | None, *, as_json: bool) -> int:
    """Show where one image file comes from, who built it, and what of that is proven.

    Nothing is run, and no registry is asked. Where there is a lock, the image is held to it.

    Exit status: 0 where a run may use the image, 1 where it may not, 2 wrong use or bad input, 3 where a file could not
    be read.
    """
    from snakemake_apptainer_freshness.actions.inspect import inspect
    from snakemake_apptainer_freshness.actions.lock_io import read_lock
    from snakemake_apptainer_freshness.actions.survey import LockedPins
    from snakemake_apptainer_freshness.lockfile import Lock

    path = find_lock(lockfile)
    locked = LockedPins.of(Lock() if path is None else read_lock(path))
    try:
        if image.is_file():  # a FIFO would make us wait
            image.open("rb").close()
    except OSError as error:
        raise LocalIOError(f"cannot read {image}: {error.strerror}", hint="check its permissions") from error
    inspection = inspect(image.resolve(), locked)
    if as_json:
        output.document(lockfile=str(path) if path else None, **_as_json(inspection))
    else:
        _print(inspection)
    from snakemake_apptainer_freshness.freshness import exit_status

    return exit_status((inspection.image.decision,))


def _print(inspection: "Inspection") -> None:
    from snakemake_apptainer_freshness.actions.inspect import what_next

    image, content, record = inspection.image, inspection.content, inspection.record
    _field("file", image.fact.path)
    _field("disk", f"{image.fact.state}: {image.fact.detail}")
    if image.pin is not None:
        _field("reference", image.pin.reference.text)
        _field("digest", str(image.pin.digest))
    if content is not None:
        _field("pulled as", content.pulled_reference or "it does not say that it was pulled from a registry")
        _field("built by", content.builder or "it does not say")
        _field("platform", f"linux/{content.architecture}" if content.architecture else "it does not say")
        if content.root_index is not None:
            _field("OCI index", str(content.root_index))
        _field("reproducible", _REPRODUCIBLE[content.is_reproducible])
    if inspection.sha256:
        _field("SHA-256", inspection.sha256)
    _field("size", f"{output.size(image.size)} ({image.size} bytes)")
    _field("lock", f"the entry {inspection.locked.reference.text}" if inspection.locked else "no entry is this image's")
    _field("record", _recorded(record) if record else "nothing is known of it")
    for number, (key, value) in enumerate(inspection.labels.items()):
        _field("" if number else "labels", f"{key} = {value}")
    for title, sentences in (("Proven", inspection.proven), ("Not proven", inspection.unproven)):
        if sentences:
            output.line()
            output.heading(title)
            for sentence in sentences:
                output.line(f"- {sentence}")
    if hint := what_next(image):
        output.note(f"what to do: {hint}")


def _field(name: str, value: str) -> None:
    click.echo(f"{name:<{_WIDTH}}{output.clean(value)}")


def _recorded(record: "ContentFact") -> str:
    return f"{record.proven_at}, {record.proven_by.text} with {record.apptainer}; SHA-256 {record.sha256}"


def _as_json(inspection: "Inspection") -> dict[str, Any]:
    image, content, record = inspection.image, inspection.content, inspection.record
    return {
        "reference": image.pin.reference.text if image.pin else None,
        "pinned": image.pin.url if image.pin else None,
        "digest": str(image.pin.digest) if image.pin else None,
        "path": image.fact.path,
        "state": image.fact.state.value,
        "detail": image.fact.detail,
        "finding": image.is_finding,
        "size": image.size,
        "locked": inspection.locked.reference.text if inspection.locked else None,
        "pulled_reference": content.pulled_reference or None if content else None,
        "pulled_digest": str(content.pulled_digest) if content and content.pulled_digest else None,
        "builder": content.builder or None if content else None,
        "platform": f"linux/{content.architecture}" if content and content.architecture else None,
        "root_index": str(content.root_index) if content and content.root_index else None,
        "signed": inspection.signed,
        "sha256": inspection.sha256 or None,
        "reproducible": content.is_reproducible if content else None,
        "labels": dict(inspection.labels),
        "record": None
        if record is None
        else {
            "pinned": record.pinned,
            "digest": str(record.digest),
            "sha256": record.sha256,
            "apptainer": record.apptainer,
            "proven_at": record.proven_at,
            "proven_by": record.proven_by.value,
        },
        "proven": list(inspection.proven),
        "unproven": list(inspection.unproven),
    }
