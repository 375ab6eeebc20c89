"""``apptainer-freshness doctor``: how this machine is set up for containers, and what is wrong with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from snakemake_apptainer_freshness.cli import output
from snakemake_apptainer_freshness.cli.common import (
    find_lock,
    image_folder,
    json_option,
    lockfile_option,
    prefix_option,
)

if TYPE_CHECKING:
    from snakemake_apptainer_freshness.actions.doctor import Diagnosis, DoctorFinding
    from snakemake_apptainer_freshness.actions.folders import Folder

_REPRODUCIBLE = {
    True: "image files: the same for each pull of a digest, so that their SHA-256 can be compared between machines",
    False: "image files: another one for each pull of a digest; Apptainer from 1.5 on can write the same one each time",
}
"""By whether this machine's Apptainer can write them reproducibly."""


@click.command("doctor", short_help="Check programs, folders, logins and caches.")
@lockfile_option
@prefix_option
@json_option
def command(lockfile: Path | None, prefix: str | None, *, as_json: bool) -> int:
    """Check what fetching and running images depends on: programs, folders, variables, logins, caches.

    Nothing is changed, nothing is hashed, no registry is asked and no credential helper started. Of logins only the
    hosts are shown, and where they stand.

    A 'problem' makes a run fail, or leaves an image there unproven. 'slow' makes a run wait. 'space' is what no lock
    needs any more, or what lies there twice.

    Exit status: 0 where there is no problem, 1 where there is one, 2 wrong use.
    """
    from snakemake_apptainer_freshness.actions.doctor import Weight, diagnose

    path = find_lock(lockfile)
    diagnosis = diagnose(image_folder(prefix), path)
    if as_json:
        output.document(lockfile=str(path) if path else None, **_as_json(diagnosis))
    else:
        _print(diagnosis)
    return int(any(finding.weight is Weight.PROBLEM for finding in diagnosis.findings))


def _print(diagnosis: "Diagnosis") -> None:
    _part(
        "Programs",
        ("name", "version", "where"),
        [(v.name, v.version or "not found", v.path) for v in diagnosis.versions],
        notes=[_REPRODUCIBLE[v.is_reproducible] for v in diagnosis.versions if v.is_reproducible is not None],
    )
    _part("Folders", ("what for", "path", "state"), [(f.name, f.path or "-", _state(f)) for f in diagnosis.folders])
    _part(
        "Environment",
        ("variable", "value"),
        [(v.name, "set (not shown)" if v.value is None else v.value) for v in diagnosis.variables],
    )
    _part(
        "Logins",
        ("host", "where", "used by Apptainer"),
        [
            ("every host" if login.host == "*" else login.host, login.source, "yes" if login.used else "no, ignored")
            for login in diagnosis.logins
        ],
    )
    _part("registries.conf", ("entry",), [(line,) for line in diagnosis.registries])
    output.heading("Findings")
    if not diagnosis.findings:
        output.line("none")
    for finding in diagnosis.findings:
        _tell(finding)


def _part(title: str, titles: tuple[str, ...], rows: list[tuple[str, ...]], *, notes: Sequence[str] = ()) -> None:
    output.heading(title)
    if rows:
        output.table(titles, rows)
    else:
        output.line("none")
    for note in notes:
        output.line(note)
    output.line()


def _state(folder: "Folder") -> str:
    if folder.note:
        return folder.note
    says = [f"mode {folder.mode:04o}" if folder.exists else "not there yet"]
    says.append("writable" if folder.writable else "not writable")
    if folder.free is not None:
        says.append(f"{output.size(folder.free)} free")
    if folder.images:
        says.append(f"{output.counted(folder.images, 'image')} of {output.size(folder.size)}")
    return ", ".join(says)


def _tell(finding: "DoctorFinding") -> None:
    from snakemake_apptainer_freshness.actions.doctor import paths_shown

    takes = f" ({output.size(finding.size)})" if finding.size else ""
    output.table(("", ""), [(finding.weight.value, f"{finding.text}{takes}")])
    paths, more = paths_shown(finding)
    for path in paths:
        output.line_at(2, path)
    if more:
        output.line_at(2, f"… and {more} more")
    output.line_at(2, f"→ {finding.hint}")


def _as_json(diagnosis: "Diagnosis") -> dict[str, Any]:
    return {
        "versions": [
            {
                "name": version.name,
                "version": version.version or None,
                "path": version.path or None,
                "reproducible": version.is_reproducible,
            }
            for version in diagnosis.versions
        ],
        "folders": [
            {
                "name": f.name, "path": f.path or None, "exists": f.exists, "writable": f.writable,
                "mode": f"{f.mode:04o}" if f.exists else None, "free": f.free, "images": f.images, "size": f.size,
                "note": f.note or None,
            }
            for f in diagnosis.folders
        ],
        "environment": [{"name": v.name, "value": v.value} for v in diagnosis.variables],
        "logins": [{"host": login.host, "source": login.source, "used": login.used} for login in diagnosis.logins],
        "registries_conf": diagnosis.registries,
        "findings": [
            {
                "weight": finding.weight.value, "kind": finding.kind, "text": finding.text, "hint": finding.hint,
                "paths": list(finding.paths), "size": finding.size,
            }
            for finding in diagnosis.findings
        ],
    }  # fmt: skip
