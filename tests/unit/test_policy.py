"""A policy says what may be named, and nothing that is wrong in it goes unnoticed."""

from dataclasses import replace
from datetime import date

import pytest

from snakemake_apptainer_freshness import policy
from snakemake_apptainer_freshness.errors import InvalidPolicy
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.policy import Rule, parse_policy
from snakemake_apptainer_freshness.policy.schema import Level
from tests.support.pins import lock_entry

TODAY = date(2026, 6, 1)
DIGEST = "sha256:" + "a" * 64
SALMON = "docker://quay.io/biocontainers/salmon:1.10.2"
ENTRY = lock_entry(
    reference=SALMON,
    digest=DIGEST,
    media_type="application/vnd.oci.image.index.v1+json",
    platforms={"linux/amd64": "sha256:" + "b" * 64, "linux/arm64/v8": "sha256:" + "c" * 64},
    hints={"created": "2026-05-31"},
)


OFFERED = frozenset(map(Platform.parse, ("linux/amd64", "linux/arm64/v8")))


def violations(rules, reference=SALMON, entry=ENTRY, made=date(2026, 1, 1), offered=OFFERED):
    parsed = parse_policy(rules, source="test")
    named = policy.check_name(parsed, reference)
    return [*named, *policy.check_pin(parsed, reference, entry, today=TODAY, made=made, offered=offered)]


def rules_broken(rules, reference=SALMON, entry=ENTRY):
    return [violation.rule for violation in violations(rules, reference, entry)]


def test_an_empty_policy_allows_everything():
    assert violations({}) == []


@pytest.mark.parametrize(
    ("rules", "reference", "broken"),
    [
        ({"registries": {"allow": ["quay.io"]}}, SALMON, []),
        ({"registries": {"allow": ["*.io"]}}, SALMON, []),
        ({"registries": {"allow": ["ghcr.io"]}}, SALMON, [Rule.REGISTRIES]),
        ({"registries": {"allow": ["quay.io"]}}, "docker://busybox", [Rule.REGISTRIES]),
        ({"registries": {"allow": ["docker.io"]}}, "docker://busybox", []),
        ({"registries": {"allow": ["quay.io"]}}, "docker://quay.io.evil.example/x/y:1", [Rule.REGISTRIES]),
        ({"registries": {"allow": ["quay.io"]}}, "https://evil.example/x.sif", [Rule.REGISTRIES]),
        ({"registries": {"allow": ["quay.io"]}}, "images/x.sif", []),
        ({"repositories": {"allow": ["quay.io/biocontainers/*"]}}, SALMON, []),
        ({"repositories": {"allow": ["quay.io/biocontainers/*"]}}, "docker://quay.io/other/x:1", [Rule.REPOSITORIES]),
        ({"tags": {"refuse": ["latest"]}}, SALMON, []),
        ({"tags": {"refuse": ["latest"]}}, "docker://quay.io/a/b", [Rule.TAGS]),
        ({"tags": {"refuse": ["1.*"]}}, SALMON, [Rule.TAGS]),
        ({"tags": {"required": True}}, "docker://quay.io:443/a/b", [Rule.TAGS]),
        ({"tags": {"required": True}}, "docker://quay.io:443/a/b:1", []),
        ({"tags": {"required": True}}, f"docker://quay.io/a/b@{DIGEST}", []),
        ({"sources": {"refuse": ["http"]}}, "http://example.org/x.sif", [Rule.SOURCES]),
        ({"sources": {"refuse": ["http"]}}, "https://example.org/x.sif", []),
        ({"platforms": {"require": ["linux/amd64", "linux/arm64"]}}, SALMON, []),
        ({"platforms": {"require": ["linux/arm64/v8"]}}, SALMON, []),
        ({"platforms": {"require": ["linux/arm64/v9"]}}, SALMON, [Rule.PLATFORMS]),
        ({"platforms": {"require": ["linux/amd64", "linux/s390x"]}}, SALMON, [Rule.PLATFORMS]),
        ({"age": {"at_most": 151}}, SALMON, []),
        ({"age": {"at_most": 150}}, SALMON, [Rule.AGE]),
    ],
)
def test_each_rule_is_about_what_it_names(rules, reference, broken):
    assert rules_broken(rules, reference) == broken


