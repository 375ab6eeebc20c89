"""What ``status`` says of policies and of signatures, for a person and for a program."""

import pytest

from snakemake_apptainer_freshness.cli.status_policies import PolicyAnswers, ask_policies
from snakemake_apptainer_freshness.errors import Denied
from snakemake_apptainer_freshness.freshness import RemoteState
from snakemake_apptainer_freshness.lockfile import Lock
from snakemake_apptainer_freshness.policy.verification import Signed
from snakemake_apptainer_freshness.registry import resolver
from snakemake_apptainer_freshness.registry.referrers import FoundSignatures
from tests.support import pins
from tests.support.pins import lock_entry
from tests.support.signatures import Key

TOOL = "docker://quay.io/team/tool:1.0"
SIGNED = Signed(digest=pins.DIGEST, by="key sha256:55", signature="7" * 64)


@pytest.fixture
def world(monkeypatch):
    """Registries in which each tag is still where it was."""

    def check(_self, entries):
        yield from ((entry, pins.remote_fact(RemoteState.CURRENT)) for entry in entries)

    monkeypatch.setattr(resolver.Resolver, "check", check)


def asked(place, entry, **changes):
    options = {"offline": True, "look": False, **changes}
    return ask_policies(Lock.of([entry]), place.folder / "containers.lock", None, [], **options)


def test_without_a_policy_nothing_is_printed_and_no_registry_asked(place, no_registry):
    answers = asked(place, lock_entry(TOOL), offline=False)
    assert (answers.violations, answers.signed, answers.beside) == ([], {}, {})
    assert answers.signature_lines(TOOL) == []
    assert answers.as_json(TOOL) == {"signed": [], "beside": None, "problem": []}


def test_the_sites_policy_is_held_against_every_name_of_the_lock_offline_too(place, no_registry):
    (place.folder / "apptainer-freshness.toml").write_text('[policy.registries]\nallow = ["ghcr.io"]\n')
    [violation] = asked(place, lock_entry(TOOL)).violations
    assert (violation.reference, violation.rule, violation.level) == (TOOL, "registries", "error")


def test_offline_no_signature_is_looked_for(place, no_registry):
    assert asked(place, lock_entry(TOOL), look=True).beside == {}


def test_signatures_of_what_lies_in_no_registry_are_not_looked_for(place, monkeypatch):
    wanted = []
    monkeypatch.setattr(resolver.Resolver, "signatures", lambda _, images: iter(wanted.extend(images) or ()))
    assert asked(place, lock_entry("https://example.org/tool.sif"), offline=False, look=True).beside == {}
    assert wanted == []


def test_a_person_is_told_by_whom_how_many_and_what_could_not_be_used():
    found = FoundSignatures(signatures=(Key().bundle(str(pins.DIGEST)),) * 2, problems=("one cannot be read",))
    answers = PolicyAnswers(signed={TOOL: (SIGNED,)}, beside={TOOL: found})
    assert answers.signature_lines(TOOL) == ["signed by key sha256:55", "2 signatures beside it", "one cannot be read"]
    assert answers.as_json(TOOL) == {
        "signed": [{"by": "key sha256:55", "digest": str(pins.DIGEST), "signature": "7" * 64}],
        "beside": 2,
        "problem": ["one cannot be read"],
    }


def test_a_registry_that_does_not_answer_is_told_and_not_taken_for_no_signature():
    answers = PolicyAnswers(beside={TOOL: Denied("access denied\x1b[2J")})
    assert answers.signature_lines(TOOL)[0].startswith("its signatures could not be asked for: access denied")
    told = answers.as_json(TOOL)
    assert told["beside"] is None
    assert told["problem"] != []
    assert "\x1b" not in told["problem"][0]


def test_what_a_registry_wrote_moves_no_cursor_and_gives_no_secret_away():
    found = FoundSignatures(signatures=(), problems=("one is\x1b[2J no\nJSON: https://me:hunter2@host/",))
    [problem] = PolicyAnswers(beside={TOOL: found}).as_json(TOOL)["problem"]
    assert problem == "one is\N{REPLACEMENT CHARACTER}[2J no JSON: https://host/"


def test_a_signature_inside_of_a_file_has_no_name_of_its_own():
    inside = Signed(digest=pins.DIGEST, by="PGP key AA", signature="")
    assert PolicyAnswers(signed={TOOL: (inside,)}).as_json(TOOL)["signed"][0]["signature"] is None


def test_the_signatures_beside_an_image_are_counted_where_that_is_wished(place, world, monkeypatch):
    place.lock(pins.pin())
    found = FoundSignatures(signatures=(Key().bundle(str(pins.DIGEST)),), problems=("one cannot be read",))
    monkeypatch.setattr(resolver.Resolver, "signatures", lambda _, images: ((image, found) for image in images))

    assert place.run("status", "--json").json["image"][0]["signatures"]["beside"] is None
    [image] = place.run("status", "--signatures", "--json").json["image"]
    assert image["signatures"] == {"signed": [], "beside": 1, "problem": ["one cannot be read"]}
    assert "1 signature beside it" in place.run("status", "--signatures").out


def test_a_signature_that_the_site_asks_for_is_told_and_one_that_is_missing_is_a_finding(place, world, monkeypatch):
    place.lock(pins.pin())
    key, other = Key(), Key()
    (place.folder / "cosign.pub").write_bytes(key.pem)
    (place.folder / "apptainer-freshness.toml").write_text(
        '[policy.signed_by.images]\n"quay.io" = {key = "cosign.pub"}\n'
    )
    has = [other.bundle(str(pins.DIGEST))]
    monkeypatch.setattr(
        resolver.Resolver,
        "signatures",
        lambda _, images: ((image, FoundSignatures(signatures=tuple(has))) for image in images),
    )

    answer = place.run("status", "--json")
    assert answer.status == 1
    [violation] = answer.json["violation"]
    assert (violation["rule"], violation["level"]) == ("signed_by", "error")
    assert "was not made with key cosign.pub" in violation["why"]

    has.append(key.bundle(str(pins.DIGEST)))
    answer = place.run("status", "--json")
    assert answer.status == 0
    [signed] = answer.json["image"][0]["signatures"]["signed"]
    assert (signed["by"][:11], signed["digest"]) == ("key sha256:", str(pins.DIGEST))

    monkeypatch.setattr(resolver.Resolver, "signatures", lambda *_: pytest.fail("it is remembered"))
    assert place.run("status", "--offline").status == 0
    assert "signed by key sha256:" in place.run("status", "--offline").out
