"""The example workflow `audited`, with a cluster job on a real Slurm: what went wrong is found, and nothing else.

Its lock is committed and it is run; a tag moves, the pin follows it in a new commit, and it is run again. Then an
output is edited by hand and an image file is damaged. Whatever form the audit is given in, it gives the same answer.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.audit.results import SENTENCES
from snakemake_apptainer_freshness.record.journal import read_all
from snakemake_apptainer_freshness.store.prefix import image_path
from tests.support import crates, images, pins
from tests.support.browser import chromium, opened
from tests.support.slurm import Slurm
from tests.support.workflow import Workspace

WORKFLOW = Path(__file__).parents[2] / "workflows" / "audited"
RULES = ("count", "rank", "report")
CLUSTER = (
    "--executor", "slurm", "--jobs", "2", "--default-resources", "slurm_partition=main", "slurm_account=test",
    "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1",
)  # fmt: skip
WRITTEN = {"html": "audit.html", "sarif": "audit.sarif", "rocrate": "crate", "intoto": "statements"}
ON_THE_PAGE = """() => {
  const all = (query, within = document) => [...within.querySelectorAll(query)];
  const text = (within, query) => within.querySelector(query)?.textContent;
  const digest = (chain) => all(".links > li", chain).find((one) => text(one, "span") === "Digest");
  return {
    sentence: document.querySelector("meta[name=description]").content,
    outputs: all("details.chain").flatMap((chain) => all("tbody tr", chain).map((row) => [
      text(row, "th > bdi"), text(chain, "summary .v"), digest(chain)?.querySelector("code").title || "",
    ])),
    findings: all(".findings > li").map((one) => [
      one.parentElement.classList[1], one.dataset.kind, text(one, ".text"),
    ]),
    runs: all(".runs tr[id]").map((row) => [
      text(row.nextElementSibling, ".record dd"), text(row, "th"),
    ]),
  };
}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What every form says: the sentence, each output with verdict and digest, each finding with severity and kind."""

    sentence: str
    outputs: frozenset
    findings: frozenset

    @classmethod
    def of(cls, sentence, outputs, findings):
        """Of rows of text; nothing may stand there twice."""
        outputs, findings = [tuple(one) for one in outputs], [tuple(one) for one in findings]
        made = cls(sentence=sentence, outputs=frozenset(outputs), findings=frozenset(findings))
        assert (len(made.outputs), len(made.findings)) == (len(outputs), len(findings))
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What happened, and the files in `folder` that the audit wrote about it."""

    workspace: Workspace
    references: dict
    digests: dict
    folder: Path
    text: str
    document: dict
    slurm_jobs: str


@pytest.fixture(scope="module")
def scene(shared_registry, tmp_path_factory):
    folder = tmp_path_factory.mktemp("audited")
    workspace = Workspace(folder / "workflow", folder / "home")
    shutil.copytree(WORKFLOW, workspace.folder, dirs_exist_ok=True)
    references = {rule: f"docker://{shared_registry.host}/audited/{rule}:1" for rule in RULES}

    def push(rule, message):
        return images.push(images.tiny_image(message), shared_registry.host, f"audited/{rule}", "1")

    digests = {rule: push(rule, rule) for rule in RULES}
    named = ", ".join(f"{rule}: '{reference}'" for rule, reference in references.items())
    config = ("--config", f"images={{{named}}}", "file=/message")
    git(workspace, "init", "-q")
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as short, Slurm(Path(short)) as slurm:
        environment = {"PATH": f"{slurm.path}:{workspace.environment['PATH']}"}
        ours(workspace, "lock", "--", *config)
        commit(workspace, "Snakefile", "config.yaml", "text.txt", "containers.lock")
        workspace.snakemake(*CLUSTER, *config, environment=environment)
        digests["report"] = push("report", "newer")
        ours(workspace, "lock", "--upgrade-image", references["report"], "--", *config)
        commit(workspace, "containers.lock")
        workspace.snakemake(*CLUSTER, *config, environment=environment)
        command = [f"{slurm.path}/squeue", "--states=all", "--noheader", "--format=%T"]
        slurm_jobs = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    (workspace.folder / "report.txt").write_text("edited by hand")
    pins.flip_seven_bytes(
        image_path(
            workspace.folder / ".snakemake" / "singularity", workspace.lock().get(references["count"]).pinned.text
        )
    )
    text = audit(workspace, *(f"--{form}={folder / name}" for form, name in WRITTEN.items()))
    document = json.loads(audit(workspace, "--json"))
    return Scene(
        workspace=workspace, references=references, digests=digests, folder=folder, text=text, document=document,
        slurm_jobs=slurm_jobs,
    )  # fmt: skip


