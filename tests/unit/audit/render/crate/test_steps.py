"""What consumers ask of a crate, asked in SPARQL; and the steps, the engine and the machines that it names."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.record.run import JobResult, Machine
from tests.support import audits, crates

DOCUMENT = Path(__file__).parents[5] / "docs" / "standards.md"
PREFIXES = """
PREFIX schema: <http://schema.org/>
PREFIX wfrun: <https://w3id.org/ro/terms/workflow-run#>
"""
WHICH_IMAGE_MADE = """
SELECT ?digest ?sif WHERE {
  ?file schema:name ?name .
  ?job a schema:CreateAction ; schema:result ?file ; schema:actionStatus ?status ;
       wfrun:containerImage ?image , ?sif_image .
  ?image schema:additionalType wfrun:DockerImage ; wfrun:sha256 ?digest .
  ?sif_image schema:additionalType wfrun:SIFImage ; wfrun:sha256 ?sif .
}"""
WHICH_RUNS_USED = """
SELECT ?run ?when WHERE {
  ?image wfrun:sha256 ?digest .
  ?organize a schema:OrganizeAction ; schema:result ?run .
  ?run wfrun:containerImage ?image ; schema:startTime ?when .
} ORDER BY ?when"""
WHO_AND_WHERE = """
SELECT ?who ?host ?rule ?version WHERE {
  ?file schema:name ?name .
  ?job schema:result ?file ; schema:actionStatus ?status ; schema:location ?place ; schema:agent ?person .
  ?person schema:name ?who .
  ?place schema:name ?host .
  ?control a schema:ControlAction ; schema:object ?job ; schema:instrument ?step .
  ?step schema:name ?rule .
  ?organize schema:object ?control ; schema:instrument ?engine .
  ?engine schema:softwareVersion ?version .
}"""


@pytest.fixture
def audit(tmp_path):
    return crates.at(audits.sample(), tmp_path / "project")


def crate_of(audit, folder):
    crates.write(audit, folder)
    return folder


def asked(graph, question, **values):
    from rdflib import Literal

    bound = {name: Literal(value) for name, value in values.items()}
    return [tuple(str(cell) for cell in row) for row in graph.query(PREFIXES + question, initBindings=bound)]


def test_which_image_made_a_file(audit, tmp_path):
    graph = crates.graph(crate_of(audit, tmp_path / "crate"))

    assert asked(graph, WHICH_IMAGE_MADE, name="quants/d.sf") == [
        (audits.sha256("salmon new"), audits.sha256("salmon new sif"))
    ]
    assert asked(graph, WHICH_IMAGE_MADE, name="report/index.html") == []


def test_which_runs_used_an_image(audit, tmp_path):
    graph = crates.graph(crate_of(audit, tmp_path / "crate"))
    first, second, third = audit.runs

    def runs(word):
        return [run.rpartition("#run-")[2] for run, _ in asked(graph, WHICH_RUNS_USED, digest=audits.sha256(word))]

    assert runs("salmon") == [first.id, second.id]
    assert runs("salmon new") == [third.id]
    assert runs("fastp sif") == [first.id, third.id]


def test_the_questions_in_the_documentation_have_the_answers_that_it_promises(audit, tmp_path):
    graph = crates.graph(crate_of(audit, tmp_path / "crate"))
    image, runs = re.findall(r"^```sparql\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    salmon = runs.replace("28f0…", audits.sha256("salmon new"))

    assert [str(row[0]) for row in graph.query(image)] == [audits.sha256("salmon new")]
    assert [str(row[0]).rpartition("#run-")[2] for row in graph.query(salmon)] == [audit.runs[2].id]


def test_who_made_a_file_where_and_in_which_step(audit, tmp_path):
    graph = crates.graph(crate_of(audit, tmp_path / "crate"))

    assert asked(graph, WHO_AND_WHERE, name="quants/d.sf") == [
        ("ada", "node07.cluster.example", "rule quantify", "9.27.1")
    ]


def entities(crate):
    graph = json.loads((crate / "ro-crate-metadata.json").read_text())["@graph"]
    return {one["@id"]: one for one in graph}


def test_the_machine_that_snakemake_ran_on_is_described_and_others_are_named(audit, tmp_path):
    here = replace(audit.runs[0], machine=Machine(system="Debian 12", cpu="A CPU"))
    local = replace(here.jobs[0], host=here.host)
    here = replace(here, jobs=(local, *here.jobs[1:]))

    found = entities(crate_of(replace(audit, runs=(here,), outputs=(), findings=()), tmp_path / "crate"))

    values = found["#host-login1.cluster.example"]["additionalProperty"]
    assert {(found[one["@id"]]["name"], found[one["@id"]]["value"]) for one in values} == {
        ("system", "Debian 12"),
        ("cpu", "A CPU"),
    }
    assert "additionalProperty" not in found["#host-node07.cluster.example"]


def test_each_rule_is_one_step_in_the_order_in_which_they_first_ran(audit, tmp_path):
    found = entities(crate_of(audit, tmp_path / "crate"))
    steps = [found[one["@id"]] for one in found["Snakefile"]["step"]]

    assert [(step["name"], step["position"]) for step in steps] == [
        ("rule trim", "1"),
        ("rule quantify", "2"),
        ("rule count", "3"),
        ("rule plot", "4"),
        ("rule report", "5"),
    ]


@pytest.mark.filterwarnings("ignore")
def test_runs_without_a_job_make_a_crate_of_the_smaller_profiles(audit, tmp_path, monkeypatch):
    run = audit.runs[0]
    waiting = replace(run, jobs=tuple(replace(job, result=JobResult.RUNNING) for job in run.jobs))
    crate = crate_of(replace(audit, runs=(waiting,), outputs=(), findings=()), tmp_path / "crate")

    assert not any("provenance" in one["@id"] for one in entities(crate)["./"]["conformsTo"])
    assert crates.problems(crate, "workflow-run-crate", monkeypatch) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("term", ["workExample", "hasPart", "OrganizeAction"])
def test_the_official_validator_refuses_a_crate_that_lacks_a_part(audit, tmp_path, monkeypatch, term):
    crate = crate_of(audit, tmp_path / "crate")
    path = crate / "ro-crate-metadata.json"
    document = json.loads(path.read_text())
    for one in document["@graph"]:
        if one["@id"] == "Snakefile" and term == "hasPart":
            del one["hasPart"]
        if one["@type"] == "HowToStep" and term == "workExample":
            del one["workExample"]
        if one["@type"] == "OrganizeAction" and term == "OrganizeAction":
            del one["result"]
    path.write_text(json.dumps(document))

    assert crates.problems(crate, "provenance-run-crate", monkeypatch) != []
