"""An audit as one JSON document. Values in, text out.

The document has a `version` and a schema (``schemas/audit.schema.json``); words and keys are those of the lock file
and of the run records. What is not known is null. It is ASCII, and has one line for each thing in a list: it can be
read by a person, and compared by ``diff``.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness.audit.difference import sentence
from snakemake_apptainer_freshness.audit.render import FormatOption, More, write_lines
from snakemake_apptainer_freshness.audit.results import (
    Audit,
    AuditFinding,
    ImageAudit,
    ImageSighting,
    ImageVulnerabilities,
    OutputAudit,
    OutputVerdict,
    RunDifference,
)
from snakemake_apptainer_freshness.audit.seals import SealAudit
from snakemake_apptainer_freshness.record.run import Run

OPTION: Final = FormatOption(flag="--json", metavar="", help="Print one JSON document.")
MORE: Final[Sequence[FormatOption]] = ()
VERSION: Final = 1
"""Of the document; raised where a key goes or changes its meaning, not where one is added."""

SCHEMA: Final = Path(__file__).parents[2] / "schemas" / "audit.schema.json"


def check(audit: Audit, target: Path | None, more: More) -> None:
    """Refuse nothing: there is a document of every audit."""


def write(audit: Audit, target: Path | None, more: More) -> None:  # noqa: ARG001  as every format has it
    """Print the document."""
    write_lines(lines(audit), target, "JSON document")


def lines(audit: Audit) -> Iterator[str]:
    """Yield the JSON document of `audit`, a line at a time, without their ends."""
    counts = Counter(output.verdict for output in audit.outputs)
    yield "{"
    yield f'"version": {VERSION},'
    yield f'"made_at": {_dumped(audit.made_at)},'
    yield f'"workdir": {_dumped(list(audit.workdirs))},'
    yield f'"answer": {_dumped(audit.answer)},'
    yield f'"count": {_dumped({verdict.value: counts[verdict] for verdict in OutputVerdict})},'
    replay = audit.replay
    yield f'"replay": {_dumped({"possible": replay.possible, "because": replay.because} if replay else None)},'
    yield f'"diff": {_dumped(_difference(audit.difference) if audit.difference else None)},'
    yield f'"seal": {_dumped([_seal(seal) for seal in audit.seals])},'
    yield f'"note": {_dumped(list(audit.notes))},'
    yield from _list("finding", map(_finding, audit.findings))
    yield from _list("image", map(_image, audit.images))
    yield from _list("vulnerability", map(_vulnerabilities, audit.vulnerabilities))
    yield from _list("run", map(_run, audit.runs))
    yield from _list("edge", map(asdict, audit.edges))
    yield from _list("output", map(_output, audit.outputs), last=True)
    yield "}"


def _list(name: str, items: Iterable[Mapping[str, Any]], *, last: bool = False) -> Iterator[str]:
    yield f'"{name}": ['
    waiting = ""
    for item in items:
        if waiting:
            yield f"{waiting},"
        waiting = _dumped(item)
    if waiting:
        yield waiting
    yield "]" if last else "],"


_dumped = json.JSONEncoder(separators=(", ", ": ")).encode


def _difference(difference: RunDifference) -> dict[str, Any]:
    return {
        "answer": sentence(difference),
        "first": {"run": difference.first, "workdir": difference.first_workdir},
        "second": {"run": difference.second, "workdir": difference.second_workdir},
        "same": {"image": difference.same_images, "output": difference.same_outputs},
        "change": [{key: _known(value) for key, value in asdict(change).items()} for change in difference.changes],
    }


def _finding(finding: AuditFinding) -> dict[str, Any]:
    return {
        "kind": finding.kind.value,
        "severity": finding.severity.value,
        "text": finding.text,
        "workdir": finding.workdir,
        "subject": list(finding.subjects),
        "acknowledged": asdict(finding.acknowledged) if finding.acknowledged else None,
    }


def _seal(seal: SealAudit) -> dict[str, Any]:
    return {
        "workdir": seal.workdir,
        "text": seal.text,
        "checked": seal.is_checked,
        "seal": [{key: _known(value) for key, value in asdict(checked).items()} for checked in seal.seals],
        "open": list(seal.open),
    }


def _image(image: ImageAudit) -> dict[str, Any]:
    replay = image.replay
    return {
        "workdir": image.workdir,
        "reference": image.reference,
        "rule": list(image.rules),
        "outputs": image.outputs,
        "disk": image.now or None,
        "detail": image.now_detail or None,
        "replay": {**asdict(replay), "possible": replay.possible} if replay else None,
        "sighting": [_sighting(sighting) for sighting in image.sightings],
    }


def _sighting(seen: ImageSighting) -> dict[str, Any]:
    table = {key: _known(value) for key, value in asdict(seen).items()}
    signatures = table.pop("signatures")
    return table | {"signature": [{key: _known(value) for key, value in signature.items()} for signature in signatures]}


def _vulnerabilities(scan: ImageVulnerabilities) -> dict[str, Any]:
    return {
        "workdir": scan.workdir,
        "reference": scan.reference,
        "digest": scan.digest,
        "scanner": scan.scanner,
        "joined_by": scan.joined_by.value,
        "outputs": scan.outputs,
        "ignored": scan.ignored,
        "found": [
            {
                "id": each.id,
                "severity": each.severity.value,
                "package": each.package,
                "version": _known(each.version),
                "fixed": _known(each.fixed),
                "alias": list(each.aliases),
            }
            for each in scan.vulnerabilities
        ],
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "workdir": run.workdir,
        "started": run.started,
        "ended": run.ended or None,
        "ending": run.ending.value,
        "user": run.user,
        "host": run.host,
        "command": list(run.command),
        "config_sha256": run.config_sha256 or None,
        "versions": {key: _known(value) for key, value in asdict(run.versions).items()},
        "source": {key: _known(value) for key, value in asdict(run.source).items()},
        "mode": run.mode,
        "options": dict(run.options),
        "lock": asdict(run.lock) if run.lock else None,
        "machine": {key: _known(value) for key, value in asdict(run.machine).items()} if run.machine else None,
        "runtime": asdict(run.runtime) if run.runtime else None,
        "previous": run.previous or None,
        "sha256": run.sha256 or None,
        "file": run.file or None,
        "problem": run.problem or None,
        "jobs": len(run.jobs),
    }


def _output(output: OutputAudit) -> dict[str, Any]:
    job = output.job
    return {
        "workdir": output.workdir,
        "path": output.path,
        "verdict": output.verdict.value,
        "why": output.why,
        "rule": output.rule or None,
        "exists": output.exists,
        "size": output.size,
        "run": output.run or None,
        "job": {"id": job.id, "attempt": job.attempt, "wildcards": dict(job.wildcards), "started": job.started or None}
        if job
        else None,
        "reference": output.reference or None,
        "pinned": output.pinned or None,
        "digest": output.digest or None,
        "manifest": output.manifest or None,
        "sif_sha256": output.sif_sha256 or None,
        "made_at": output.made_at or None,
        "host": output.host or None,
        "input": list(output.inputs),
        "affected_by": list(output.affected_by),
    }


def _known(value: Any) -> Any:
    return None if value == "" else value