def git(workspace, *arguments):
    workspace.run("git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments)


def commit(workspace, *files):
    git(workspace, "add", *files)
    git(workspace, "commit", "-qm", "a")


def ours(workspace, *arguments, fails=False):
    program = "from snakemake_apptainer_freshness.cli import main; main()"
    return workspace.run(sys.executable, "-c", program, *arguments, fails=fails)


def audit(workspace, *arguments):
    result = ours(workspace, "audit", *arguments, fails=True)
    assert (result.status, result.stderr) == (1, "")
    return result.stdout


def digest_in(url):
    return url.partition("@")[2]


def json_says(scene):
    return Answer.of(
        scene.document["answer"],
        [(one["path"], one["verdict"], one["digest"] or "") for one in scene.document["output"]],
        [(one["severity"], one["kind"], one["text"]) for one in scene.document["finding"]],
    )


def text_says(scene):
    rows = [line.split("\t") for line in scene.text.splitlines()]
    [sentence] = [row[1] for row in rows if row[0] == "answer"]
    outputs = [(path, verdict, digest_in(url)) for name, verdict, path, _, url, _ in (
        row for row in rows if row[0] == "output"
    )]  # fmt: skip
    return Answer.of(sentence, outputs, [row[1:] for row in rows if row[0] == "finding"])


def page_says(scene):
    with chromium() as browser, opened(browser, scene.folder / "audit.html") as watched:
        said = watched.page.evaluate(ON_THE_PAGE)
        assert (watched.requests, watched.problems) == ([], [])
    for identifier, name in said.pop("runs"):  # the page calls runs by their names
        said["findings"] = [(*words, text.replace(name, identifier)) for *words, text in said["findings"]]
    return Answer.of(**said)


def crate_says(scene):
    graph = json.loads((scene.folder / "crate" / "ro-crate-metadata.json").read_text())["@graph"]
    entities = {entity["@id"]: entity for entity in graph}
    verdicts = {sentence: str(verdict) for verdict, sentence in SENTENCES.items()}

    def named(entity, key):
        said = entity.get(key, [])
        return [entities[one["@id"]] for one in (said if isinstance(said, list) else [said])]

    made_by = {
        output["@id"]: action
        for action in graph
        if action["@type"] == "CreateAction" and "actionStatus" in action
        for output in named(action, "result")
    }

    def digest(output):
        ran = named(made_by[output["@id"]], "containerImage")
        oci = [one["sha256"] for one in ran if one["additionalType"]["@id"].endswith("#DockerImage")]
        return f"sha256:{oci[0]}" if oci else ""

    outputs = [one for one in graph if one["@id"] in made_by]
    return Answer.of(
        entities["./"]["description"],
        [(one["name"], verdicts[one["description"].partition(":")[0]], digest(one)) for one in outputs],
        [(one["keywords"], one["name"], one["text"]) for one in named(entities["./"], "comment")],
    )


def test_the_audit_names_what_happened_and_nothing_else(scene):
    count, rank, report = (scene.digests[rule] for rule in RULES)
    assert json_says(scene).outputs == {
        ("paragraphs", "no container", ""),
        *((f"counts/{number}.txt", "bad image", count) for number in (1, 2, 3)),
        ("ranking.txt", "proven", rank),
        ("report.txt", "changed", report),
    }
    findings = {one["kind"]: one for one in scene.document["finding"]}
    assert set(findings) == {"bad-image", "output-changed", "pin-moved"}
    assert scene.references["count"] in findings["bad-image"]["text"]
    assert set(findings["bad-image"]["subject"]) == {f"counts/{number}.txt" for number in (1, 2, 3)}
    assert findings["output-changed"]["subject"] == ["report.txt"]
    assert findings["pin-moved"]["subject"] == [
        scene.references["report"],
        *(run["id"] for run in scene.document["run"]),
    ]
    assert scene.document["note"] == []
    edges = [(edge["before"], edge["after"]) for edge in scene.document["edge"]]
    assert edges == [("count", "rank"), ("rank", "report"), ("split", "count")]


@pytest.mark.parametrize("says", [text_says, page_says, crate_says])
def test_every_form_gives_the_same_answer(scene, says):
    assert without_the_word(says(scene)) == without_the_word(json_says(scene))


def without_the_word(answer):
    """`answer` without ``run`` before an identifier: the page has it in the name of the run."""
    return replace(
        answer, findings=frozenset((*words, re.sub(r"\bruns? ", "", text)) for *words, text in answer.findings)
    )


def test_sarif_has_the_same_findings(scene):
    [run] = json.loads((scene.folder / "audit.sarif").read_text())["runs"]
    said = {(one["level"], one["ruleId"], one["message"]["text"]) for one in run["results"]}
    assert said == json_says(scene).findings


def test_the_host_of_the_cluster_job_stands_in_the_record_and_in_the_audit(scene):
    first, second = read_all(scene.workspace.folder)
    assert scene.slurm_jobs.split() == ["COMPLETED"]
    assert [(job.rule, job.attempt) for job in second.jobs] == [("report", 1), ("all", 1)]
    [rank] = [job for job in first.jobs if job.rule == "rank"]
    assert (rank.host, rank.disk, rank.result) == (first.host, "verified", "finished")
    [output] = [one for one in scene.document["output"] if one["path"] == "ranking.txt"]
    assert (output["host"], output["run"]) == (first.host, first.id)


@pytest.mark.filterwarnings("ignore")
def test_the_official_validator_takes_the_crate(scene, monkeypatch):
    assert crates.problems(scene.folder / "crate", "provenance-run-crate", monkeypatch) == []


def test_each_statement_binds_what_its_run_made_to_the_images_that_made_it(scene):
    for run in read_all(scene.workspace.folder):
        statement = json.loads((scene.folder / "statements" / f"{run.id}.intoto.json").read_text())
        subjects = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
        assert subjects == {left.path: left.sha256 for job in run.jobs for left in job.outputs if left.sha256}
        materials = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        bound = {one["digest"].get("sha256") for one in materials}
        assert {
            digest.removeprefix("sha256:") for image in run.images for digest in (image.digest, image.sha256)
        } < bound
    ranking = hashlib.sha256((scene.workspace.folder / "ranking.txt").read_bytes()).hexdigest()
    assert (
        ranking in (scene.folder / "statements" / f"{read_all(scene.workspace.folder)[0].id}.intoto.json").read_text()
    )
