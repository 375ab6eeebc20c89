"""Audits that can become a crate, and RO-Crate's official validator, without a network.

The validator asks the web for one document, the JSON-LD context of RO-Crate 1.1. The library ``rocrate`` carries that
of a later version; for the terms that are used here it differs in the address of Bioschemas' terms alone.
"""

import hashlib
import json
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from snakemake_apptainer_freshness.audit.render import rocrate
from snakemake_apptainer_freshness.audit.results import Audit
from snakemake_apptainer_freshness.record.run import LockUsed, Run

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
OFFLINE = 504

SNAKEFILE = b"rule all:\n    input: []\n"
LOCK = b"version = 1\n"
RECORD = b"{}\n"


def at(audit: Audit, workdir: Path) -> Audit:
    """`audit` as one of the folder `workdir`, which is made with the files that its runs recorded."""
    (workdir / "workflow").mkdir(parents=True)
    (workdir / "records").mkdir()
    (workdir / "workflow" / "Snakefile").write_bytes(SNAKEFILE)
    (workdir / "workflow" / "containers.lock").write_bytes(LOCK)
    runs = tuple(_at(run, workdir) for run in audit.runs)
    return replace(audit, workdirs=(str(workdir),), runs=runs)


def _at(run: Run, workdir: Path) -> Run:
    record = workdir / "records" / f"{run.id}.json"
    record.write_bytes(RECORD)
    snakefile, lock = workdir / "workflow" / "Snakefile", workdir / "workflow" / "containers.lock"
    return replace(
        run,
        workdir=str(workdir),
        file=str(record),
        sha256=hashlib.sha256(RECORD).hexdigest(),
        source=replace(run.source, snakefile=str(snakefile), sha256=hashlib.sha256(SNAKEFILE).hexdigest()),
        lock=LockUsed(path=str(lock), sha256=hashlib.sha256(LOCK).hexdigest()),
    )


def write(audit: Audit, folder: Path, *, snakefile: Path | None = None) -> None:
    """Write the crate of `audit` as the command line does."""
    more = {"--snakefile": snakefile} if snakefile else {}
    rocrate.check(audit, folder, more)
    rocrate.write(audit, folder, more)


def context_1_1() -> str:
    """The JSON-LD context that crates name, as text."""
    text = resources.files("rocrate").joinpath("data/ro-crate.jsonld").read_text()
    return text.replace("https://bioschemas.org/terms/", "https://bioschemas.org/")


def graph(crate: Path) -> Any:
    """What the crate in the folder `crate` says, as an RDF graph that can be asked in SPARQL."""
    from rdflib import Graph

    document = json.loads((crate / "ro-crate-metadata.json").read_text())
    own = document["@context"] if isinstance(document["@context"], list) else [document["@context"]]
    standard = json.loads(context_1_1())["@context"]
    document["@context"] = [standard if one == CONTEXT else one for one in own]
    return Graph().parse(data=json.dumps(document), format="json-ld", publicID="https://crate.example/")


def problems(crate: Path, profile: str, monkeypatch: Any) -> list[str]:
    """What the validator finds wrong in the folder `crate`, held to the requirements of `profile`."""
    import requests
    from rocrate_validator import services
    from rocrate_validator.models import Severity, ValidationSettings
    from rocrate_validator.utils.http import HttpRequester

    context = context_1_1().encode()

    def answer(_self: Any, url: str, *_args: Any, **_options: Any) -> requests.Response:
        response = requests.Response()
        response.status_code = 200 if url == CONTEXT else OFFLINE
        response._content = context if url == CONTEXT else b""
        response.headers["Content-Type"] = "application/ld+json"
        return response

    monkeypatch.setattr(HttpRequester, "get", answer, raising=False)
    monkeypatch.setattr(HttpRequester, "head", answer, raising=False)
    settings = ValidationSettings(
        rocrate_uri=str(crate), profile_identifier=profile, requirement_severity=Severity.REQUIRED
    )
    return [str(issue.message) for issue in services.validate(settings).get_issues()]
