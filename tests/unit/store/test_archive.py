"""The table of contents of a bundle, and what stands around its files."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.errors import InvalidBundle
from snakemake_apptainer_freshness.store import archive
from snakemake_apptainer_freshness.store.archive import Contents, Member, Packed, Reader

HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
SIZE = st.integers(0, 2**39)
NAMES = st.lists(st.text("0123456789abcdef", min_size=32, max_size=32), unique=True, max_size=5)


@st.composite
def contents(draw):
    images = []
    for name in draw(NAMES):
        image = Member(name=f"{name}.simg", size=draw(SIZE), sha256=draw(HEX))
        record = Member(name=f"{name}.simg.freshness.json", size=draw(st.integers(0, 1000)), sha256=draw(HEX))
        images.append(Packed(image=image, record=draw(st.sampled_from([record, None]))))
    lock = Member(name="containers.lock", size=draw(st.integers(0, 1000)), sha256=draw(HEX))
    return Contents(platform="linux/amd64", lock=lock, images=tuple(images))


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


@given(st.binary(max_size=3000))
def test_any_bytes_are_no_archive(content):
    with pytest.raises(InvalidBundle):
        Reader(io.BytesIO(content)).contents()


@given(SIZE)
def test_a_header_is_one_block_that_tar_understands(size):
    block = archive.header("containers.lock", size)

    assert len(block) == 512
    assert tarfile.TarInfo.frombuf(block, "ascii", "strict").size == size
    assert (size + len(archive.padding(size))) % 512 == 0


def test_a_file_beyond_8_gib_has_a_header():
    size = 20 * 1024**3
    assert tarfile.TarInfo.frombuf(archive.header("x", size), "ascii", "strict").size == size
