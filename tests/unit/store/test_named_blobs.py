"""Blobs by name: a manifest is what lies under its name, unless that is too long for one."""

from __future__ import annotations

import pytest

from snakemake_apptainer_freshness.errors import NotFound
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.settings import LIMITS
from snakemake_apptainer_freshness.store.named_blobs import NamedBlobs

REFERENCE = parse("docker://quay.io/team/tool:1.0")
DIGEST = Digest.of(b"content")
LONGEST = LIMITS.manifest_size


class Pieces(NamedBlobs):
    """A place that has the same pieces under each name."""

    place = "the shelf"

    def __init__(self, *pieces):
        self.pieces, self.given, self.closed = pieces, 0, False

    def blob(self, reference, digest, start=0):
        try:
            for piece in self.pieces:
                self.given += 1
                yield piece
        finally:
            self.closed = True


def test_a_manifest_is_all_of_its_pieces():
    assert Pieces(b"first, ", b"", b"second").manifest(REFERENCE, DIGEST) == b"first, second"


def test_the_longest_manifest_is_read():
    assert Pieces(b"x", bytes(LONGEST - 1)).manifest(REFERENCE, DIGEST) == b"x" + bytes(LONGEST - 1)


def test_what_is_longer_is_given_up_and_not_read_on():
    shelf = Pieces(bytes(LONGEST), b"x", *[b"more"] * 10)
    with pytest.raises(NotFound, match=rf"the shelf has something as {DIGEST.short} that is too large for a manifest"):
        shelf.manifest(REFERENCE, DIGEST)

    assert (shelf.given, shelf.closed) == (2, True)


def test_how_long_a_blob_is_need_not_be_known():
    assert Pieces().size_of(DIGEST) is None
