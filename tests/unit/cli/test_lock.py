"""``apptainer-freshness lock``: bad input, each one clear error. No registry is asked."""

import pytest

from snakemake_apptainer_freshness import cli
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from tests.support.lock_plans import RULE
from tests.support.pins import lock_entry

TOOL = "docker://quay.io/team/tool:1.0"
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
    (place.folder / "containers.lock").write_text(dumps(Lock.of([lock_entry(TOOL, OLD)])))
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
    other.write_text(dumps(Lock.of([lock_entry(TOOL, OLD)])))
    absent = place.run("lock", "--check", "docker://quay.io/team/new:1", "--lockfile", other)
    there = place.run("lock", "--check", TOOL, "--lockfile", other, "--json")

    assert absent.status == 1
    assert absent.rows == [["missing", "docker://quay.io/team/new:1", "not in the lock", ""]]
    assert there.status == 0
    assert (there.json["snakefile"], there.json["lockfile"]) == (None, str(other))
    assert place.run("lock", "--check", TOOL).status == 1


def test_the_lock_of_a_workflow_may_lie_elsewhere(place, snakefile):
    other = place.folder / "other.lock"
    other.write_text(dumps(Lock.of([lock_entry(TOOL, OLD)])))

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
