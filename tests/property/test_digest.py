from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.errors import InvalidDigest
from snakemake_apptainer_freshness.image.digest import Digest

ALGORITHMS = st.sampled_from(["sha256", "sha512"])


@given(st.binary(), ALGORITHMS)
def test_a_digest_survives_being_written_and_read(data, algorithm):
    digest = Digest.of(data, algorithm)
    assert Digest.parse(str(digest)) == digest
    assert digest.matches(data)


@given(st.binary(), st.binary(), ALGORITHMS)
def test_a_digest_matches_exactly_its_bytes(data, other, algorithm):
    assert Digest.of(data, algorithm).matches(other) is (data == other)


@given(st.text() | st.from_regex(r"sha(256|512):[0-9a-fA-F]{60,130}\s*"))
def test_any_text_is_a_digest_that_writes_itself_or_our_own_error(text):
    try:
        digest = Digest.parse(text)
    except InvalidDigest:
        return
    assert str(digest) == text


@given(st.binary(), ALGORITHMS, st.text(min_size=1))
def test_nothing_can_be_added_to_a_digest(data, algorithm, addition):
    text = str(Digest.of(data, algorithm))
    for longer in (text + addition, addition + text):
        try:
            Digest.parse(longer)
        except InvalidDigest:
            continue
        raise AssertionError(longer)
