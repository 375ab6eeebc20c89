"""``apptainer-freshness lock``: bad input, each one clear error; and what is shown where. No registry is asked."""

import json
from dataclasses import replace
from pathlib import Path

import click
import pytest

from snakemake_apptainer_freshness import cli
from snakemake_apptainer_freshness.actions.labels import Details
from snakemake_apptainer_freshness.actions.lock import LockPlan, difference
from snakemake_apptainer_freshness.actions.workflow import ExistingOutput, RuleUse, Unseen, Workflow
from snakemake_apptainer_freshness.cli import lock_report
from snakemake_apptainer_freshness.errors import NotFound
from snakemake_apptainer_freshness.lockfile import Change, Lock, dumps
from snakemake_apptainer_freshness.settings import Options, Reaction
from tests.support.pins import lock_entry
from tests.unit.cli.test_docs import SECTIONS

TOOL = "docker://quay.io/team/tool:1.0"
RULE = f'rule a:\n    output: "a.txt"\n    container: "{TOOL}"\n    shell: "touch {{output}}"\n'
OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.fixture
def snakefile(place, monkeypatch):
    for name in ("SNAKEMAKE_PROFILE", "SNAKEMAKE_APPTAINER_FRESHNESS"):
        monkeypatch.delenv(name, raising=False)
    path = place.folder / "Snakefile"
    path.write_text(RULE)
    return path


def refused(place, *arguments):
    """What is said of a call that is wrong use, in one error."""
    answer = place.run("lock", *arguments)
    assert answer.status == 2
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert answer.err.count("error: ") == 1
    return answer.err


def test_no_snakefile_here(place):
    assert "there is no Snakefile here" in refused(place)


def test_a_snakefile_that_fails_to_parse_is_told_once_in_snakemakes_words(place, snakefile):
    snakefile.write_text("rule a:\n    outputt: 'a.txt'\n")
    said = refused(place)

    assert said.count(f'SyntaxError in file "{snakefile}", line 2') == 1
    assert said.count("Unexpected keyword outputt in rule definition") == 1


def test_a_pattern_that_matches_nothing(place, snakefile):
    assert "the pattern *bwa* matches no image of this workflow" in refused(place, "--upgrade-image", "*bwa*")


