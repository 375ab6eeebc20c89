"""An audit as one JSON document, and its findings as SARIF. Values in, text out.

The document has a `version` and a schema (``schemas/audit.schema.json``); words and keys are those of the lock file
and of the run records. What is not known is null. It is ASCII, and has one line for each thing in a list: it can be
read by a person, and compared by ``diff``.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness.audit.results import (
    Audit,
    AuditFinding,
    FindingKind,
    ImageAudit,
    OutputAudit,
    OutputVerdict,
)
from snakemake_apptainer_freshness.common.sarif import SarifResult
from snakemake_apptainer_freshness.record.run import Run

VERSION: Final = 1
"""Of the document; raised where a key goes or changes its meaning, not where one is added."""

SCHEMA: Final = Path(__file__).parents[2] / "schemas" / "audit.schema.json"

RULES: Final[Mapping[str, str]] = {
    FindingKind.BAD_IMAGE: "An image file was bad when it ran, or is not what was recorded any more.",
    FindingKind.OUTPUT_CHANGED: "An output changed since it was made.",
    FindingKind.CHAIN_BROKEN: "A record was altered or removed after the next one was made.",
    FindingKind.RECORD_DAMAGED: "The record of a run is damaged or cut short.",
    FindingKind.FOREIGN_RECORD: "A record was made in another work directory.",
    FindingKind.NOT_REPEATABLE: "A digest is no longer served, and its image is not on this disk either.",
    FindingKind.MIXED_DIGESTS: "Outputs of one rule were made with different digests.",
    FindingKind.PIN_MOVED: "The pin of an image moved between two runs.",
    FindingKind.LOCK_NOT_COMMITTED: "A run used a lock that was never committed.",
    FindingKind.RUN_UNFINISHED: "The record of a run has no end.",
    FindingKind.RUN_UNDER_WAY: "A run is under way.",
    FindingKind.OUTPUT_MISSING: "A recorded output is no longer there.",
    FindingKind.UNATTRIBUTABLE: "An output was made by a tag that cannot be attributed to any digest.",
    FindingKind.NO_RECORD: "Nothing says how an output was made.",
    FindingKind.UNPROVEN: "An output was made by a pinned image that was not proven.",
}
"""Each kind of finding in one sentence."""


def lines(audit: Audit) -> Iterator[str]:
    """The JSON document of `audit`, a line at a time, without their ends."""
    counts = Counter(output.verdict for output in audit.outputs)
    yield "{"
    yield f'"version": {VERSION},'
    yield f'"made_at": {_dumped(audit.made_at)},'
    yield f'"workdir": {_dumped(list(audit.workdirs))},'
    yield f'"answer": {_dumped(audit.answer)},'
    yield f'"count": {_dumped({verdict.value: counts[verdict] for verdict in OutputVerdict})},'
    replay = audit.replay
    yield f'"replay": {_dumped({"possible": replay.possible, "because": replay.because} if replay else None)},'
    yield f'"note": {_dumped(list(audit.notes))},'
    yield from _list("finding", map(_finding, audit.findings))
    yield from _list("image", map(_image, audit.images))
    yield from _list("run", map(_run, audit.runs))
    yield from _list("edge", map(asdict, audit.edges))
    yield from _list("output", map(_output, audit.outputs), last=True)
    yield "}"


def results(audit: Audit) -> Iterator[SarifResult]:
    """The findings of `audit` for SARIF; of several work directories with their whole paths."""
    outputs = {(output.workdir, output.path) for output in audit.outputs}
    files = {(run.workdir, run.id): run.file for run in audit.runs if run.file}
    whole = len(audit.workdirs) > 1
    for one in audit.findings:
        places = [
            f"{one.workdir}/{subject}" if whole else subject
            for subject in one.subjects
            if (one.workdir, subject) in outputs
        ] or [_near(files[one.workdir, name], one.workdir, whole=whole) for name in one.subjects
              if (one.workdir, name) in files]  # fmt: skip
        yield SarifResult(
            rule=one.kind.value,
            level=one.severity.value,
            message=one.text,
            uri=places[0] if places else _near(one.workdir, one.workdir, whole=whole),
            related=places[1:],
        )


def _near(path: str, workdir: str, *, whole: bool) -> str:
    return path if whole else (path.removeprefix(f"{workdir}/") if path != workdir else ".")


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


def _finding(finding: AuditFinding) -> dict[str, Any]:
    return {
        "kind": finding.kind.value,
        "severity": finding.severity.value,
        "text": finding.text,
        "workdir": finding.workdir,
        "subject": list(finding.subjects),
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
        "sighting": [{key: _known(value) for key, value in asdict(one).items()} for one in image.sightings],
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
    }


def _known(value: Any) -> Any:
    return None if value == "" else value
