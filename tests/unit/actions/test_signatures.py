"""Signatures beside images: whose count, of which digest, and what is remembered."""

from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.actions.signatures import Held, check_signatures, demands_of
from snakemake_apptainer_freshness.errors import ConnectionFailed
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.policy import parse_policy
from snakemake_apptainer_freshness.registry.referrers import FoundSignatures
from snakemake_apptainer_freshness.settings import PinKind
from snakemake_apptainer_freshness.store import facts
from snakemake_apptainer_freshness.store import kept_signatures as remembered
from tests.support.pins import DIGEST, MANIFEST, OTHER, REPOSITORY, lock_entry
from tests.support.signatures import Key

REFERENCE = f"docker://{REPOSITORY}:1.0"
ENTRY = lock_entry(REFERENCE, DIGEST, {"linux/amd64": MANIFEST})
KEY, STRANGER = Key(), Key()
HERE = Platform.parse("linux/amd64")
BY_INDEX, BY_PLATFORM = (Held(kind=kind, platform=HERE) for kind in (PinKind.INDEX, PinKind.PLATFORM))


@pytest.fixture
def policy():
    """Images of ``quay.io/team`` have to be signed by KEY."""
    found = parse_policy({"signed_by": {"images": {"quay.io/team/*": {"key": "lab.pub"}}}}, source="site")
    [demand] = found.signed_by
    signers = tuple(replace(signer, material=KEY.pem) for signer in demand.signers)
    return replace(found, signed_by=(replace(demand, signers=signers),))


class Registry:
    """Has `beside` as the signatures of each image that it is asked for."""

    def __init__(self, *beside, error=None):
        self.beside, self.error, self.asked = beside, error, []

    def signatures(self, images):
        for image in images:
            self.asked.append(image[1])
            yield image, self.error or FoundSignatures(signatures=self.beside, problems=())


def check(policy, registry=None, *, entry=ENTRY, held=BY_INDEX, remember=True):
    ask = None if registry is None else lambda: registry
    return check_signatures([policy], {REFERENCE: entry}, held, ask=ask, remember=remember, sees_files=True)


def test_an_image_that_the_named_key_signed_is_signed(policy):
    registry = Registry(KEY.simple(str(DIGEST), REPOSITORY))
    found = check(policy, registry)
    assert found.violations == ()
    assert [signed.digest for signed in found.signed[REFERENCE]] == [DIGEST]
    assert registry.asked == [DIGEST]


def test_a_good_signature_is_remembered_and_nobody_is_asked_again(policy):
    check(policy, Registry(KEY.simple(str(DIGEST), REPOSITORY)))
    registry = Registry()
    assert check(policy, registry).violations == ()
    assert registry.asked == []
    assert check(policy).violations == ()


def test_nothing_is_remembered_where_that_is_not_wanted_or_it_is_no_good(policy):
    check(policy, Registry(KEY.simple(str(DIGEST), REPOSITORY)), remember=False)
    check(policy, Registry(STRANGER.simple(str(DIGEST), REPOSITORY)))
    assert list(remembered.known(DIGEST)) == []


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ((), "no signature of"),
        ((STRANGER.simple(str(DIGEST), REPOSITORY),), "none of the 1 signatures of"),
        ((KEY.simple(str(OTHER), REPOSITORY),), "none of the 1 signatures of"),
        ((KEY.simple(str(DIGEST), "quay.io/team/other"),), "none of the 1 signatures of"),
    ],
)
def test_silence_a_stranger_another_digest_or_another_repository_is_no_consent(policy, beside, said):
    [violation] = check(policy, Registry(*beside)).violations
    assert violation.text.startswith(said)
    assert (violation.reference, violation.source) == (REFERENCE, "site")


def test_a_registry_that_fails_is_told_as_the_reason(policy):
    [violation] = check(policy, Registry(error=ConnectionFailed("no connection"))).violations
    assert violation.text.endswith(": no connection")


def test_without_a_registry_what_is_not_remembered_is_not_signed(policy):
    [violation] = check(policy).violations
    assert "is remembered, no registry is asked" in violation.text


def test_what_cannot_be_pinned_cannot_be_signed(policy):
    [violation] = check(policy, entry=None).violations
    assert "it cannot be pinned: a signature is about a digest" in violation.text


def test_a_signature_of_the_index_counts_for_its_manifest_only_where_that_was_seen(policy):
    registry = Registry(KEY.simple(str(DIGEST), REPOSITORY))
    assert BY_PLATFORM.digests(ENTRY) == (MANIFEST,)
    assert len(check(policy, registry, held=BY_PLATFORM).violations) == 1
    facts.keep_index(DIGEST, {HERE: MANIFEST})
    assert BY_PLATFORM.digests(ENTRY) == (MANIFEST, DIGEST)
    assert check(policy, registry, held=BY_PLATFORM).violations == ()


def test_an_image_that_no_pattern_names_is_held_to_nothing(policy):
    assert list(demands_of([policy], "docker://quay.io/other/tool:1")) == []
    assert len(list(demands_of([policy], REFERENCE))) == 1
