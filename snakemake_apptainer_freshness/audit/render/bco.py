"""The runs of one work directory as a BioCompute Object (IEEE 2791-2020), the form in which regulators take a pipeline.

A step is a rule, its prerequisites are the images that it ran in, by digest. What the standard has no field for, the
verdicts, the SHA-256 of outputs (it knows SHA-1 alone) and the findings, stands in the error domain, which is free. The
object's identifier is made of the newest record; a registry of BioCompute Objects gives one of its own.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from snakemake_apptainer_freshness.audit.render import FormatOption, More, check_file, write_lines
from snakemake_apptainer_freshness.audit.render.crate.entities import address
from snakemake_apptainer_freshness.audit.results import Audit, OutputAudit
from snakemake_apptainer_freshness.common.text import unicode
from snakemake_apptainer_freshness.errors import UsageError
from snakemake_apptainer_freshness.record.run import ImageRecord, Run

OPTION: Final = FormatOption(flag="--bco", metavar="FILE", help="Write a BioCompute Object (IEEE 2791-2020).")
MORE: Final[Sequence[FormatOption]] = ()
SPECIFICATION: Final = "https://w3id.org/ieee/ieee-2791-schema/2791object.json"
_URL_SAFE: Final = ":/@"
_MEDIA_TYPE: Final = "application/octet-stream"


def check(audit: Audit, target: Path | None, more: More) -> None:  # noqa: ARG001  as every format has it
    """Refuse several work directories, none with runs, and a file that cannot be written."""
    if len(audit.workdirs) != 1 or not audit.runs:
        raise UsageError(
            f"a BioCompute Object is of one work directory; these are {len(audit.runs)} runs of {len(audit.workdirs)}",
            hint="name one work directory that has records",
        )
    check_file(target, "BioCompute Object")


def write(audit: Audit, target: Path | None, more: More) -> None:  # noqa: ARG001
    """Write the object."""
    write_lines([json.dumps(bco(audit), indent=1)], target, "BioCompute Object")


def bco(audit: Audit) -> dict[str, Any]:
    """Return the object of `audit`, whose `etag` is the SHA-256 of all but the first three keys."""
    newest = audit.runs[-1]
    domains = {
        "provenance_domain": _provenance(audit, newest),
        "usability_domain": [audit.answer],
        "description_domain": {
            "keywords": ["Snakemake", "Apptainer", "container images", "provenance"],
            "platform": sorted({image.platform for run in audit.runs for image in run.images if image.platform}),
            "pipeline_steps": list(_steps(audit)),
        },
        "execution_domain": _execution(audit, newest),
        "parametric_domain": [
            {"param": name, "value": value, "step": "workflow"}
            for name, value in {**newest.options, "mode": newest.mode, "config_sha256": newest.config_sha256}.items()
        ],
        "io_domain": _inputs_and_outputs(audit),
        "error_domain": _errors(audit),
    }
    text = json.dumps(domains, sort_keys=True, separators=(",", ":"))
    return {
        "object_id": f"urn:snakemake-apptainer-freshness:bco:{newest.sha256.removeprefix('sha256:') or newest.id}",
        "spec_version": SPECIFICATION,
        "etag": hashlib.sha256(text.encode()).hexdigest(),
        **domains,
    }


def _provenance(audit: Audit, newest: Run) -> dict[str, Any]:
    users = dict.fromkeys(run.user for run in audit.runs if run.user)
    return {
        "name": unicode(f"Container audit of {Path(audit.workdirs[0]).name}"),
        "version": f"1.0.{len(audit.runs)}",
        "created": newest.started,
        "modified": audit.made_at,
        "contributors": [{"name": unicode(user), "contribution": ["createdBy"]} for user in users or {"unknown": None}],
        "license": "The licence of the workflow and of its data applies; this description adds none.",
    }


def _steps(audit: Audit) -> Iterator[dict[str, Any]]:
    """Yield each rule that made an output, in the order in which the rules first ran."""
    outputs: defaultdict[str, list[OutputAudit]] = defaultdict(list)
    for output in audit.outputs:
        if output.rule:
            outputs[output.rule].append(output)
    ran = dict.fromkeys(job.rule for run in audit.runs for job in run.jobs if job.rule in outputs)
    for number, rule in enumerate([*ran, *(rule for rule in sorted(outputs) if rule not in ran)], start=1):
        made = outputs[rule]
        images = {output.pinned: output.reference for output in made if output.pinned}
        yield {
            "step_number": number,
            "name": unicode(rule),
            "description": unicode(f"rule {rule}, {'in ' + ', '.join(images.values()) if images else 'no container'}"),
            "prerequisite": [
                {"name": unicode(reference), "uri": _uri(_quoted(pinned))} for pinned, reference in images.items()
            ],
            "input_list": _files(audit, (path for output in made for path in output.inputs)),
            "output_list": _files(audit, (output.path for output in made)),
        }


def _execution(audit: Audit, newest: Run) -> dict[str, Any]:
    images = {(image.pinned, image.sha256): image for run in audit.runs for image in run.images}
    versions = {
        "Snakemake": (newest.versions.snakemake, "https://snakemake.readthedocs.io"),
        "Apptainer": (newest.versions.apptainer or "unknown", "https://apptainer.org"),
        "snakemake-apptainer-freshness": (newest.versions.freshness, "urn:snakemake-apptainer-freshness"),
        "Python": (newest.versions.python, "https://www.python.org"),
    }
    return {
        "script": [{"uri": _uri(address(Path(newest.source.snakefile).absolute()))}],
        "script_driver": "snakemake",
        "software_prerequisites": [
            *({"name": name, "version": version, "uri": _uri(url)} for name, (version, url) in versions.items()),
            *(prerequisite for image in images.values() for prerequisite in _prerequisites(image)),
        ],
        "external_data_endpoints": [],
        "environment_variables": {
            unicode(name): unicode(value)
            for name, value in (newest.runtime.environment if newest.runtime else {}).items()
        },
    }


def _prerequisites(image: ImageRecord) -> Iterator[dict[str, Any]]:
    """Yield an image by its digest, and the file that ran by its own SHA-256."""
    name = unicode(image.reference)
    yield {"name": name, "version": image.digest or "unknown", "uri": _uri(_quoted(image.pinned))}
    if image.sha256:
        where = address(Path(image.path)) if image.path.startswith("/") else _quoted(image.pinned)
        yield {"name": f"{name} (SIF)", "version": f"sha256:{image.sha256}", "uri": _uri(where)}


def _inputs_and_outputs(audit: Audit) -> dict[str, Any]:
    made = {output.path for output in audit.outputs}
    first = dict.fromkeys(path for output in audit.outputs for path in output.inputs if path not in made)
    return {
        "input_subdomain": [{"uri": uri} for uri in _files(audit, first)],
        "output_subdomain": [{"mediatype": _MEDIA_TYPE, "uri": uri} for uri in _files(audit, sorted(made))],
    }


def _errors(audit: Audit) -> dict[str, Any]:
    return {
        "empirical_error": {
            "finding": [
                {"kind": finding.kind.value, "severity": finding.severity.value, "text": unicode(finding.text)}
                for finding in audit.findings
            ]
        },
        "algorithmic_error": {"output": [_judged(output) for output in audit.outputs]},
    }


def _judged(output: OutputAudit) -> Mapping[str, Any]:
    recorded = (
        next((record for record in output.job.outputs if record.path == output.path), None) if output.job else None
    )
    sha256 = {"sha256": recorded.sha256} if recorded and recorded.sha256 else {}
    return {
        "path": unicode(output.path),
        "verdict": output.verdict.value,
        "why": unicode(output.explanation),
        "digest": output.digest or None,
        **sha256,
    }


def _files(audit: Audit, paths: Iterable[str]) -> list[dict[str, str]]:
    """Return each of `paths` once, as an address with the name that it has in its work directory."""
    folder = Path(audit.workdirs[0])
    return [{"filename": unicode(path), **_uri(address(folder / path))} for path in dict.fromkeys(paths)]


def _uri(url: str) -> dict[str, str]:
    return {"uri": url}


def _quoted(reference: str) -> str:
    """Return a reference as a URI, whatever a record says that it is."""
    return quote(unicode(reference), safe=_URL_SAFE)
