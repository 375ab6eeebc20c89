import hashlib

import pytest

from snakemake_apptainer_freshness.errors import InvalidDigest
from snakemake_apptainer_freshness.image.digest import Digest

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(("algorithm", "value"), [("sha256", HEX), ("sha512", HEX + HEX)])
def test_a_registered_algorithm_with_all_its_digits_is_a_digest(algorithm, value):
    digest = Digest.parse(f"{algorithm}:{value}")
    assert (digest.algorithm, digest.hex) == (algorithm, value)
    assert str(digest) == f"{algorithm}:{value}"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "no algorithm"),
        (HEX, "no algorithm"),
        ("sha256", "no algorithm"),
        (f":{HEX}", "the algorithm must be sha256 or sha512"),
        (f"md5:{HEX}", "the algorithm must be sha256 or sha512"),
        (f"SHA256:{HEX}", "the algorithm must be sha256 or sha512"),
        (f"sha384:{HEX}{HEX[:32]}", "the algorithm must be sha256 or sha512"),
        ("sha256:", "needs 64 hex digits, this has 0"),
        (f"sha256:{HEX[:-1]}", "needs 64 hex digits, this has 63"),
        (f"sha256:{HEX}0", "needs 64 hex digits, this has 65"),
        (f"sha256:{HEX}{HEX}", "needs 64 hex digits, this has 128"),
        (f"sha512:{HEX}", "needs 128 hex digits, this has 64"),
        (f"sha512:{HEX}{HEX[:-1]}", "needs 128 hex digits, this has 127"),
        (f"sha256:{HEX.upper()}", "lower-case hex"),
        (f"sha256:{HEX[:-1]}g", "lower-case hex"),
        (f"sha256:{HEX[:-1]}\uff11", "lower-case hex"),
    ],
)
def test_nothing_else_is_a_digest_and_the_error_says_why(text, rule):
    with pytest.raises(InvalidDigest, match=rule):
        Digest.parse(text)


def test_the_error_does_not_repeat_an_endless_text():
    with pytest.raises(InvalidDigest) as caught:
        Digest.parse("sha256:" + "0" * 1_000_000)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_digest_of_bytes_matches_them_and_no_others(algorithm):
    digest = Digest.of(b"data", algorithm)
    assert digest.hex == hashlib.new(algorithm, b"data").hexdigest()
    assert digest.matches(b"data")
    assert not digest.matches(b"data\n")
    assert Digest.parse(str(digest)) == digest


def test_sha256_is_the_algorithm_unless_another_is_asked_for():
    assert Digest.of(b"").algorithm == "sha256"


def test_equal_digits_of_another_algorithm_are_another_digest():
    assert Digest.of(b"data") != Digest.of(b"data", "sha512")


def test_the_short_form_has_twelve_digits():
    assert Digest.parse(f"sha256:{HEX}").short == "sha256:0123456789ab"


def test_a_digest_that_differs_in_its_last_digit_does_not_match():
    digest = Digest.of(b"data")
    last = "0" if digest.hex[-1] != "0" else "1"
    assert not Digest.parse(str(digest)[:-1] + last).matches(b"data")
