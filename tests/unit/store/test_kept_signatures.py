"""Signatures that were good are found again, by the digest that they sign, in the user's own folder alone."""

from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.signature import Form, Signature
from snakemake_apptainer_freshness.store import kept_signatures, state

DIGEST = Digest.parse("sha256:" + "a" * 64)
OTHER = Digest.parse("sha256:" + "b" * 64)
ONE = Signature(form=Form.SIMPLE, content=b"payload", signature="AAAA")
TWO = Signature(form=Form.BUNDLE, content=b"{}")


def test_nothing_is_known_at_first():
    assert kept_signatures.known(DIGEST) == ()


def test_what_is_kept_is_found_by_its_digest_alone():
    kept_signatures.keep(DIGEST, [ONE, TWO])
    kept_signatures.keep(DIGEST, [ONE])
    assert set(kept_signatures.known(DIGEST)) == {ONE, TWO}
    assert kept_signatures.known(OTHER) == ()


def kept_file():
    kept_signatures.keep(DIGEST, [ONE])
    [path] = (state.folder() / "signatures").rglob("*.json")
    return path


def test_a_file_that_others_can_write_is_not_read():
    kept_file().chmod(0o666)
    assert kept_signatures.known(DIGEST) == ()


def test_a_file_that_holds_something_else_is_not_read():
    kept_file().write_bytes(TWO.dumps())
    assert kept_signatures.known(DIGEST) == ()
