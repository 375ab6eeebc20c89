"""Tests of what a rule is rewritten to."""

import pytest

from snakemake_apptainer_freshness.errors import InvalidReference
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.pinned import Pinned, pinned_form
from snakemake_apptainer_freshness.image.reference import parse

SHA256 = Digest.parse("sha256:" + "a" * 64)
SHA512 = Digest.parse("sha512:" + "b" * 128)


@pytest.mark.parametrize(
    ("text", "pinned"),
    [
        ("docker://quay.io/a/b:1.0", f"docker://quay.io/a/b@{SHA256}"),
        ("oras://quay.io/a/b:1.0", f"oras://quay.io/a/b@{SHA256}"),
        ("library://lib/a/b:1.0", f"library://lib/a/b:{str(SHA256).replace('sha256:', 'sha256.')}"),
    ],
)
def test_what_has_such_a_form_is_named_by_its_digest(text, pinned):
    assert pinned_form(parse(text), SHA256).text == pinned


@pytest.mark.parametrize("text", ["https://example.org/a.sif", "/images/a.sif", "oci-archive:/images/a.tar"])
def test_what_has_no_such_form_stays_as_it_is(text):
    reference = parse(text)

    assert pinned_form(reference, SHA256) is reference


def test_a_digest_that_the_source_does_not_carry_is_refused():
    with pytest.raises(InvalidReference):
        pinned_form(parse("oras://quay.io/a/b:1.0"), SHA512)


def test_the_url_of_a_pinned_reference_is_what_the_rule_gets():
    reference = parse("docker://quay.io/a/b:1.0")
    pinned = Pinned(reference=reference, pinned=pinned_form(reference, SHA256), digest=SHA256)

    assert pinned.url == f"docker://quay.io/a/b@{SHA256}"
