"""Whatever the bytes: a SIF is read, or refused with our own error, and never much of it is read."""

from __future__ import annotations

import io

from hypothesis import given, settings
from hypothesis import strategies as st

from snakemake_apptainer_freshness.apptainer import sif
from snakemake_apptainer_freshness.errors import CorruptImage
from snakemake_apptainer_freshness.settings import DISK
from tests.support import sifs
from tests.support.sifs import Header, Object

SOUND = sifs.pulled("quay.io/team/tool@sha256:" + "ab" * 32)
HEAD = sifs.DATA_OFFSET + 8192
INT64 = st.integers(-(2**63), 2**63 - 1)


class Counting(io.BytesIO):
    bytes_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self.bytes_read += len(content)
        return content


def read_or_refuse(image: bytes) -> None:
    file = Counting(image)
    try:
        facts = sif.read(file)
    except CorruptImage as error:
        assert error.message  # noqa: PT017  any refusal is right, if it says why
    else:
        assert all(0 <= d.offset <= d.offset + d.size <= len(image) for d in facts.descriptors)
    assert file.bytes_read <= DISK.sif_read


@given(st.binary(max_size=5000))
def test_any_bytes(content):
    read_or_refuse(content)


@given(st.lists(st.tuples(st.integers(0, HEAD), st.binary(min_size=1, max_size=16)), min_size=1, max_size=8))
@settings(max_examples=300)
def test_a_sound_image_with_bytes_overwritten(changes):
    image = bytearray(SOUND)
    for offset, content in changes:
        image[offset : offset + len(content)] = content
    read_or_refuse(bytes(image))


@given(st.integers(0, len(SOUND)))
def test_a_sound_image_cut_anywhere(size):
    if size == len(SOUND):
        sif.read(io.BytesIO(SOUND))
    else:
        read_or_refuse(SOUND[:size])


@given(
    st.lists(
        st.builds(
            Object,
            type=st.sampled_from([sifs.DEFINITION, sifs.PARTITION, sifs.JSON, sifs.ROOT_INDEX, 0, -1]),
            content=st.binary(max_size=300),
            name=st.sampled_from(["", "inspect-metadata.json", "x" * 60]),
            extra=st.binary(max_size=384),
            offset=st.none() | INT64 | st.integers(0, 60_000),
            size=st.none() | INT64 | st.integers(0, 60_000),
        ),
        max_size=6,
    ),
    st.builds(
        Header,
        version=st.binary(max_size=3),
        architecture=st.binary(max_size=3),
        total=INT64 | st.integers(0, 300),
        offset=INT64 | st.integers(0, 5000),
    ),
)
@settings(max_examples=300)
def test_any_claims(objects, header):
    read_or_refuse(sifs.build(objects, header))
