"""Which references rules and jobs name, and that rules give pinned ones afterwards."""

from types import SimpleNamespace

import pytest

from snakemake_apptainer_freshness.engine.directives import (
    Rewriting,
    container_of,
    directive_of,
    job_references,
    static_references,
)
from snakemake_apptainer_freshness.errors import FreshnessError

TAG = "docker://quay.io/team/tool:1.0"


class Rule:
    """A rule as Snakemake 9.5 and later have it."""

    def __init__(self, image, name="a"):
        self.name, self.container_img = name, image

    def expand_container_img(self, wildcards):
        image = self.container_img
        if callable(image):
            return image(wildcards)
        return image.format(**wildcards) if image else image


class OldRule:
    """A rule as Snakemake before 9.5 has it: a job runs what the rule says."""

    def __init__(self, image, name="a"):
        self.name, self.container_img = name, image


def job(rule, **wildcards):
    return SimpleNamespace(rule=rule, wildcards_dict=wildcards)


def rewriting(*rules, pin=lambda text: f"pinned {text}"):
    return Rewriting(rules, pin=pin, fail=lambda error, rule: RuntimeError(f"{rule.name}: {error}"))


def test_only_a_text_without_wildcards_is_read_off_a_rule():
    rules = [Rule(TAG), Rule(None), Rule(""), Rule("docker://x/{v}"), Rule(lambda _: TAG)]
    assert list(static_references(rules)) == [(TAG, rules[0])]


def test_wildcards_and_functions_are_expanded_for_each_job():
    template, function = Rule("docker://x/tool:{v}"), Rule(lambda wildcards: f"docker://y/tool:{wildcards['v']}")
    jobs = [job(template, v="1"), job(function, v="2"), job(Rule(TAG)), job(Rule(None))]
    named = job_references(jobs, lambda rule, wildcards: rule.expand_container_img(wildcards))
    assert [text for text, _ in named] == ["docker://x/tool:1", "docker://y/tool:2", TAG]


@pytest.mark.parametrize("kind", [Rule, OldRule])
def test_a_rewritten_rule_gives_the_pinned_reference_and_remembers_its_own(kind):
    rule = kind(TAG)
    made = rewriting(rule)
    given = rule.expand_container_img({}) if kind is Rule else rule.container_img
    assert given == f"pinned {TAG}"
    assert made.original(rule, {}) == TAG
    assert directive_of(rule) == TAG
    assert container_of(rule, {}) == TAG


def test_no_other_rule_of_the_class_is_touched():
    mine, other = Rule(TAG), Rule(TAG, name="other")
    rewriting(mine)
    assert other.expand_container_img({}) == TAG


def test_a_function_is_pinned_by_what_it_gives():
    rule = Rule(lambda wildcards: wildcards["image"])
    rewriting(rule)
    assert rule.expand_container_img({"image": TAG}) == f"pinned {TAG}"
    assert rule.expand_container_img({"image": None}) is None


def refuse(_):
    raise FreshnessError("cannot be pinned")


def test_what_cannot_be_pinned_is_an_error_where_a_job_asks():
    rule = Rule(TAG)
    rewriting(rule, pin=refuse)
    with pytest.raises(RuntimeError, match="a: cannot be pinned"):
        rule.expand_container_img({})


def test_an_old_rule_that_cannot_be_pinned_keeps_what_it_says():
    rule = OldRule(TAG)
    rewriting(rule, pin=refuse)
    assert rule.container_img == TAG


def test_an_old_rule_with_wildcards_is_left_alone():
    rule = OldRule("docker://x/{v}")
    rewriting(rule)
    assert rule.container_img == "docker://x/{v}"
