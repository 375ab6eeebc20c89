"""Policies in a run: what they forbid stops it with its rule and line, what they warn of is told once."""

import pytest

from snakemake_apptainer_freshness.actions.pinning import Pins
from snakemake_apptainer_freshness.actions.sif_signatures import SifFile
from snakemake_apptainer_freshness.engine.policy_check import PolicyCheck
from snakemake_apptainer_freshness.errors import InvalidPolicy, PolicyViolated
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.settings import Mode, Options
from snakemake_apptainer_freshness.store import descriptions
from tests.support import pins

TOOL, OTHER = f"docker://{pins.REPOSITORY}:1.0", "docker://ghcr.io/team/other:latest"
ALLOW = {"registries": {"allow": ["quay.io"]}}
WARN = {"tags": {"refuse": ["latest"], "level": "warn"}}


def no_registry():
    pytest.fail("a registry was asked")


def check_of(policy, tmp_path, *files, mode=Mode.LOCK):
    return PolicyCheck(
        Options(mode=mode, policy=policy),
        files,
        folder=tmp_path,
        place=lambda reference: f"rule of {reference}, line 7",
        registry=no_registry,
        dryrun=False,
        sees_images=True,
    )


def pinned(*entries, unpinnable=None):
    return Pins(
        options=Options(),
        lock=Lock(),
        lockfile="containers.lock",
        platform=Platform.parse("linux/amd64"),
        registries=no_registry,
        entries={entry.reference.text: entry for entry in entries},
        unpinnable=unpinnable or {},
    )


def test_without_a_policy_everything_may_run_and_nobody_is_asked(tmp_path):
    check = check_of({}, tmp_path)
    check.names([TOOL, OTHER])
    check.pins([TOOL], pinned(pins.lock_entry(TOOL)))
    check.files({TOOL: SifFile(pin=pins.pin(), fact=DiskFact(state=DiskState.ALTERED))})
    assert (check.lines(), check.signed) == ([], {})


def test_a_name_that_is_forbidden_stops_the_run_with_its_rule(tmp_path):
    with pytest.raises(PolicyViolated, match=rf"{OTHER} \(rule of {OTHER}, line 7\)"):
        check_of(ALLOW, tmp_path).names([TOOL, OTHER])
    check_of(ALLOW, tmp_path).names([TOOL])


def test_a_warning_is_told_once_with_its_rule_and_where_it_is_written(tmp_path):
    check = check_of(WARN, tmp_path)
    check.names([TOOL, OTHER])
    [line] = check.lines()
    assert line.problem
    assert line.text.startswith(f"  policy: {OTHER} (rule of {OTHER}, line 7): ")
    assert check.lines() == []


def test_the_sites_policy_holds_beside_the_workflows(tmp_path):
    site = tmp_path / "apptainer-freshness.toml"
    site.write_text('[policy.registries]\nallow = ["quay.io"]\n')
    with pytest.raises(PolicyViolated):
        check_of(WARN, tmp_path, site).names([OTHER])


def test_the_sites_policy_holds_where_the_workflow_has_none(tmp_path):
    site = tmp_path / "apptainer-freshness.toml"
    site.write_text('[policy.registries]\nallow = ["quay.io"]\n')
    with pytest.raises(PolicyViolated):
        check_of({}, tmp_path, site).names([OTHER])


def test_a_policy_that_is_wrong_is_refused_before_any_reference_is_met(tmp_path):
    with pytest.raises(InvalidPolicy, match="did you mean 'registries'"):
        check_of({"registry": {}}, tmp_path)


def test_what_a_pin_lacks_stops_the_run(tmp_path):
    wants = {"platforms": {"require": ["linux/amd64", "linux/arm64"]}}
    entry = pins.lock_entry(TOOL, platforms={"linux/amd64": pins.MANIFEST})
    descriptions.keep_platforms(entry.digest, [Platform.parse("linux/amd64")])
    with pytest.raises(PolicyViolated, match="linux/arm64"):
        check_of(wants, tmp_path).pins([TOOL], pinned(entry))


def test_what_has_no_digest_is_held_to_the_policy_too(tmp_path):
    known = pinned(unpinnable={"shub://a/b": "its source has no digest"})
    with pytest.raises(PolicyViolated, match="shub://a/b"):
        check_of({"sources": {"refuse": ["unpinnable"]}}, tmp_path).pins(["shub://a/b"], known)


def test_only_what_was_met_is_judged(tmp_path):
    wants = {"platforms": {"require": ["linux/s390x"]}}
    check_of(wants, tmp_path, mode=Mode.LOCKED).pins([], pinned(pins.lock_entry(TOOL)))


def test_in_mode_frozen_a_rule_of_signatures_asks_nobody_and_refuses(tmp_path):
    (tmp_path / "cosign.pub").write_bytes(b"")
    wants = {"signed_by": {"images": {"quay.io": {"fingerprint": "A" * 40}}}}
    with pytest.raises(PolicyViolated, match=TOOL):
        check_of(wants, tmp_path, mode=Mode.FROZEN).pins([TOOL], pinned(pins.lock_entry(TOOL)))
