"""How a plan for the lock is shown: rows for a pipe, a table for a person, one line, one document."""

import json
from dataclasses import replace
from pathlib import Path

import click

from snakemake_apptainer_freshness.actions.lock import LockPlan
from snakemake_apptainer_freshness.cli import lock_report
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.policy import Rule, Violation
from snakemake_apptainer_freshness.policy.schema import Level
from snakemake_apptainer_freshness.settings import Options, Reaction
from tests.support.cli_page import SECTIONS
from tests.support.lock_plans import OLD, SAID, TOOL, entry, everything, workflow


def test_a_pipe_gets_a_line_an_image(place, capsys):
    lock_report.show(workflow(), everything(workflow()), SAID)
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]

    assert rows[0] == [
        "updated",
        TOOL,
        "sha256:aaaaaaaaaaaa → sha256:bbbbbbbbbbbb",
        "linux/amd64 changed, linux/arm64 same",
        "created 2026-01-01T00:00:00Z → 2026-02-02T00:00:00Z, version 1 → 2, revision still abc",
        "rules a (Snakefile:1), b (Snakefile:2), c (Snakefile:3), … and 1 more",
        "5 outputs that are there were made with the old one: 0.txt, 1.txt, 2.txt, … and 2 more",
    ]
    assert [row[:2] for row in rows[1:]] == [
        ["removed", "gone"],
        ["same platform", TOOL],
        ["missing", TOOL],
        ["orphan", "orphan"],
        ["unclear", "unclear"],
        ["unpinnable", "shub://a/b"],
    ]


def test_a_terminal_gets_a_table_that_fits_its_width(place, capsys, terminal):
    terminal()
    lock_report.show(workflow(), everything(workflow()), SAID)
    lines = capsys.readouterr().out.splitlines()
    lines = [click.unstyle(line).rstrip() for line in lines]

    assert lines[:4] == [
        "what           image",
        f"updated        {TOOL}",
        "               sha256:aaaaaaaaaaaa → sha256:bbbbbbbbbbbb",
        "               linux/amd64 changed, linux/arm64 same",
    ]
    assert all(len(line) <= 80 for line in lines)


def test_what_is_unpinnable_is_not_shown_where_that_is_to_be_ignored(place, capsys):
    flow = workflow(options=Options(on_unpinnable=Reaction.IGNORE))
    lock_report.show(flow, everything(flow), {})

    assert "unpinnable" not in capsys.readouterr().out


def test_one_line_sums_it_up(place):
    assert lock_report.summary("containers.lock", everything(workflow()), written=False) == (
        "containers.lock: 0 images; 1 would be updated, 1 would be removed, 1 not locked, 1 not taken, the same for "
        "this platform, 1 named by no rule, 1 not pinnable, 1 failed"
    )


def test_every_key_of_the_json_is_documented(place):
    flow = workflow()
    document = json.loads(json.dumps(lock_report.document_of(flow, everything(flow), SAID, written=True)))
    changed = document["change"][0]
    keys = {*document, *changed, *changed["new"], *document["missing"][0], *document["unpinnable"][0]}

    for key in keys | {*document["unseen"][0]} - {"hints"}:
        assert f"`{key}`" in SECTIONS["lock"], key
    assert (changed["what"], changed["old"]["digest"], changed["new"]["version"]) == ("updated", OLD, "2")
    assert changed["outputs"] == [f"{n}.txt" for n in range(5)]


def test_equal_dates_and_the_zero_of_reproducible_builds_are_not_shown(place, capsys):
    same = {url: replace(said, created="2026-01-01T00:00:00Z") for url, said in SAID.items()}
    zero = {url: replace(said, created="0001-01-01T00:00:00Z") for url, said in SAID.items()}
    for said in (same, zero):
        lock_report.show(workflow(), everything(workflow()), said)
        first = capsys.readouterr().out.splitlines()[0].split("\t")
        assert first[4] == "version 1 → 2, revision still abc"


def test_what_names_no_version_is_told_unless_a_policy_rules_on_tags(place):
    uses = dict.fromkeys((TOOL, "docker://busybox", "docker://quay.io/team/tool:latest", "no reference:"), ())

    assert list(lock_report.unversioned(workflow(uses=uses))) == [
        "docker://busybox",
        "docker://quay.io/team/tool:latest",
    ]
    ruled = Options(policy={"tags": {"required": True}})
    assert list(lock_report.unversioned(workflow(uses=uses, options=ruled))) == []


def test_how_a_policy_is_broken_is_told_with_the_rules_that_name_the_image(place):
    broken = Violation(
        rule=Rule.TAGS, level=Level.WARN, reference=TOOL, text="its tag moves", source=str(Path.cwd() / "config.yaml")
    )

    assert lock_report.violation_line(workflow(), broken) == (
        f"policy warn: {TOOL} (rules a (Snakefile:1), b (Snakefile:2), c (Snakefile:3), … and 1 more): its tag moves "
        "(config.yaml)"
    )
    assert lock_report.violation_line(workflow(uses={}), broken) == f"policy warn: {TOOL}: its tag moves (config.yaml)"


def test_a_path_elsewhere_stays_whole(place):
    assert lock_report.path_from_here("/etc/site.toml") == "/etc/site.toml"
    assert lock_report.path_from_here(str(Path.cwd() / "workflow" / "Snakefile")) == "workflow/Snakefile"


def test_a_plan_that_changes_nothing_says_so(place):
    nothing = LockPlan(before=Lock(), after=Lock.of([entry(OLD)]), differences=(), unpinnable={}, failures={})
    assert (
        lock_report.summary("containers.lock", nothing, written=True) == "containers.lock: 1 image; nothing to change"
    )
