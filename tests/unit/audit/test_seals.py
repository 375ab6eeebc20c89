"""Which records a seal vouches for: its own, and those that its chain leads to."""

import pytest

from snakemake_apptainer_freshness.audit.seals import seals, to_seal
from snakemake_apptainer_freshness.record.run import Ending
from snakemake_apptainer_freshness.record.seal import Seal, SealState
from tests.support import audits

ONE, TWO, THREE = (audits.run(number) for number in (1, 2, 3))
BESIDE = audits.run(4, previous=TWO.sha256)
"""A run that began while the third one went on."""


def looked_at(runs, sealed, *, is_checked=True):
    """What is said of `runs` where `sealed` has the states of their seals; and which seals were looked at."""
    asked = []

    def check(run):
        asked.append(run.id)
        state = sealed.get(run.id)
        return Seal(run=run.id, state=state, signer="ada", key="ED25519 key x") if state else None

    return seals("/work", runs, check, is_checked=is_checked), asked


def test_a_good_seal_vouches_for_all_that_its_chain_leads_to_and_no_older_one_is_looked_at():
    found, asked = looked_at([ONE, TWO, THREE], {THREE.id: SealState.GOOD, ONE.id: SealState.BROKEN})

    assert (found.vouched, found.open, asked) == ((ONE.id, TWO.id, THREE.id), (), [THREE.id])


def test_a_run_beside_the_sealed_one_is_open_until_it_is_sealed_itself():
    found, _ = looked_at([ONE, TWO, THREE, BESIDE], {THREE.id: SealState.GOOD})

    assert found.open == (BESIDE.id,)
    assert found.text.endswith("; 1 other than that and those before it are vouched for by nothing")


@pytest.mark.parametrize("state", [SealState.UNCHECKED, SealState.STRANGER, SealState.BROKEN])
def test_no_other_seal_vouches_for_anything(state):
    found, _ = looked_at([ONE, TWO], {TWO.id: state})

    assert (found.vouched, found.open) == ((), (ONE.id, TWO.id))


def test_an_older_good_seal_counts_behind_a_newer_bad_one():
    found, _ = looked_at([ONE, TWO, THREE], {THREE.id: SealState.STRANGER, TWO.id: SealState.GOOD})

    assert (found.vouched, found.open) == ((ONE.id, TWO.id), (THREE.id,))


def test_a_run_that_goes_on_is_not_missed():
    goes_on = audits.run(3, ending=Ending.RUNNING)
    found, _ = looked_at([ONE, TWO, goes_on], {TWO.id: SealState.GOOD})

    assert found.open == ()


def test_a_chain_that_leads_in_a_circle_ends():
    circle = [audits.run(1, previous=TWO.sha256), TWO]
    found, _ = looked_at(circle, {TWO.id: SealState.GOOD})

    assert set(found.vouched) == {ONE.id, TWO.id}


def test_what_no_other_record_names_is_to_be_sealed():
    assert to_seal([ONE, TWO, THREE, BESIDE]) == [THREE, BESIDE]


def test_a_run_that_goes_on_is_not_to_be_sealed_unless_it_is_the_only_one():
    goes_on = audits.run(4, previous=TWO.sha256, ending=Ending.RUNNING)

    assert to_seal([ONE, TWO, THREE, goes_on]) == [THREE]
    assert to_seal([goes_on]) == [goes_on]


@pytest.mark.parametrize(
    ("sealed", "text"),
    [
        ({}, "the newest record is vouched for by nothing: seal it with --seal"),
        ({TWO.id: SealState.UNCHECKED}, "is signed by ada (ED25519 key x): --allowed-signers FILE says whether"),
        ({TWO.id: SealState.GOOD}, f"the record of run {TWO.id} is sealed by ada (ED25519 key x)"),
    ],
)
def test_one_sentence_says_what_vouches_for_the_newest_record(sealed, text):
    assert text in looked_at([ONE, TWO], sealed)[0].text
