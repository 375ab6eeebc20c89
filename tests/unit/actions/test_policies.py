"""The policies of a workflow and of its site, asked in the right order."""

import os
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.labels import Details
from snakemake_apptainer_freshness.actions.policies import Policies, refuse
from snakemake_apptainer_freshness.errors import InvalidPolicy, PolicyViolated, UsageError
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.policy import Rule, Violation
from snakemake_apptainer_freshness.policy.schema import Level
from snakemake_apptainer_freshness.settings import Options
from snakemake_apptainer_freshness.store import descriptions
from tests.support.pins import DIGEST, lock_entry

QUAY, HUB = "docker://quay.io/team/tool:1.0", "docker://alpine:3"
ENTRY = lock_entry(QUAY)
AGE = {"age": {"at_most": 730}}
AMD = Platform.parse("linux/amd64")


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text('[policy.registries]\nallow = ["quay.io"]\n')
    return path


def of(policy=None, *files):
    return Policies.of(Options(policy=policy or {}), files)


def test_without_a_policy_everything_is_allowed():
    policies = of()
    assert not policies
    assert policies.of_names([HUB]) == []
    assert policies.of_pins({HUB: None}, {}, {}) == []


def test_the_sites_policy_holds_beside_the_workflows(site):
    policies = of({"registries": {"allow": ["docker.io", "quay.io"]}}, site)
    assert {one.source for one in policies.of_names([HUB])} == {str(site)}
    assert policies.of_names([QUAY]) == []


SIGNED = {"signed_by": {"images": {"quay.io": {"key": "cosign.pub"}}}}


@pytest.mark.parametrize(
    ("put", "why"),
    [
        (Path, "No such file"),
        (lambda path: path.write_bytes(b"no key"), "no public key in PEM"),
        (lambda path: path.write_bytes(b"#" * (1024 * 1024 + 1)), "larger than"),
        (os.mkfifo, "FIFO"),
        (lambda path: path.symlink_to("/dev/zero"), "device"),
    ],
)
def test_a_key_that_cannot_be_used_is_named(tmp_path, put, why):
    put(tmp_path / "cosign.pub")
    with pytest.raises(InvalidPolicy, match=why):
        Policies.of(Options(policy=SIGNED), (), folder=tmp_path)


def test_without_the_extra_a_policy_that_wants_signatures_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)  # as where it is not installed
    with pytest.raises(UsageError, match="not installed") as error:
        Policies.of(Options(policy=SIGNED), (), folder=tmp_path)
    assert "[signatures]" in error.value.hint


def test_fingerprints_need_no_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert of({"signed_by": {"images": {"library": {"fingerprint": "A" * 40}}}}).want_signed_files


def test_what_is_no_reference_is_left_to_the_pinning(site):
    assert of(None, site).of_names(["docker://UPPER:CASE:1"]) == []


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"\xff", "not UTF-8"), (b"[policy]\ncolour = 1\n", "colour"), (b"#" * (1024 * 1024 + 1), "larger than")],
)
def test_a_sites_file_that_is_not_sound_is_named(site, content, why):
    site.write_bytes(content)
    with pytest.raises(InvalidPolicy, match=why) as error:
        of(None, site)
    assert str(site) in str(error.value)


def test_configurations_are_asked_for_only_where_a_rule_needs_them():
    assert of({"registries": {"allow": ["quay.io"]}}).informed([ENTRY], lambda _: pytest.fail("no rule needs it")) == []


def test_what_a_configuration_says_becomes_a_hint():
    made = "2026-01-02T03:04:05Z"
    [entry] = of(AGE).informed([ENTRY], lambda _: {QUAY: Details(created=made, platform=AMD)})
    assert entry.hints == {"created": "2026-01-02"}
    assert entry.platforms == {AMD: DIGEST}


def test_an_answer_that_did_not_come_changes_nothing():
    assert of(AGE).informed([ENTRY], lambda _: {}) == []


def test_an_image_that_is_too_old_is_a_violation():
    [violation] = of(AGE).of_pins({QUAY: ENTRY}, {QUAY: date(2001, 1, 1)}, {})
    assert violation.reference == QUAY
    assert of(AGE).of_pins({QUAY: ENTRY}, {QUAY: datetime.now(UTC).date()}, {}) == []


def days_of(entry, ask):
    """What is proven of when the image of `entry` was made, where `ask` says what its configuration has."""
    return of(AGE).days({QUAY: entry}, ask, platform=AMD)


def test_when_an_image_was_made_its_configuration_says_and_not_the_lock():
    forged = lock_entry(QUAY, hints={"created": "2026-01-01"})
    assert days_of(forged, lambda _: {QUAY: Details(created="2001-02-03T04:05:06Z")}) == {QUAY: date(2001, 2, 3)}


@pytest.mark.parametrize("told", [{}, {QUAY: Details()}, {QUAY: Details(created="2001-13-01T00:00:00Z")}])
def test_where_no_configuration_says_it_no_lock_does(told):
    forged = lock_entry(QUAY, hints={"created": "2026-01-01"})
    assert days_of(forged, lambda _: told) == {}


def test_what_was_proven_once_is_not_asked_for_again():
    descriptions.keep_day(ENTRY.digest, AMD, "2001-02-03")
    assert days_of(ENTRY, lambda _: pytest.fail("it is known")) == {QUAY: date(2001, 2, 3)}


def test_platforms_are_asked_for_only_where_a_rule_needs_them_and_only_of_registries():
    library = lock_entry("library://me/tool:1", media_type="application/x-sif")
    asked = []

    def ask(entries):
        asked.extend(entry.reference.text for entry in entries)
        return {QUAY: frozenset({AMD})}

    wanted = {"platforms": {"require": ["linux/amd64"]}}
    pins = {QUAY: ENTRY, HUB: None, library.reference.text: library}
    assert of(AGE).offered(pins, lambda _: pytest.fail("no rule needs it")) == {}
    assert of(wanted).offered({HUB: None}, lambda _: pytest.fail("nothing is pinned")) == {}
    assert of(wanted).offered(pins, ask) == {QUAY: {AMD}}
    assert asked == [QUAY]
    assert of(wanted).of_pins(pins, {}, {QUAY: frozenset({AMD})}) == []


def test_no_rule_about_ages_asks_nothing():
    assert of({}).days({QUAY: ENTRY}, lambda _: pytest.fail("no rule needs it"), platform=AMD) == {}


def test_all_violations_are_refused_at_once_and_warnings_are_not():
    def violation(text, level):
        return Violation(rule=Rule.AGE, reference=text, text="it may not", source="site", level=level)

    refuse([violation(HUB, Level.WARN)])
    with pytest.raises(PolicyViolated) as error:
        refuse([violation(HUB, Level.ERROR), violation(QUAY, Level.ERROR)], place=lambda text: f"rule of {text}")
    assert f"rule of {HUB}: it may not (site)" in str(error.value)
    assert QUAY in str(error.value)
