"""Each run as an in-toto statement with a SLSA provenance predicate, for those who sign what they deliver.

in-toto Statement v1, SLSA Provenance v1. Subjects are the outputs whose SHA-256 the record has. A larger output has
none there, and a statement about a file without its hash would bind nothing: such outputs stand among the by-products,
with their size. The materials (``resolvedDependencies``) are the images by both of their digests, the lock and the
commit of the workflow. Nothing is signed here: that is left to the user's own tool.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from snakemake_apptainer_freshness.audit.render import FormatOption, More
from snakemake_apptainer_freshness.audit.results import Audit
from snakemake_apptainer_freshness.common.files import write_atomically
from snakemake_apptainer_freshness.common.text import unicode
from snakemake_apptainer_freshness.errors import LocalIOError, UsageError
from snakemake_apptainer_freshness.record.run import ImageRecord, JobResult, OutputRecord, Run

OPTION: Final = FormatOption(flag="--intoto", metavar="DIR", help="Write an in-toto statement per run.")
MORE: Final[Sequence[FormatOption]] = ()
STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "urn:snakemake-apptainer-freshness:run:1"
BUILDER: Final = "urn:snakemake-apptainer-freshness:snakemake"


def check(audit: Audit, target: Path | None, more: More) -> None:  # noqa: ARG001  as every format has it
    """Refuse an audit without runs, and a target that is a file."""
    if not audit.runs:
        raise UsageError("there is no run to make a statement of", hint="name a work directory that has records")
    if target is not None and target.exists() and not target.is_dir():
        raise LocalIOError(f"cannot write statements into {target}: it is no folder", hint="name a folder")


def write(audit: Audit, target: Path | None, more: More) -> None:  # noqa: ARG001
    """Write the statement of each run into the folder `target`, which is made."""
    assert target is not None  # noqa: S101  its option takes a folder
    try:
        target.mkdir(parents=True, exist_ok=True)
        for run in audit.runs:
            write_atomically(target / f"{run.id}.intoto.json", (json.dumps(statement(run), indent=2) + "\n").encode())
    except OSError as error:
        raise LocalIOError(f"cannot write statements into {target}: {error.strerror or error}") from error


def statement(run: Run) -> dict[str, Any]:
    """Return the statement of one run. Where the record has no output's hash, its subject is the record itself."""
    outputs = [output for job in run.jobs if job.result is JobResult.FINISHED for output in job.outputs]
    newest = {output.path: output for output in outputs}  # of a job that ran twice, the later attempt
    subjects = [
        {"name": unicode(path), "digest": {"sha256": record.sha256}} for path, record in newest.items() if record.sha256
    ]
    return {
        "_type": STATEMENT,
        "subject": subjects or [_record(run)],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "workflow": unicode(run.source.snakefile),
                    "command": [unicode(word) for word in run.command],
                    "mode": run.mode,
                },
                "internalParameters": {"options": dict(run.options), "config": {"sha256": run.config_sha256}},
                "resolvedDependencies": list(_materials(run)),
            },
            "runDetails": {
                "builder": {
                    "id": BUILDER,
                    "version": {
                        "snakemake": run.versions.snakemake,
                        "snakemake-apptainer-freshness": run.versions.freshness,
                        "apptainer": run.versions.apptainer,
                        "python": run.versions.python,
                    },
                },
                "metadata": {
                    "invocationId": run.id,
                    "startedOn": run.started,
                    **({"finishedOn": run.ended} if run.ended else {}),
                },
                "byproducts": [_record(run), *(_large(record) for record in newest.values() if not record.sha256)],
            },
        },
    }


def _materials(run: Run) -> Iterator[dict[str, Any]]:
    for image in run.images:
        yield from _image(image)
    if run.lock is not None:
        yield {"name": Path(run.lock.path).name, "digest": {"sha256": run.lock.sha256.removeprefix("sha256:")}}
    if run.source.commit:
        yield {
            "name": "workflow",
            "digest": {"gitCommit": run.source.commit},
            "annotations": {"dirty": run.source.dirty},
        }


def _image(image: ImageRecord) -> Iterator[dict[str, Any]]:
    algorithm, _, value = image.digest.partition(":")
    if value:
        yield {
            "name": image.reference,
            "uri": image.pinned,
            "digest": {algorithm: value},
            "annotations": {"remote": image.remote, "platform": image.platform, "manifest": image.manifest},
        }
    if image.sha256:
        yield {
            "name": f"{image.reference} (SIF)",
            "digest": {"sha256": image.sha256},
            "annotations": {"disk": image.disk, "proof": image.proof, "size": image.size},
        }


def _record(run: Run) -> dict[str, Any]:
    return {"name": Path(run.file).name or run.id, "digest": {"sha256": run.sha256.removeprefix("sha256:")}}


def _large(output: OutputRecord) -> dict[str, Any]:
    return {"name": unicode(output.path), "annotations": {"size": output.size, "mtime_ns": output.mtime_ns}}
