"""A plan for the lock that has one of everything, and the workflow that it is for."""

from pathlib import Path
from typing import Any

from snakemake_apptainer_freshness.actions.labels import Details
from snakemake_apptainer_freshness.actions.lock import LockPlan, difference
from snakemake_apptainer_freshness.actions.workflow import ExistingOutput, RuleUse, Unseen, Workflow
from snakemake_apptainer_freshness.errors import NotFound
from snakemake_apptainer_freshness.lockfile import Change, Entry, Lock
from snakemake_apptainer_freshness.settings import Options
from tests.support.pins import lock_entry

TOOL = "docker://quay.io/team/tool:1.0"
RULE = f'rule a:\n    output: "a.txt"\n    container: "{TOOL}"\n    shell: "touch {{output}}"\n'
OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def entry(digest: str, **platforms: str) -> Entry:
    """The entry of the tool, with the manifests of Linux platforms."""
    return lock_entry(
        reference=TOOL,
        digest=digest,
        media_type="application/vnd.oci.image.index.v1+json",
        platforms={f"linux/{name}": manifest for name, manifest in platforms.items()},
    )


def workflow(**changes: Any) -> Workflow:
    """A workflow with four rules, one of which no job was seen of, and five outputs that are there."""
    uses = tuple(
        RuleUse(rule=name, snakefile=str(Path.cwd() / "Snakefile"), line=n) for n, name in enumerate("abcd", 1)
    )
    recorded = entry(OLD).pinned.text
    outputs = tuple(ExistingOutput(path=f"{n}.txt", rule="a", reference=TOOL, recorded_url=recorded) for n in range(5))
    return Workflow(
        **{
            "snakefile": Path.cwd() / "Snakefile",
            "workdir": Path.cwd(),
            "lockfile": Path.cwd() / "containers.lock",
            "options": Options(),
            "prefix": Path.cwd() / "images",
            "uses": {TOOL: uses},
            "unseen": (Unseen(rule="e", why="no job"),),
            "outputs": outputs,
            **changes,
        }
    )


def everything(flow: Workflow) -> LockPlan:
    """A plan with one of each."""
    change = Change(reference=TOOL, old=entry(OLD, amd64=OLD, arm64=OLD), new=entry(NEW, amd64=NEW, arm64=OLD))
    return LockPlan(
        before=Lock(),
        after=Lock(),
        differences=(difference(change, flow), difference(Change(reference="gone", old=entry(OLD), new=None), flow)),
        held_back=(difference(change, flow),),
        orphans=("gone", "orphan"),
        unclear=("unclear",),
        missing=(TOOL,),
        unpinnable={"shub://a/b": "it has no digest"},
        failures={"docker://q.io/c": NotFound("no such tag", hint="look")},
    )


SAID = {
    entry(OLD).pinned.text: Details(created="2026-01-01T00:00:00Z", version="1", revision="abc"),
    entry(NEW).pinned.text: Details(created="2026-02-02T00:00:00Z", version="2", revision="abc"),
}
