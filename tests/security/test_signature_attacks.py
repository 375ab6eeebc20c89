"""Each attack on ``signed_by`` fails, and each verification is what stops its attack: without it the attack succeeds.

A mutation says which attack it lets through, and what is replaced by what. The last test keeps the table complete.
"""

import base64
import json

import pytest

from snakemake_apptainer_freshness.actions import signatures as actions
from tests.support.attacks import attacks_of, signatures
from tests.support.lab import QUICK, Lab
from tests.support.mutations import LabMutation, anything, yes

ATTACKS = attacks_of(signatures)
SMALL = QUICK._replace(**signatures.SMALL, answer_timeout=9, read_timeout=5, run_budget=9)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_it_fails(attack, tmp_path):
    with Lab(tmp_path, SMALL) as lab:
        assert not attack(lab)


def test_the_honest_image_passes(tmp_path):
    with Lab(tmp_path, SMALL) as lab:
        there = signatures.site(lab)
        digest = there.image()
        there.put(digest, there.key.simple(digest, there.name), there.sigstore.bundle(digest))
        assert there.passes(digest)
        assert there.passes(digest, signer=signatures.BY_IDENTITY)
        assert there.passes(digest, online=False)


def believes_the_bundle(_signer, bundle):
    return base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"])


def believes_the_lock(self, entry):
    return entry.digest, *entry.platforms.values()


def reads_whatever_lies_there(path, _limit):
    return path.read_bytes() if path.exists() else None


_judged = actions._judged


def takes_silence_for_consent(one):
    return _judged(one) if one.signatures else ((), [])


def takes_hosts_as_they_are_written(reference):
    return f"{reference.host}/{reference.repository}"


def keeps_all_of_it(self, piece):
    self.content += piece


class AnyPredicate:
    def __eq__(self, other):
        return True

    __hash__ = None


NO_DIGEST = {"image.signature.SignedClaim.is_about": yes}
NO_KEY = {"policy.verification._check_by_key": anything}
NO_SIGSTORE = {"policy.verification._statement_by_identity": believes_the_bundle}

MUTATIONS = [
    LabMutation(attack="signature_of_another_digest", replaced=NO_DIGEST),
    LabMutation(attack="bundle_of_another_digest_by_the_identity", replaced=NO_DIGEST),
    LabMutation(attack="payload_that_names_another_repository", replaced=NO_DIGEST),
    LabMutation(attack="remembered_signature_of_another_digest", replaced=NO_DIGEST),
    LabMutation(attack="signature_by_another_key", replaced=NO_KEY),
    LabMutation(attack="payload_that_was_changed_after_it_was_signed", replaced=NO_KEY),
    LabMutation(attack="mirror_that_brings_its_own_signature", replaced=NO_KEY),
    LabMutation(attack="remembered_signature_by_a_key_that_was_replaced", replaced=NO_KEY),
    LabMutation(attack="statement_that_was_changed_after_it_was_signed", replaced=NO_SIGSTORE),
    LabMutation(attack="certificate_of_another_identity", replaced=NO_SIGSTORE),
    LabMutation(attack="same_identity_at_another_issuer", replaced=NO_SIGSTORE),
    LabMutation(attack="certificate_that_was_over_when_it_signed", replaced=NO_SIGSTORE),
    LabMutation(attack="certificate_of_another_sigstore", replaced=NO_SIGSTORE),
    LabMutation(
        attack="attestation_in_place_of_a_signature", replaced={"image.signature.SIGN_PREDICATE": AnyPredicate()}
    ),
    LabMutation(
        attack="mirror_that_has_an_image_which_nobody_signed",
        replaced={"actions.signatures._judged": takes_silence_for_consent},
    ),
    LabMutation(
        attack="index_that_is_signed_and_a_lock_that_names_another_platforms_manifest",
        replaced={"actions.signatures.Held.digests": believes_the_lock},
    ),
    LabMutation(
        attack="signature_inside_that_the_program_calls_bad",
        replaced={"apptainer.signers._is_good": yes},
    ),
    LabMutation(
        attack="file_that_another_key_of_the_keyring_signed_inside",
        replaced={"actions.sif_signatures._is_by": yes},
    ),
    LabMutation(attack="endless_list_of_what_refers_to_an_image", limits={"referrer_pages": 40, "signatures": 1000}),
    LabMutation(attack="enormous_signature", limits={"signature_size": 1 << 30}),
    LabMutation(
        attack="signature_that_is_longer_than_it_says",
        replaced={"image.blobs.Bounded.__call__": keeps_all_of_it, "image.digest.Digest.matches": yes},
    ),
    LabMutation(
        attack="other_spelling_of_the_host",
        replaced={"actions.signatures.repository_of": takes_hosts_as_they_are_written},
    ),
    LabMutation(
        attack="note_of_a_signature_in_a_folder_that_others_can_write",
        replaced={"store.state.read": reads_whatever_lies_there},
    ),
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.attack for mutation in MUTATIONS])
def test_without_its_verification_it_succeeds(mutation, tmp_path):
    with Lab(tmp_path, SMALL._replace(**mutation.limits)) as lab, mutation.applied():
        assert ATTACKS[mutation.attack](lab)


def test_every_attack_has_its_verification():
    assert {mutation.attack for mutation in MUTATIONS} == set(ATTACKS)
