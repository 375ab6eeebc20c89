"""How a workflow's steps were run: what Provenance Run Crate asks for beside the actions of runs and jobs.

The workflow has a ``HowToStep`` for each rule that ran, whose tool is the rule. Each job has a ``ControlAction`` that
says which step it was, and each run an ``OrganizeAction``: the engine, Snakemake in its version, that controlled them.
Where a job ran is its action's ``location``, with what is known of that machine.
"""

from collections import defaultdict
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from snakemake_apptainer_freshness.audit.render.crate import entities
from snakemake_apptainer_freshness.common.text import unicode
from snakemake_apptainer_freshness.record.run import JobRecord, Run


class Provenance:
    """The steps of one crate's workflow, and who controlled them, while the crate is made."""

    def __init__(self, crate: Any, workflow: Any) -> None:
        """`workflow` is the entity of the main workflow in `crate`."""
        self._crate = crate
        self._workflow = workflow
        self._steps: dict[str, Any] = {}
        self._tools: dict[str, Any] = {}
        self._controls: defaultdict[str, list[Any]] = defaultdict(list)

    def ran(self, run: Run, number: int, job: JobRecord, action: Any) -> None:
        """Say of the `action` of a job which step it was, and where it ran."""
        host = job.host or run.host
        if host:
            action["location"] = self._host(host, run)
        control = entities.entity(
            self._crate,
            "ControlAction",
            f"{entities.run_id(run.id)}-control-{number}",
            name=f"Snakemake ran job {job.id}, attempt {job.attempt}",
            instrument=self._step(job.rule, action["instrument"]),
            object=action,
        )
        self._controls[run.id].append(control)

    def organized(self, run: Run, action: Any) -> None:
        """Say of the `action` of a run which engine organized its jobs; nothing where it ran none."""
        if not self._controls[run.id]:
            return
        engine = entities.entity(
            self._crate,
            "SoftwareApplication",
            f"#snakemake-{quote(unicode(run.versions.snakemake))}",
            name=f"Snakemake {run.versions.snakemake}",
            softwareVersion=run.versions.snakemake,
            url={"@id": "https://snakemake.readthedocs.io"},
        )
        organize = entities.entity(
            self._crate,
            "OrganizeAction",
            f"{entities.run_id(run.id)}-organize",
            name=f"Snakemake organized run {run.id}",
            instrument=engine,
            agent=action["agent"],
            object=entities.unique(self._controls[run.id]),
            result=action,
            **entities.times(run.started, run.ended),
        )
        self._crate.root_dataset.append_to("mentions", organize)

    def finish(self) -> None:
        """Name the steps and tools in the workflow."""
        if self._steps:
            self._workflow["step"] = entities.unique(self._steps.values())
            self._workflow["hasPart"] = entities.unique(self._tools.values())

    def _step(self, rule: str, tool: Any) -> Any:
        """Return the step of `rule`; steps have positions in the order in which they first ran."""
        if rule not in self._steps:
            self._tools[rule] = tool
            self._steps[rule] = entities.entity(
                self._crate,
                "HowToStep",
                f"#step-{quote(unicode(rule))}",
                name=f"rule {rule}",
                position=str(len(self._steps) + 1),
                workExample=tool,
            )
        return self._steps[rule]

    def _host(self, host: str, run: Run) -> Any:
        """Return a machine by its name; of the one where Snakemake itself ran, what the record says of it."""
        identifier = f"#host-{quote(unicode(host))}"
        facts = asdict(run.machine) if run.machine is not None and host == run.host else {}
        values = [
            entities.entity(self._crate, "PropertyValue", f"{identifier}-{name}-{quote(unicode(value))}",
                            name=name, value=value)
            for name, value in facts.items()
            if value
        ]  # fmt: skip
        place = entities.entity(self._crate, "Place", identifier, name=host)
        for value in values:
            if value not in (place.get("additionalProperty") or []):
                place.append_to("additionalProperty", value, compact=True)
        return place
