"""An audit as a Workflow Run RO-Crate: the form in which repositories of research data take a run.

Profiles: Provenance Run Crate 0.5 and with it Workflow Run Crate 0.5, Process Run Crate 0.5 and Workflow RO-Crate 1.0,
all upon RO-Crate 1.1. One ``CreateAction`` a run, whose instrument is the workflow; one a job that ended, whose
instrument is its rule (:mod:`.crate.provenance` has the steps and who controlled them). Each names
the ``ContainerImage`` that ran, twice: the OCI image by its manifest's or index's digest, and the SIF by the file's own
SHA-256. The verdict on every output stands with it; each finding is a ``Comment`` on the crate, about what it is about.

The crate holds the main Snakefile, the lock file and the records; outputs are described where they lie (``file:``
addresses with size and, where the record has it, SHA-256) and not copied: they may be terabytes.

A record was perhaps written by another user, and names files. What goes into the crate lies in the work directory, by
its real path, and has the SHA-256 that the record has of it (:func:`.disk.copy_recorded`); it is put there under a name
of ours, so that it can replace nothing, the crate's metadata least of all. A Snakefile elsewhere is taken where the
person who asks for the crate names it.
"""

import itertools
import mimetypes
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from snakemake_apptainer_freshness.audit.disk import NotCopied, copy, copy_recorded, place
from snakemake_apptainer_freshness.audit.render import FormatOption, More
from snakemake_apptainer_freshness.audit.render.crate import entities
from snakemake_apptainer_freshness.audit.render.crate.steps import Provenance
from snakemake_apptainer_freshness.audit.results import SENTENCES, Audit, AuditFinding, OutputAudit
from snakemake_apptainer_freshness.common.text import unicode
from snakemake_apptainer_freshness.errors import LocalIOError, UsageError
from snakemake_apptainer_freshness.record.run import ImageRecord, JobRecord, JobResult, Run
from snakemake_apptainer_freshness.settings import RECORDS

OPTION: Final = FormatOption(flag="--rocrate", metavar="DIR", help="Write a Workflow Run RO-Crate.")
_NAMED: Final = FormatOption(
    flag="--snakefile",
    metavar="FILE",
    help="The main Snakefile for --rocrate, where it lies outside of the work directory.",
)
MORE: Final[Sequence[FormatOption]] = (_NAMED,)
_VERSION: Final = "1.1"
_SNAKEFILE: Final = "Snakefile"
_WFRUN: Final = "https://w3id.org/ro/terms/workflow-run"
_PROFILES: Final = (
    ("https://w3id.org/ro/wfrun/process/0.5", "Process Run Crate", "0.5"),
    ("https://w3id.org/ro/wfrun/workflow/0.5", "Workflow Run Crate", "0.5"),
    ("https://w3id.org/workflowhub/workflow-ro-crate/1.0", "Workflow RO-Crate", "1.0"),
)
_PROVENANCE: Final = ("https://w3id.org/ro/wfrun/provenance/0.5", "Provenance Run Crate", "0.5")
"""A crate of runs that ran no job has no steps, and does not conform to it."""
_SNAKEMAKE: Final = "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"
_BIOSCHEMAS: Final = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
_STATUS: Final = {
    JobResult.FINISHED: "http://schema.org/CompletedActionStatus",
    JobResult.FAILED: "http://schema.org/FailedActionStatus",
}


def check(audit: Audit, target: Path | None, more: More) -> None:  # noqa: ARG001  as every format has it
    """Refuse several work directories, none with runs, a folder that is not empty, and a missing library."""
    if len(audit.workdirs) != 1 or not audit.runs:
        raise UsageError(
            f"a crate holds the runs of one work directory; these are {len(audit.runs)} runs of {len(audit.workdirs)}",
            hint="name one work directory that has records",
        )
    if target is not None and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"cannot write the crate: {target} is there and not empty", hint="name a folder that is new")
    _library()


