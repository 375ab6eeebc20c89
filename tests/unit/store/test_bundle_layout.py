"""The table of contents of a bundle: read as it was written, or refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.errors import InvalidBundle
from snakemake_apptainer_freshness.image import layout
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.store.bundle_layout import ALL, LOCK, Contents, Member

DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64).map(lambda text: Digest(algorithm="sha256", hex=text))
SIZE = st.integers(0, 2**39)
SMALL = (layout.LAYOUT, LOCK, layout.INDEX)


@st.composite
def contents(draw):
    small = [Member(name=name, size=draw(st.integers(0, 1000)), digest=draw(DIGESTS)) for name in SMALL]
    blobs = [Member.blob(digest, draw(SIZE)) for digest in draw(st.lists(DIGESTS, unique=True, max_size=5))]
    return Contents(platform=draw(st.sampled_from(["linux/amd64", ALL])), files=(*small, *blobs))


def load_or_refuse(content: bytes) -> None:
    try:
        Contents.loads(content)
    except InvalidBundle as error:
        assert error.hint  # noqa: PT017  any refusal is right, if it says what to do


@given(contents())
def test_writing_and_reading_is_the_identity(table):
    assert Contents.loads(table.dumps()) == table


@given(st.binary(max_size=500))
def test_any_bytes_are_a_table_or_refused(content):
    load_or_refuse(content)


@given(contents(), st.data())
def test_a_table_with_a_piece_replaced_is_a_table_or_refused(table, data):
    content = table.dumps()
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    load_or_refuse(content[:start] + data.draw(st.binary(max_size=20)) + content[end:])
