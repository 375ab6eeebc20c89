"""Whom ``signed_by`` demands for which image, and nothing that is wrong in it goes unnoticed."""

import pytest

from snakemake_apptainer_freshness.errors import InvalidPolicy
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.policy import parse_policy
from snakemake_apptainer_freshness.policy.signed_by import files_of, repository_of

KEY = {"key": "cosign.pub"}
WHO = {"identity": "builder@lab.example", "issuer": "https://login.lab.example"}
PRINT = "0123456789ABCDEF0123456789ABCDEF01234567"


def demands(images, **more):
    return parse_policy({"signed_by": {"images": images, **more}}, source="site").signed_by


def is_about(pattern, text):
    [demand] = demands({pattern: KEY})
    return demand.is_about(repository_of(parse(text)))


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("quay.io/lab/*", "docker://quay.io/lab/tool:1"),
        ("quay.io", "docker://quay.io/other/tool:1"),
        ("*", "docker://quay.io/other/tool:1"),
        ("QUAY.io/lab/*", "docker://Quay.io/lab/tool:1"),
        ("docker.io/library/*", "docker://alpine"),
        ("index.docker.io", "docker://alpine"),
        ("quay.io:443/lab/*", "docker://quay.io/lab/tool:1"),
        ("quay.io/lab/*", "docker://quay.io:443/lab/tool:1"),
        ("docker.io", "docker://registry-1.docker.io/lab/tool"),
        ("quay.io/lab/*", "oras://quay.io/lab/tool:1"),
        ("quay.io/lab/*", "docker://quay.io/lab/tool@sha256:" + "a" * 64),
        ("library/lab/*", "library://lab/collection/tool:1"),
    ],
)
def test_a_pattern_is_about_every_spelling_of_an_image(pattern, text):
    assert is_about(pattern, text)


@pytest.mark.parametrize("text", ["docker://quay.io/laboratory/tool:1", "docker://ghcr.io/lab/tool:1", "images/x.sif"])
def test_a_pattern_is_about_no_other_image(text):
    assert not is_about("quay.io/lab/*", text)


def test_several_signers_are_read_with_what_they_rest_on():
    [demand] = demands({"quay.io": [KEY, WHO]}, trusted_root="root.json")
    assert files_of([demand]) == {"cosign.pub", "root.json"}
    filled = demand.with_material({"cosign.pub": b"key", "root.json": b"root"})
    assert [signer.material for signer in filled.signers] == [b"key", b"root"]
    assert str(demand) == "key cosign.pub or builder@lab.example (issuer https://login.lab.example)"


def test_a_fingerprint_may_be_written_with_spaces_and_in_lower_case():
    [demand] = demands({"library": {"fingerprint": "0123 4567 89ab cdef 0123 4567 89ab cdef 0123 4567"}})
    assert demand.signers[0].fingerprint == PRINT
    assert demand.is_inside


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({}, "images must be a table"),
        ({"images": []}, "images must be a table"),
        ({"images": {"quay.io": KEY}, "roots": "x"}, "no key 'roots'"),
        ({"images": {"quay.io": "cosign.pub"}}, "must be a table"),
        ({"images": {"quay.io": []}}, "names no signer"),
        ({"images": {"quay.io": {}}}, "does not say who signs"),
        ({"images": {"quay.io": {"keys": "x"}}}, "did you mean 'key'"),
        ({"images": {"quay.io": KEY | WHO}}, "does not say who signs"),
        ({"images": {"quay.io": {"identity": "x"}}}, "does not say who signs"),
        ({"images": {"quay.io": WHO}}, "no trusted_root to check it with"),
        ({"images": {"quay.io": KEY}, "trusted_root": "x"}, "no signer is one"),
        ({"images": {"quay.io": {"key": 1}}}, "no short printable text"),
        ({"images": {1: KEY}}, "no short printable text"),
        ({"images": {"quay.io": {"fingerprint": "01234567"}}}, "whole fingerprint"),
        ({"images": {"quay.io": [KEY, {"fingerprint": PRINT}]}}, "mixes PGP keys"),
        ({"images": {"quay.io": KEY}, "level": "maybe"}, "level cannot be"),
    ],
)
def test_what_is_not_sound_is_named(value, why):
    with pytest.raises(InvalidPolicy, match=why):
        parse_policy({"signed_by": value}, source="site")