def write(audit: Audit, target: Path | None, more: More) -> None:
    """Write the crate into the folder `target`, which is made.

    Raises
    ------
    UsageError
        where the Snakefile may not be taken.
    LocalIOError
        where the folder cannot be written.
    """
    assert target is not None  # noqa: S101  its option takes a folder
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.partial-", dir=target.parent) as temporary:
            crate = _Crate(audit, Path(temporary), more.get(_NAMED.flag)).build()
            made = Path(temporary, "crate")
            crate.write(made)
            made.replace(target)
    except OSError as error:
        raise LocalIOError(f"cannot write the crate {target}: {error.strerror or error}") from error


def _library() -> Any:
    """Return the class of crates, of a library that is an extra."""
    try:
        from rocrate.rocrate import ROCrate
    except ImportError:
        raise UsageError(
            "the library rocrate, which makes the crate, is not installed",
            hint="pip install 'snakemake-apptainer-freshness[rocrate]'",
        ) from None
    return ROCrate


def _ran_a_job(audit: Audit) -> bool:
    return any(job.result in _STATUS for run in audit.runs for job in run.jobs)


class _Crate:
    """One crate while it is made."""

    def __init__(self, audit: Audit, copies: Path, snakefile: Path | None) -> None:
        """Files that are taken are copied into the folder `copies`, where nothing changes them any more."""
        self._audit = audit
        self._copies = copies
        self._number = itertools.count()
        self._snakefile = snakefile
        self._crate = _library()(version=_VERSION)
        self._outputs: dict[str, list[OutputAudit]] = {}
        for output in audit.outputs:
            self._outputs.setdefault(output.path, []).append(output)
        self._workdir = Path(audit.workdirs[0])
        self._files: dict[str, Any] = {}
        self._rules: dict[str, Any] = {}
        self._images: dict[str, list[Any]] = {}
        self._named: dict[str, list[Any]] = {}

    def build(self) -> Any:
        """Return the whole crate."""
        crate, audit = self._crate, self._audit
        crate.name = f"Container audit of {self._workdir.name}"
        crate.description = audit.answer
        crate.license = "The licence of the workflow and of its data applies; this description adds none."
        crate.metadata.extra_terms.update(
            {name: f"{_WFRUN}#{name}" for name in ("ContainerImage", "DockerImage", "SIFImage", "containerImage")}
            | {name: f"{_WFRUN}#{name}" for name in ("registry", "tag", "sha256")}
        )
        profiles = [
            self._add("CreativeWork", identifier, name=name, version=version)
            for identifier, name, version in (*_PROFILES, *([_PROVENANCE] if _ran_a_job(audit) else []))
        ]
        crate.root_dataset["conformsTo"] = profiles
        crate.metadata["conformsTo"] = [
            {"@id": f"https://w3id.org/ro/crate/{_VERSION}"},
            {"@id": _PROFILES[-1][0]},
        ]
        workflow = self._workflow(audit.runs[-1])
        provenance = Provenance(crate, workflow)
        for run in audit.runs:
            self._run(run, workflow, provenance)
        provenance.finish()
        for path in self._outputs:
            self._output(path)  # also what no record knows of
        for number, finding in enumerate(audit.findings, start=1):
            self._finding(number, finding)
        return crate

    def _workflow(self, run: Run) -> Any:
        """Return the main workflow: the Snakefile of the newest run."""
        named = Path(run.source.snakefile)
        language = self._add(
            "ComputerLanguage",
            _SNAKEMAKE,
            name="Snakemake",
            alternateName="Snakemake",
            url={"@id": "https://snakemake.readthedocs.io"},
            version=run.versions.snakemake,
        )
        workflow = self._crate.add_file(
            self._copy_of_snakefile(run),
            _SNAKEFILE,
            properties={
                "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
                "name": unicode(named.name),
                "version": run.source.commit or "unknown",
                "conformsTo": {"@id": _BIOSCHEMAS},
                "encodingFormat": "text/plain",
                "url": entities.address(named.absolute()),
            },
        )
        self._add("CreativeWork", _BIOSCHEMAS, name="ComputationalWorkflow", version="1.0-RELEASE")
        workflow["programmingLanguage"] = language
        self._crate.root_dataset["mainEntity"] = workflow
        return workflow

    def _copy_of_snakefile(self, run: Run) -> Path:
        """Return a copy of the main Snakefile of `run`: the one that a person named, or the recorded one."""
        made = self._copies / "snakefile"
        recorded = run.source.sha256
        path = self._snakefile or place(run.source.snakefile, recorded_in=run.workdir, workdir=self._workdir)
        try:
            if self._snakefile is None:
                copy_recorded(path, made, workdir=self._workdir, sha256=recorded, limit=RECORDS.lock_size)
            elif copy(path, made, limit=RECORDS.lock_size) != recorded and recorded:
                raise NotCopied("its SHA-256 is not the recorded one")  # noqa: TRY301  one message for both ways
        except NotCopied as reason:
            raise UsageError(
                f"cannot put the main Snakefile {path} of the run {run.id} into the crate, which has to have it: "
                f"{reason}",
                hint="name the Snakefile of that run, from version control for example: --snakefile FILE",
            ) from None
        return made

    def _run(self, run: Run, workflow: Any, provenance: Provenance) -> None:
        finished = [job for job in run.jobs if job.result is JobResult.FINISHED]
        images = {image.pinned: self._image(image) for image in run.images}
        results = [self._output(output.path) for job in finished for output in job.outputs]
        action = self._add(
            "CreateAction",
            entities.run_id(run.id),
            name=f"Run {run.id}",
            description=f"snakemake in mode {run.mode} of apptainer-freshness, ended: {run.ending}",
            **entities.times(run.started, run.ended),
            instrument=workflow,
            agent=self._add("Person", f"#user-{quote(unicode(run.user))}", name=run.user or entities.current_user()),
            object=entities.unique([*self._lock(run), *self._record(run)]),
            result=entities.unique(results),
        )
        if used := [entity for found in images.values() for entity in found]:
            action["containerImage"] = entities.unique(used)
        self._crate.root_dataset.append_to("mentions", action)
        for number, job in enumerate(run.jobs):
            if job.result in _STATUS:
                provenance.ran(run, number, job, self._job(run, number, job, images))
        provenance.organized(run, action)

    def _job(self, run: Run, number: int, job: JobRecord, images: Mapping[str, list[Any]]) -> Any:
        wildcards = ", ".join(f"{name}={value}" for name, value in job.wildcards.items())
        action = self._add(
            "CreateAction",
            f"{entities.run_id(run.id)}-job-{number}",
            name=f"{job.rule}{f' ({wildcards})' if wildcards else ''}",
            description=f"Job {job.id}, attempt {job.attempt}{f', on {job.host}' if job.host else ''}",
            actionStatus=_STATUS[job.result],
            instrument=self._rule(job.rule, run),
            agent={"@id": f"#user-{quote(unicode(run.user))}"},
            **entities.times(job.started, job.ended),
        )
        made = [made_output for output in job.outputs for made_output in self._outputs.get(output.path, ())]
        if inputs := dict.fromkeys(path for made_output in made for path in made_output.inputs):
            action["object"] = entities.unique(self._output(path) for path in inputs)
        if job.result is JobResult.FINISHED:
            action["result"] = entities.unique(self._output(output.path) for output in job.outputs)
        if used := images.get(job.image):
            action["containerImage"] = entities.unique(used)
        self._crate.root_dataset.append_to("mentions", action)
        return action

    def _finding(self, number: int, finding: AuditFinding) -> None:
        comment = self._add(
            "Comment",
            f"#finding-{number}",
            name=finding.kind.value,
            keywords=finding.severity.value,
            text=f"{finding.text}; {finding.acknowledged.sentence}" if finding.acknowledged else finding.text,
        )
        if about := [entity for subject in finding.subjects for entity in self._subject(subject)]:
            comment["about"] = entities.unique(about)
        self._crate.root_dataset.append_to("comment", comment)

    def _subject(self, subject: str) -> list[Any]:
        """Return the output, the run or the images that a finding names so."""
        if subject in self._outputs:
            return [self._output(subject)]
        run = self._crate.get(entities.run_id(subject))
        return [run] if run is not None else self._named.get(subject, [])

    def _rule(self, name: str, run: Run) -> Any:
        if name not in self._rules:
            self._rules[name] = self._add(
                "SoftwareApplication",
                f"#rule-{quote(unicode(name))}",
                name=f"rule {name}",
                url=entities.address(Path(run.source.snakefile).absolute()),
                softwareVersion=run.source.commit or "unknown",
            )
        return self._rules[name]

    def _image(self, image: ImageRecord) -> list[Any]:
        """Return the OCI image by its digest, and the SIF by its own hash."""
        key = f"{image.pinned} {image.sha256}"
        if key not in self._images:
            self._images[key] = list(self._image_entities(image))
            self._named.setdefault(image.reference, []).extend(self._images[key])
        return self._images[key]

    def _image_entities(self, image: ImageRecord) -> Iterator[Any]:
        named = entities.named(image.reference)
        if image.digest.startswith("sha256:"):
            digest = image.digest.removeprefix("sha256:")
            yield self._add(
                "ContainerImage",
                f"#image-{digest}-{quote(named['name'])}",
                additionalType={"@id": f"{_WFRUN}#DockerImage"},
                identifier=image.pinned,
                sha256=digest,
                **named,
            )
        if image.sha256:
            yield self._add(
                "ContainerImage",
                f"#sif-{image.sha256}",
                additionalType={"@id": f"{_WFRUN}#SIFImage"},
                identifier=entities.address(Path(image.path)) if image.path.startswith("/") else image.pinned,
                sha256=image.sha256,
                description=f"{image.disk}: {image.proof}" if image.proof else image.disk,
                **named,
            )

    def _output(self, path: str) -> Any:
        """Return a file that was made or read, described where it lies."""
        if path not in self._files:
            address = entities.address(self._workdir / path)
            self._files[path] = self._crate.add_file(address, fetch_remote=False, properties=self._properties(path))
        return self._files[path]

    def _properties(self, path: str) -> dict[str, Any]:
        media_type, _ = mimetypes.guess_type(path)
        properties: dict[str, Any] = {"name": unicode(path), "encodingFormat": media_type or "application/octet-stream"}
        if path not in self._outputs:
            return properties
        newest = self._outputs[path][-1]
        recorded = next((record for record in newest.job.outputs if record.path == path), None) if newest.job else None
        properties["description"] = unicode(f"{SENTENCES[newest.verdict]}: {newest.why}")
        properties["contentSize"] = str(recorded.size if recorded else newest.size)
        if recorded and recorded.sha256:
            properties["sha256"] = recorded.sha256
        return properties

    def _record(self, run: Run) -> list[Any]:
        what = f"The record of the run {run.id}"
        return self._copy(Path(run.file), f"records/{run.id}.json", run.sha256, what, "application/json")

    def _lock(self, run: Run) -> list[Any]:
        if run.lock is None:
            return []
        path = place(run.lock.path, recorded_in=run.workdir, workdir=self._workdir)
        name = f"locks/{run.lock.sha256}.lock"
        return self._copy(path, name, run.lock.sha256, "The lock file of the run", "application/toml")

    def _copy(self, source: Path, name: str, sha256: str, description: str, media_type: str) -> list[Any]:
        """Return the file `source` in the crate under `name`; nothing where it is not what was recorded any more."""
        if name not in self._files:
            made = self._copies / str(next(self._number))
            try:
                copy_recorded(source, made, workdir=self._workdir, sha256=sha256, limit=RECORDS.size)
            except NotCopied:
                return []
            properties = {"name": name, "description": description, "encodingFormat": media_type, "sha256": sha256}
            self._files[name] = self._crate.add_file(made, name, properties=properties)
        return [self._files[name]]

    def _add(self, kind: str, identifier: str, /, **properties: Any) -> Any:
        return entities.entity(self._crate, kind, identifier, **properties)
