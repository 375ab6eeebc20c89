"""What ``lock`` and ``status`` find, as code hosts read it: each finding at the rule that it is about."""

import json
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.status import StatusRow
from snakemake_apptainer_freshness.cli.lock_sarif import RULES, of_rows
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState, RemoteFact, RemoteState, Verdict, exit_status
from tests.support import pins

TOOL = "docker://quay.io/team/tool:1.0"


@pytest.fixture
def workflow(place, monkeypatch):
    """A workflow of one rule, whose container is `TOOL`."""
    for name in ("SNAKEMAKE_PROFILE", "SNAKEMAKE_APPTAINER_FRESHNESS"):
        monkeypatch.delenv(name, raising=False)
    (place.folder / "Snakefile").write_text(
        f'rule a:\n    output: "a.txt"\n    container: "{TOOL}"\n    shell: "touch {{output}}"\n'
    )
    return place


def results(place, *arguments, status):
    answer = place.run(*arguments, "--sarif", "found.sarif")
    assert answer.status == status
    document = json.loads((place.folder / "found.sarif").read_text())
    [run] = document["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == list(RULES)
    return run["results"]


def places(result):
    return [
        (one["physicalLocation"]["artifactLocation"]["uri"], one["physicalLocation"].get("region", {}).get("startLine"))
        for one in result["locations"]
    ]


def test_what_is_not_locked_stands_at_its_rule(workflow):
    [result] = results(workflow, "lock", "--check", status=1)
    assert (result["ruleId"], result["level"]) == ("not-locked", "error")
    assert places(result) == [("Snakefile", 1)]


def test_an_orphan_stands_at_the_lock(workflow):
    other = pins.pin()
    workflow.lock(other)
    (workflow.folder / "Snakefile").write_text('rule a:\n    output: "a.txt"\n    shell: "touch {output}"\n')
    [result] = results(workflow, "lock", "--check", status=1)
    assert result["ruleId"] == "orphan"
    assert places(result) == [("containers.lock", None)]


def test_what_a_policy_forbids_stands_at_its_rule_and_nothing_is_locked(workflow):
    (workflow.folder / "apptainer-freshness.toml").write_text('[policy.registries]\nallow = ["ghcr.io"]\n')
    [result] = results(workflow, "lock", status=1)
    assert result["ruleId"] == "policy"
    assert "registry quay.io is not allowed" in result["message"]["text"]
    assert places(result) == [("Snakefile", 1)]
    assert not (workflow.folder / "containers.lock").exists()


def test_what_a_policy_frowns_upon_is_a_warning(workflow):
    workflow.lock(pins.pin())
    (workflow.folder / "apptainer-freshness.toml").write_text(
        '[policy.registries]\nallow = ["ghcr.io"]\nlevel = "warn"\n'
    )
    [result] = results(workflow, "lock", "--check", status=0)
    assert (result["ruleId"], result["level"]) == ("policy", "warning")


def test_status_tells_of_images_that_may_not_run_and_of_the_sites_policy(place):
    place.lock(pins.pin())
    pins.put(place.prefix, pins.pin(), b"no image")
    (place.folder / "apptainer-freshness.toml").write_text('[policy.tags]\nrefuse = ["1.*"]\n')
    found = results(place, "status", "--offline", status=1)
    assert sorted(one["ruleId"] for one in found) == ["policy", "unproven-image"]
    assert all(places(one) == [("containers.lock", None)] for one in found)


def test_nothing_found_is_an_empty_list(place):
    place.lock(pins.pin())
    assert results(place, "status", "--offline", status=0) == []


def test_a_file_that_cannot_be_written_is_an_error(place):
    place.lock(pins.pin())
    answer = place.run("status", "--offline", "--sarif", "nowhere/found.sarif")
    assert answer.status == 3
    assert "cannot write nowhere/found.sarif" in answer.err


def reported(remote, disk, *, same=False):
    """Return rule and level of what is found of one image, and the exit status of its row."""
    entry = pins.lock_entry(reference=TOOL, digest="sha256:" + "a" * 64)
    fact = None if disk is None else DiskFact(state=disk)
    verdict = Verdict(
        reference=entry.reference,
        pinned=entry.digest,
        remote=RemoteFact(state=remote),
        disk=fact,
        same_platform=same,
    )
    row = StatusRow(reference=TOOL, entry=entry, verdict=verdict)
    status = exit_status([row.decision])
    return [(one.rule, one.level) for one in of_rows([row], (), Path("containers.lock"))], status, row.as_agreed


@pytest.mark.parametrize("remote", list(RemoteState))
@pytest.mark.parametrize("disk", [None, *DiskState])
def test_every_verdict_has_its_rules_and_levels(remote, disk):
    of_registry = {"moved": "warning", "untagged": "warning", "lost": "error"}
    expected = [(remote.value, of_registry[remote.value])] if remote.value in of_registry else []
    if disk not in (None, DiskState.VERIFIED, DiskState.ABSENT):
        expected.append(("unproven-image", "error"))
    status = 1 if expected else 3 if remote is RemoteState.UNREACHABLE else 0

    assert reported(remote, disk) == (expected, status, status == 0)


def test_a_tag_that_moved_around_the_same_image_is_a_tag_that_moved():
    assert reported(RemoteState.MOVED, None, same=True) == ([("moved", "warning")], 1, False)