def test_a_lock_that_is_newer_than_this_program(place, snakefile):
    (place.folder / "containers.lock").write_text("version = 2\n")

    assert "containers.lock has version 2" in refused(place)
    assert (place.folder / "containers.lock").read_text() == "version = 2\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--upgrade", "--upgrade-image", "*"], "--upgrade takes all images, --upgrade-image some"),
        (["--take-same-platform"], "--take-same-platform says what an upgrade takes"),
        (["--outdated", "--upgrade"], "--outdated only tells"),
        (["--outdated", "--check"], "--outdated only tells"),
        (["--allow-unseen"], "--allow-unseen says what a check agrees to"),
        (["--wildcard", "version"], "--wildcard cannot be 'version'"),
        (["--wildcard", "a b=1"], "--wildcard cannot be 'a b=1'"),
        (["--wildcard", "version="], "--wildcard cannot be 'version='"),
        (["--wildcard", "n=1"], "no container of this workflow depends on a wildcard n"),
        ([w for n in range(101) for k in "ab" for w in ("--wildcard", f"{k}={n}")], "more than 10000 combinations"),
        ([TOOL, "--prune"], "references and a workflow cannot be locked at once"),
        ([TOOL, "--wildcard", "n=1"], "references and a workflow cannot be locked at once"),
        ([TOOL, "--", "all"], "references and a workflow cannot be locked at once"),
        (["docker://Q/Upper:1"], "must be lower case"),
        (["--lockfile", "."], "the lock file . is a folder"),
        (["--", "nothing_makes_this"], "Snakemake cannot make a target"),
        (["--", "--no-such-option"], "Snakemake does not take its arguments: unrecognized arguments: --no-such-option"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_options_that_do_not_fit_together(place, snakefile, arguments, said):
    assert said in refused(place, *arguments)


def test_a_check_names_what_is_missing_and_writes_nothing(place, snakefile):
    answer = place.run("lock", "--check")

    assert answer.status == 1
    assert answer.rows == [["missing", TOOL, "not in the lock", "rule a (Snakefile:1)"]]
    assert answer.err == "containers.lock: 0 images; 1 not locked\n"
    assert not (place.folder / "containers.lock").exists()


UNSEEN = (
    RULE + 'rule b:\n    output: "b.{n}"\n    container: "docker://quay.io/team/b:{n}"\n    shell: "touch {output}"\n'
)


def test_a_check_fails_where_a_rule_could_not_be_seen_and_says_how_it_can_be(place, snakefile):
    (place.folder / "containers.lock").write_text(dumps(Lock.of([entry(OLD)])))
    snakefile.write_text(UNSEEN)
    refused = place.run("lock", "--check", "--", "a")
    allowed = place.run("lock", "--check", "--allow-unseen", "--", "a")
    seen = place.run("lock", "--check", "--wildcard", "n=1", "--wildcard", "n=2", "--", "a")

    assert refused.status == 1
    assert "not seen: rule b: its container depends on a job" in refused.err
    assert "--wildcard" in refused.err
    assert not place.run("lock", "--check", "--json", "--", "a").json["as_agreed"]
    assert (allowed.status, allowed.out) == (0, "")
    assert "--wildcard" not in allowed.err
    assert seen.status == 1
    assert [row[:2] for row in seen.rows] == [["missing", f"docker://quay.io/team/b:{n}"] for n in (1, 2)]
    assert "not seen" not in seen.err


def test_references_need_no_workflow_and_the_lock_may_lie_elsewhere(place):
    other = place.folder / "other.lock"
    other.write_text(dumps(Lock.of([entry(OLD)])))
    absent = place.run("lock", "--check", "docker://quay.io/team/new:1", "--lockfile", other)
    there = place.run("lock", "--check", TOOL, "--lockfile", other, "--json")

    assert absent.status == 1
    assert absent.rows == [["missing", "docker://quay.io/team/new:1", "not in the lock", ""]]
    assert there.status == 0
    assert (there.json["snakefile"], there.json["lockfile"]) == (None, str(other))
    assert place.run("lock", "--check", TOOL).status == 1


def test_the_lock_of_a_workflow_may_lie_elsewhere(place, snakefile):
    other = place.folder / "other.lock"
    other.write_text(dumps(Lock.of([entry(OLD)])))

    assert place.run("lock", "--check").status == 1
    assert place.run("lock", "--check", "--lockfile", "other.lock").status == 0
    assert place.run("status", "--rules", "--offline", "--lockfile", "other.lock", "--json").json["lockfile"] == str(
        other
    )
    assert place.run("adopt", "--lockfile", "other.lock", "--no-deep").status == 0
    assert place.run("adopt", "--lockfile", "gone.lock").status == 2


def test_a_workflow_without_containers_needs_no_lock(place, snakefile):
    snakefile.write_text("rule a:\n    output: 'a.txt'\n    shell: 'touch {output}'\n")

    assert place.run("lock").status == 0
    assert place.run("lock", "--check").status == 0
    assert not (place.folder / "containers.lock").exists()


def test_an_interruption_is_said_in_a_word(place, snakefile, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("snakemake.cli.args_to_api", interrupt)
    answer = place.run("lock")

    assert (answer.status, answer.err.strip()) == (cli.INTERRUPTED, "interrupted")


# --- What is shown ------------------------------------------------------------------------------------------------


def entry(digest, **platforms):
    return lock_entry(
        reference=TOOL,
        digest=digest,
        media_type="application/vnd.oci.image.index.v1+json",
        platforms={f"linux/{name}": manifest for name, manifest in platforms.items()},
    )


def workflow(**changes):
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


def everything(flow):
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
