"""Newer versions are told for a person and for a program, and nothing is taken."""

import json
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.workflow import RuleUse, of_references
from snakemake_apptainer_freshness.cli import outdated
from tests.support.attacks import REPOSITORY
from tests.support.lab import manifest
from tests.support.replies import Reply
from tests.support.simulator import Simulator


@pytest.fixture
def registry(place, monkeypatch):
    """A registry with a tool in two versions."""
    monkeypatch.setenv("APPTAINER_NOHTTPS", "1")
    with Simulator() as simulator:
        for tag in ("1.0", "1.1"):
            simulator.publish(REPOSITORY, tag, manifest(int(tag[-1])))
        yield simulator


def naming(registry, *tags):
    """A workflow of one rule for each of `tags`."""
    references = [f"docker://{registry.host}/{REPOSITORY}:{tag}" for tag in tags]
    workflow = of_references(references, locked=(), lockfile=Path("containers.lock"), prefix=Path("images"))
    for line, reference in enumerate(references, start=1):
        workflow.uses[reference] = (RuleUse(rule="a", snakefile=str(Path.cwd() / "Snakefile"), line=line),)
    return workflow


def test_a_newer_version_is_told_with_the_rule_that_names_the_old_one(registry, capsys):
    workflow = naming(registry, "1.0")
    status = outdated.tell(workflow, as_json=False)
    printed = capsys.readouterr()
    [reference] = workflow.uses
    row = printed.out.rstrip("\n").split("\t")
    assert (status, row[:2]) == (0, ["newer", reference])
    assert row[2].startswith(f"{reference[:-1]}1")
    assert row[-1] == "rule a (Snakefile:1)"
    assert "1 image: 1 has a newer version; nothing was changed" in printed.err
    assert not workflow.lockfile.exists()


def test_the_newest_has_none_and_a_tag_that_is_no_version_is_not_compared(registry, capsys):
    registry.publish(REPOSITORY, "stable", manifest(7))
    assert outdated.tell(naming(registry, "1.1", "stable"), as_json=False) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"not compared: the tag of docker://{registry.host}/{REPOSITORY}:stable is no version" in printed.err
    assert "2 images: none has a newer version" in printed.err


def test_of_many_newer_versions_the_newest_and_five_more_are_named_and_json_has_all(registry, capsys):
    for number in range(2, 9):
        registry.publish(REPOSITORY, f"1.{number}", manifest(number))
    workflow = naming(registry, "1.0")
    outdated.tell(workflow, as_json=False)
    row = capsys.readouterr().out.split("\t")
    assert row[3] == "also 1.7, 1.6, 1.5, 1.4, 1.3, … and 2 more"
    assert outdated.tell(workflow, as_json=True) == 0
    [found] = json.loads(capsys.readouterr().out)["outdated"]
    assert [one.rpartition(":")[2] for one in found["newer"]] == [f"1.{number}" for number in range(8, 0, -1)]
    assert (found["version"], found["complete"], found["error"]) == (True, True, None)
    assert found["rules"] == [{"rule": "a", "snakefile": str(Path.cwd() / "Snakefile"), "line": 1}]


def test_at_a_terminal_what_there_is_to_say_stands_below_the_reference(registry, capsys, terminal):
    workflow = naming(registry, "1.0")
    terminal()
    outdated.tell(workflow, as_json=False)
    shown = capsys.readouterr().out
    [reference] = workflow.uses
    lines = [line.strip() for line in shown.splitlines()]
    assert any(line.endswith(reference) for line in lines)
    assert "rule a (Snakefile:1)" in lines


def test_a_registry_that_does_not_answer_is_an_error_with_its_status_in_json_too(registry, capsys):
    registry.answer(f"/v2/{REPOSITORY}/tags/list", Reply(status=404))
    workflow = naming(registry, "1.0")
    assert outdated.tell(workflow, as_json=True) == 3
    printed = capsys.readouterr()
    [found] = json.loads(printed.out)["outdated"]
    assert found["newer"] == []
    assert "no repository of this name" in json.dumps(found["error"])
    assert "no repository of this name" in printed.err