def test_what_has_no_pin_is_refused_where_unpinnable_sources_are():
    rules = {"sources": {"refuse": ["unpinnable"]}}
    assert rules_broken(rules, "shub://vsoch/hello-world", None) == [Rule.SOURCES]
    assert rules_broken(rules) == []


def test_what_nobody_knows_is_no_consent():
    found = violations({"platforms": {"require": ["linux/amd64"]}}, offered=None)
    assert "not proven" in found[0].text


def test_what_the_lock_says_of_platforms_is_no_consent():
    [found] = violations(
        {"platforms": {"require": ["linux/arm64"]}}, offered=frozenset({Platform.parse("linux/amd64")})
    )
    assert found.text == "it has no image for linux/arm64; it has linux/amd64"
    bare = replace(ENTRY, platforms={})
    assert violations({"platforms": {"require": ["linux/arm64"]}}, entry=bare) == []


def test_an_index_without_images_has_none():
    [found] = violations({"platforms": {"require": ["linux/arm64"]}}, offered=frozenset())
    assert found.text == "it has no image for linux/arm64; it has none"


def test_what_the_lock_says_of_an_age_is_no_consent():
    assert "not proven" in violations({"age": {"at_most": 10_000}}, made=None)[0].text


def test_a_violation_has_the_level_of_its_rule_and_says_where_that_is_written():
    found = violations({"tags": {"refuse": ["1.*"], "level": "warn"}, "registries": {"allow": ["ghcr.io"]}})
    assert {one.rule: one.level for one in found} == {Rule.TAGS: Level.WARN, Rule.REGISTRIES: Level.ERROR}
    assert {one.source for one in found} == {"test"}


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ({"registry": {"allow": ["quay.io"]}}, "did you mean 'registries'"),
        ({"registries": {"allowed": ["quay.io"]}}, "did you mean 'allow'"),
        ({"registries": ["quay.io"]}, "policy.registries must be a table"),
        ({"registries": {"allow": []}}, "a list of one text or more"),
        ({"registries": {"allow": "quay.io"}}, "a list of one text or more"),
        ({"registries": {"allow": ["a\nb"]}}, "no short printable text"),
        ({"registries": {"allow": ["quay.io"], "level": "fatal"}}, "level cannot be 'fatal'"),
        ({"tags": {}}, "needs refuse"),
        ({"tags": {"required": "yes"}}, "must be true or false"),
        ({"sources": {"refuse": ["htttp"]}}, "did you mean 'http'"),
        ({"platforms": {"require": ["amd64"]}}, "'amd64' is not a platform"),
        ({"age": {"at_most": True}}, "must be a number of days"),
        ({"age": {"at_most": 0}}, "must be a number of days"),
        ([], "policy must be a table"),
    ],
)
def test_what_is_wrong_in_a_policy_is_named(rules, named):
    with pytest.raises(InvalidPolicy) as raised:
        parse_policy(rules, source="config.yaml")
    assert named in raised.value.message
    assert raised.value.message.startswith("config.yaml: ")


@pytest.mark.parametrize(
    "rules",
    [
        {"registries": {"allow": ["quay.io"]}, "repositories": {"allow": ["ghcr.io/team/*"]}},
        {"tags": {"refuse": ["*"], "required": True}},
        {"registries": {"allow": ["quay.io"]}, "sources": {"refuse": ["docker", "oras", "library"]}},
    ],
)
def test_a_policy_that_contradicts_itself_is_refused(rules):
    with pytest.raises(InvalidPolicy, match="contradicts itself"):
        parse_policy(rules, source="config.yaml")


def test_a_sites_file_holds_one_policy():
    found = policy.load_site_policy('[policy.tags]\nrefuse = ["latest"]\n')
    assert found is not None
    assert found.tags == ("latest",)
    assert policy.load_site_policy("") is None


@pytest.mark.parametrize("text", ["[policy", "[other]\n", "policy = 1\n", "a = " + "[" * 5000])
def test_a_sites_file_that_is_wrong_is_named(text):
    with pytest.raises(InvalidPolicy, match=r"apptainer-freshness\.toml"):
        policy.load_site_policy(text)
