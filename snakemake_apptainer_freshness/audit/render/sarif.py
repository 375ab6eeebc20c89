"""The findings of an audit as SARIF, for code hosts and editors: each at the output or the record that it is about."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from snakemake_apptainer_freshness.audit.render import FormatOption, More, check_file, write_lines
from snakemake_apptainer_freshness.audit.results import Audit, FindingKind
from snakemake_apptainer_freshness.common.sarif_log import SarifResult, dumps

OPTION: Final = FormatOption(flag="--sarif", metavar="FILE", help="Write the findings as SARIF.")
MORE: Final[Sequence[FormatOption]] = ()

RULES: Final[Mapping[str, str]] = {
    FindingKind.BAD_IMAGE: "An image file was bad when it ran, or is not what was recorded any more.",
    FindingKind.OUTPUT_CHANGED: "An output changed since it was made.",
    FindingKind.CHAIN_BROKEN: "A record was altered or removed after the next one was made.",
    FindingKind.RECORD_DAMAGED: "The record of a run is damaged or cut short.",
    FindingKind.BAD_SEAL: "The seal of a record is not one of that record, or was made by no allowed signer.",
    FindingKind.NOT_SEALED: "No seal vouches for a record.",
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


def check(audit: Audit, target: Path | None, more: More) -> None:  # noqa: ARG001  as every format has it
    """Refuse a file that cannot be written."""
    check_file(target, "SARIF file")


def write(audit: Audit, target: Path | None, more: More) -> None:  # noqa: ARG001
    """Write the findings."""
    text = dumps(results(audit), RULES, version=version("snakemake-apptainer-freshness"))
    write_lines([text.rstrip("\n")], target, "SARIF file")


def results(audit: Audit) -> Iterator[SarifResult]:
    """Yield the findings of `audit` for SARIF; of several work directories with their whole paths."""
    outputs = {(output.workdir, output.path) for output in audit.outputs}
    files = {(run.workdir, run.id): run.file for run in audit.runs if run.file}
    whole = len(audit.workdirs) > 1
    for finding in audit.findings:
        places = [
            f"{finding.workdir}/{subject}" if whole else subject
            for subject in finding.subjects
            if (finding.workdir, subject) in outputs
        ] or [_near(files[finding.workdir, name], finding.workdir, whole=whole) for name in finding.subjects
              if (finding.workdir, name) in files]  # fmt: skip
        yield SarifResult(
            rule=finding.kind.value,
            level=finding.severity.value,
            message=finding.text,
            uri=places[0] if places else _near(finding.workdir, finding.workdir, whole=whole),
            related=places[1:],
            suppressed=finding.acknowledged.sentence if finding.acknowledged else "",
        )


def _near(path: str, workdir: str, *, whole: bool) -> str:
    return path if whole else (path.removeprefix(f"{workdir}/") if path != workdir else ".")
