"""Whatever the bytes: a squashfs is read as unsquashfs reads it, or refused with our own error."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from snakemake_apptainer_freshness.image.tree import NotComparable
from tests.support import squashfses
from tests.support.squashfs_tables import Patched, read
from tests.support.squashfses import Shown

HEAD = 96
"""Bytes of a superblock."""


@functools.cache
def sound(*options: str) -> bytes:
    """A small image; with its tables not compressed, most changes are one of a field."""
    with tempfile.TemporaryDirectory() as place:
        return squashfses.small(Path(place), *options).read_bytes()


@st.composite
def changes(draw: st.DrawFn, image: bytes) -> bytes:
    """`image` with some bytes changed, in the superblock and the tables above all."""
    changed, tables = bytearray(image), Patched(image).says("inode_table")
    used = Patched(image).says("used")
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, HEAD - 1) | st.integers(tables, used - 1) | st.integers(HEAD, tables - 1))
        new = draw(
            st.binary(min_size=1, max_size=4)
            | st.sampled_from([bytes(4), b"\xff" * 4, bytes([(changed[at] + 1) % 256]), bytes([changed[at] - 1 & 255])])
            | st.integers(tables, used - 4).map(lambda there: image[there : there + 4])
        )
        changed[at : at + len(new)] = new
    return bytes(changed[: len(image)])


def seen(image: bytes) -> Shown | None:
    """What our reader makes of `image`; None where it refuses it."""
    try:
        return squashfses.shown_by_us(read(image))
    except NotComparable as reason:
        assert str(reason)  # noqa: PT017  any refusal is right, if it says why
        return None


@settings(max_examples=150)
@given(st.data())
def test_changed_tables_are_refused_or_read_as_unsquashfs_reads_them(data):
    image = data.draw(changes(sound()))
    ours = seen(image)
    if ours is None:
        return
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "image"
        file.write_bytes(image)
        assert squashfses.shown_by_unsquashfs_if_it_can(file) in (None, ours)


@settings(max_examples=100)
@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda tail: sound()[:HEAD] + tail))
def test_any_bytes_are_read_or_refused(content):
    assert seen(content) is None
