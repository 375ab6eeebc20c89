"""Attacks by a layer: an archive that wants to be read as another tree, to lead elsewhere, or to cost without end."""

from __future__ import annotations

import tarfile
import tracemalloc
import zlib

import pytest

from snakemake_apptainer_freshness.image.blobs import unpacked
from snakemake_apptainer_freshness.image.layers import Layers
from snakemake_apptainer_freshness.image.tree import NotComparable
from snakemake_apptainer_freshness.settings import TreeLimits
from tests.support.proofs import (
    Entry,
    file,
    folder,
    hardlink,
    symlink,
    tar,
)


def merge(archive: bytes, **limits) -> Layers:
    layers = Layers(TreeLimits(**limits))
    layers.add([archive])
    return layers


def header(name: str = "x", size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = size, kind
    return entry.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (tar(file("a", b"1234"))[:514], "breaks off"),
        (tar(file("a"))[:700], "not a sound tar"),
        (tar(file("a"))[:1024] + b"\xff" * 512 + tar(file("b")), "damaged"),
        (header(size=1 << 60), "breaks off"),
        (header(kind=tarfile.GNUTYPE_LONGNAME, size=1 << 40) + bytes(1 << 16), "large header"),
        (header(kind=tarfile.XHDTYPE, size=1 << 30) + bytes(1 << 16), "large header"),
        ((header(kind=tarfile.GNUTYPE_LONGNAME, size=2) + b"x\0".ljust(512, b"\0")) * 3000 + header(), "header|sound"),
        (header(kind=tarfile.XGLTYPE, size=11) + b"11 key=val\n".ljust(512, b"\0") + header() + bytes(1024), "global"),
        (header(kind=tarfile.GNUTYPE_SPARSE), "type"),
        (tar(Entry(name="a", pax={"GNU.sparse.map": "0,1", "GNU.sparse.size": "1000000000000"})), "type"),
        (header(kind=b"V"), "type"),
        (tar(hardlink("a", "/etc/passwd")), "not there"),
        (tar(hardlink("a", "../../../etc/passwd")), "not there"),
        (tar(file("a"), hardlink("a", "a")), "not there"),
        (tar(folder("a"), hardlink("b", "a")), "not there"),
        (tar(symlink("a", "b"), symlink("b", "a"), file("a/x")), "circle"),
        (tar(symlink("a", "/" + "b/" * 3000), file("a/x")), "path of"),
        (tar(file("d/" * 3000)), "path of"),
        (tar(symlink("./", "/etc")), "root"),
    ],
)
def test_a_hostile_archive_is_refused(archive, reason):
    with pytest.raises(NotComparable, match=reason):
        merge(archive)


def test_a_header_with_a_negative_size_is_refused():
    entry = bytearray(header(size=1))
    entry[124:136] = b"\xff" * 12  # base 256: minus one
    entry[148:156] = b" " * 8
    entry[148:156] = f"{sum(entry):06o}\0 ".encode()
    with pytest.raises(NotComparable):
        merge(bytes(entry) + bytes(1024))


def test_millions_of_entries_are_cut_off():
    with pytest.raises(NotComparable, match="more than 100 entries"):
        merge(tar(*(file(f"f{number}") for number in range(101))), entries=100)


def test_a_decompression_bomb_is_cut_off_in_little_memory():
    zeros = zlib.compressobj(9, wbits=31)
    bomb = zeros.compress(header(size=1 << 40)) + b"".join(zeros.compress(bytes(1 << 20)) for _ in range(128))
    tracemalloc.start()
    with pytest.raises(NotComparable, match="unpack to more than"):
        Layers(TreeLimits(size=1 << 26)).add(unpacked([bomb]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_paths_never_lead_out_of_the_root():
    layers = merge(tar(file("../../etc/passwd", "evil"), symlink("out", "../../.."), file("out/inside"), file("/abs")))
    assert sorted(path for path, _ in layers.root.walk()) == [b"abs", b"etc", b"etc/passwd", b"inside", b"out"]


def test_a_deeply_nested_tree_is_walked_without_recursion():
    layers = merge(tar(*(folder("/".join(["d"] * depth)) for depth in range(1, 2000, 50)), file("d/" * 1999 + "f")))
    assert len(list(layers.root.walk())) == 2000
