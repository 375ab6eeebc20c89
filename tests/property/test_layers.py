"""Merged layers are what unpacking them one after the other would give, by a model that knows flat paths alone."""

from __future__ import annotations

import contextlib
import hashlib
import tarfile

from hypothesis import given, settings
from hypothesis import strategies as st

from snakemake_apptainer_freshness.image.blobs import unpacked
from snakemake_apptainer_freshness.image.layers import Layers
from snakemake_apptainer_freshness.image.tree import FileType, NotComparable
from tests.support.proofs import Entry, file, folder, symlink, tar

NAMES = st.sampled_from(["a", "b", "c", "é"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
MODES = st.sampled_from([0o644, 0o755, 0o4711, 0o000])
ENTRIES = st.one_of(
    st.builds(file, PATHS, st.binary(max_size=3), MODES),
    st.builds(folder, PATHS, MODES),
    st.builds(lambda path: file(f"{path}/.wh..wh..opq", b""), PATHS),
    st.builds(lambda path: file("/".join([*path.split("/")[:-1], ".wh." + path.split("/")[-1]]), b""), PATHS),
    st.builds(lambda path: symlink(f"{path}/link", "target"), PATHS),
)
STACKS = st.lists(st.lists(ENTRIES, max_size=8), max_size=4)


def model(stack: list[list[Entry]]) -> dict[str, tuple]:
    tree: dict[str, tuple] = {}
    for layer in stack:
        touched: set[str] = set()
        for entry in layer:
            above, _, name = entry.name.rpartition("/")
            if name == ".wh..wh..opq":
                drop(tree, touched, above + "/")
            elif name.startswith(".wh."):
                path = f"{above}/{name[4:]}".lstrip("/")
                if path not in touched:
                    tree.pop(path, None)
                drop(tree, touched, path + "/")
            else:
                unpack(tree, touched, entry)
    return tree


def drop(tree: dict[str, tuple], touched: set[str], prefix: str) -> None:
    for path in [path for path in tree if path.startswith(prefix) and path not in touched]:
        del tree[path]


def unpack(tree: dict[str, tuple], touched: set[str], entry: Entry) -> None:
    parts = entry.name.split("/")
    for count in range(1, len(parts)):
        parent = "/".join(parts[:count])
        touched.add(parent)
        if tree.get(parent, (None,))[0] != "folder":
            tree[parent] = ("folder", None)
    touched.add(entry.name)
    if entry.type == tarfile.DIRTYPE:
        tree[entry.name] = ("folder", entry.mode)
        return
    drop(tree, set(), entry.name + "/")
    if entry.type == tarfile.SYMTYPE:
        tree[entry.name] = ("symbolic link", entry.link)
    else:
        tree[entry.name] = ("file", entry.mode, hashlib.sha256(entry.content).digest())


def told(layers: Layers) -> dict[str, tuple]:
    found: dict[str, tuple] = {}
    for path, node in layers.root.walk():
        match node.kind:
            case FileType.FOLDER:
                found[path.decode()] = ("folder", None if node.implied else node.mode)
            case FileType.LINK:
                found[path.decode()] = ("symbolic link", node.target.decode())
            case _:
                found[path.decode()] = ("file", node.mode, node.sha256)
    return found


@settings(deadline=None)
@given(STACKS)
def test_merged_layers_are_what_a_naive_model_unpacks(stack):
    layers = Layers()
    for entries in stack:
        layers.add([tar(*entries)])
    assert told(layers) == model(stack)


@settings(deadline=None)
@given(st.binary(max_size=3000))
def test_any_bytes_are_merged_or_refused(content):
    with contextlib.suppress(NotComparable):
        Layers().add(unpacked([content]))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2047), st.integers(0, 255)), max_size=6))
def test_damaged_archives_are_merged_or_refused(changes):
    archive = bytearray(tar(folder("a"), file("a/b", "content")))
    for place, value in changes:
        archive[place] = value
    with contextlib.suppress(NotComparable):
        Layers().add([bytes(archive)])
