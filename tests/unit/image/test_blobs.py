"""Blobs: a stream is good only if it comes to its end, and unpacks in bounded pieces."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.image.blobs import DamagedBlob, behind, checked, hashed, unpacked
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.settings import TREE

CONTENT = b"what a layer holds" * 100


def test_a_blob_that_is_what_its_digest_says_passes_whole():
    pieces = list(checked([CONTENT[:7], CONTENT[7:]], Digest.of(CONTENT), len(CONTENT)))

    assert b"".join(pieces) == CONTENT


@pytest.mark.parametrize("served", [CONTENT[:-1], CONTENT[:-1] + b"x", b""])
def test_a_blob_that_is_shorter_or_other_bytes_is_damaged_at_its_end(served):
    with pytest.raises(DamagedBlob, match="is not that"):
        list(checked([served], Digest.of(CONTENT), len(CONTENT)))


def test_a_blob_that_is_too_long_ends_before_the_surplus_is_passed_on():
    passed = checked([CONTENT, b"x", b"y" * 1000], Digest.of(CONTENT), len(CONTENT))

    assert next(passed) == CONTENT
    with pytest.raises(DamagedBlob, match="longer than"):
        next(passed)


def test_a_hash_does_not_depend_on_the_pieces():
    assert hashed([CONTENT], "sha256") == hashed([CONTENT[:1], CONTENT[1:]], "sha256") == Digest.of(CONTENT).hex


@given(st.lists(st.binary(max_size=5)), st.integers(0, 30))
def test_what_stands_behind_a_byte_does_not_depend_on_the_pieces(pieces, start):
    rest = list(behind(pieces, start))

    assert b"".join(rest) == b"".join(pieces)[start:]
    assert all(rest), "no piece is empty"


@pytest.mark.parametrize("cut", [1, 2, 3, 10])
def test_how_a_layer_is_packed_is_read_from_its_first_bytes_however_they_come(cut):
    packed = gzip.compress(CONTENT)

    assert b"".join(unpacked([packed[:cut], packed[cut:]])) == CONTENT
    assert b"".join(unpacked([CONTENT[:cut], CONTENT[cut:]])) == CONTENT


def test_gzip_members_one_after_the_other_are_one_archive():
    assert b"".join(unpacked([gzip.compress(CONTENT) + gzip.compress(b"more")])) == CONTENT + b"more"


def test_a_decompression_bomb_comes_in_bounded_pieces():
    bomb = gzip.compress(bytes(20 * TREE.chunk))

    assert max(map(len, unpacked([bomb]))) <= TREE.chunk


@pytest.mark.parametrize(
    ("packed", "why"),
    [
        (gzip.compress(CONTENT, mtime=0)[:-9], "breaks off"),
        (gzip.compress(CONTENT, mtime=0)[:-8] + bytes(8), "not sound gzip"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), "zstd"),
    ],
    ids=["cut short", "damaged", "zstd"],
)
def test_a_layer_that_cannot_be_unpacked_proves_nothing(packed, why):
    with pytest.raises(NotComparable, match=why):
        list(unpacked([packed]))
