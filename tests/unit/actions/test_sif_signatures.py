"""Who signed a SIF file is asked once for its SHA-256, and has to be the one whom a policy names, and no other."""

import pytest

from snakemake_apptainer_freshness.actions.sif_signatures import SifFile, check_files
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.policy import parse_policy
from snakemake_apptainer_freshness.store import kept_signatures

LAB, OTHER = "A" * 40, "B" * 40
SIF = "c" * 64
TOOL = "library://lab/tools/tool:1"


def policy(*fingerprints, level="error"):
    signers = [{"fingerprint": one} for one in fingerprints]
    return parse_policy({"signed_by": {"images": {"library/lab/*": signers}, "level": level}}, source="site")


def file(state=DiskState.VERIFIED):
    digest = Digest(algorithm="sha256", hex=SIF)
    reference = parse(TOOL)
    pin = Pin.held_to(pinned=parse(f"library://lab/tools/tool:sha256.{SIF}"), reference=reference, digest=digest)
    return SifFile(pin=pin, fact=DiskFact(state=state, path="/images/tool.simg"))


def no_program():
    pytest.fail("no program is needed")


def check(*policies, sif=None, find=no_program):
    return check_files(policies, {TOOL: sif or file()}, find=find)


def test_a_file_that_the_named_key_signed_is_signed():
    kept_signatures.keep_inside(SIF, [LAB])
    found = check(policy(LAB))
    assert found.violations == ()
    [signed] = found.signed[TOOL]
    assert (signed.by, signed.digest.hex) == (f"PGP key {LAB}", SIF)


def test_one_of_several_named_keys_is_enough_and_both_may_sign():
    kept_signatures.keep_inside(SIF, [LAB, OTHER])
    assert check(policy(LAB, OTHER)).violations == ()


def test_a_file_that_others_have_signed_too_is_refused():
    kept_signatures.keep_inside(SIF, [LAB, OTHER])
    [violation] = check(policy(LAB)).violations
    assert f"it is signed by {LAB}, {OTHER}" in violation.text


def test_every_policy_holds():
    kept_signatures.keep_inside(SIF, [LAB])
    [violation] = check(policy(LAB), policy(OTHER, level="warn")).violations
    assert violation.level == "warn"


def test_what_is_known_of_another_file_does_not_count():
    kept_signatures.keep_inside("d" * 64, [LAB])
    with pytest.raises(pytest.fail.Exception):
        check(policy(LAB))


def test_a_file_that_is_not_proven_is_not_even_looked_at():
    kept_signatures.keep_inside(SIF, [LAB])
    [violation] = check(policy(LAB), sif=file(DiskState.UNBOUND)).violations
    assert "the file is unbound, and not proven" in violation.text


def test_an_image_that_no_pattern_names_is_left_alone():
    other = parse_policy({"signed_by": {"images": {"quay.io": {"fingerprint": LAB}}}}, source="site")
    assert check(other).violations == ()
