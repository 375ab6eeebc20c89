"""Layers on top of each other: the tree that they amount to."""

from __future__ import annotations

import gzip
import hashlib
import tarfile

import pytest

from snakemake_apptainer_freshness.image.blobs import DamagedBlob, checked, unpacked
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.layers import Layers
from snakemake_apptainer_freshness.image.tree import FileType, Node, NotComparable, shown
from tests.support.proofs import Entry, file, folder, hardlink, symlink, tar


def merged(*archives: bytes) -> Node:
    layers = Layers()
    for archive in archives:
        layers.add([archive])
    return layers.root


def paths(root: Node) -> list[str]:
    return sorted(path.decode() for path, _ in root.walk())


def at(root: Node, path: str) -> Node:
    return dict(root.walk())[path.encode()]


def contains(node: Node, content: str) -> bool:
    return node.sha256 == hashlib.sha256(content.encode()).digest() and node.size == len(content)


def test_a_file_has_its_mode_owner_size_and_hash():
    node = at(merged(tar(file("a", "content", 0o4750, owner=(12, 34)))), "a")
    assert (node.kind, node.mode, node.owner) == (FileType.FILE, 0o4750, (12, 34))
    assert contains(node, "content")


def test_links_devices_and_pipes_are_what_they_are():
    root = merged(
        tar(
            symlink("link", "some/where"),
            Entry(name="c", type=tarfile.CHRTYPE, device=(1, 3)),
            Entry(name="b", type=tarfile.BLKTYPE, device=(8, 1)),
            Entry(name="p", type=tarfile.FIFOTYPE),
        )
    )
    assert (at(root, "link").kind, at(root, "link").target) == (FileType.LINK, b"some/where")
    assert (at(root, "c").kind, at(root, "c").device) == (FileType.CHARACTER, (1, 3))
    assert (at(root, "b").kind, at(root, "b").device) == (FileType.BLOCK, (8, 1))
    assert at(root, "p").kind is FileType.FIFO


def test_a_file_has_its_capabilities_and_its_hard_links_have_them_too():
    raw = bytes(range(246, 256)) + b"\n=\0" + bytes(7)
    capable = Entry(name="a", pax={"SCHILY.xattr.security.capability": raw.decode("utf-8", "surrogateescape")})
    root = merged(tar(capable, hardlink("b", "a"), file("c")))
    assert [at(root, name).capability for name in "abc"] == [raw, raw, b""]


def test_names_need_not_be_text():
    root = merged(tar(file("caf\udce9"), file("x" * 300)))
    assert sorted(path for path, _ in root.walk()) == [b"caf\xe9", b"x" * 300]


def test_an_upper_file_replaces_a_lower_one():
    root = merged(tar(file("a", "old", 0o755)), tar(file("a", "new")))
    assert contains(at(root, "a"), "new")
    assert at(root, "a").mode == 0o644


def test_an_upper_folder_keeps_what_is_in_the_lower_one():
    root = merged(tar(folder("a"), file("a/x")), tar(folder("a", 0o700)))
    assert paths(root) == ["a", "a/x"]
    assert at(root, "a").mode == 0o700


@pytest.mark.parametrize("upper", [file("a"), symlink("a", "b"), Entry(name="a", type=tarfile.FIFOTYPE)])
def test_what_is_no_folder_replaces_a_folder_with_all_in_it(upper):
    assert paths(merged(tar(folder("a"), file("a/x")), tar(upper))) == ["a"]


def test_a_folder_replaces_a_file():
    assert at(merged(tar(file("a")), tar(folder("a"))), "a").kind is FileType.FOLDER


def test_a_folder_that_no_entry_describes_is_implied():
    root = merged(tar(file("a/b/c")))
    assert at(root, "a").implied
    assert at(root, "a/b").implied
    assert not at(merged(tar(file("a/b")), tar(folder("a"))), "a").implied


def test_a_file_in_the_way_of_a_folder_is_replaced():
    assert paths(merged(tar(file("a")), tar(file("a/b")))) == ["a", "a/b"]


def test_a_whiteout_removes_a_file():
    assert paths(merged(tar(file("a"), file("b")), tar(file(".wh.a")))) == ["b"]


def test_a_whiteout_removes_a_folder_with_all_in_it():
    assert paths(merged(tar(file("d/a/x"), file("d/b")), tar(file("d/.wh.a")))) == ["d", "d/b"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_whiteout_does_not_touch_what_its_own_layer_brings(order):
    upper = [file(".wh.a"), file("a/new")][::order]
    assert paths(merged(tar(file("a/old")), tar(*upper))) == ["a", "a/new"]


def test_a_whiteout_of_what_is_not_there_does_nothing():
    assert paths(merged(tar(file("a")), tar(file(".wh.b"), file("c/.wh.d")))) == ["a"]


def test_a_whiteout_of_a_whiteout_is_not_a_file():
    assert paths(merged(tar(file(".wh..wh.plnk")), tar(file("a")))) == ["a"]


@pytest.mark.parametrize("order", [1, -1])
def test_an_opaque_folder_hides_the_lower_layers_alone(order):
    upper = [file("d/.wh..wh..opq"), file("d/new"), file("d/sub/new")][::order]
    root = merged(tar(file("d/old"), file("d/sub/old"), file("e")), tar(*upper))
    assert paths(root) == ["d", "d/new", "d/sub", "d/sub/new", "e"]


def test_an_opaque_root_hides_everything_below():
    assert paths(merged(tar(file("a"), folder("b")), tar(file(".wh..wh..opq"), file("c")))) == ["c"]


def test_a_hard_link_is_another_name_of_the_same_file():
    root = merged(tar(file("a", "content", 0o4755), hardlink("b", "a")), tar(hardlink("d/c", "./b")))
    assert contains(at(root, "d/c"), "content")
    assert at(root, "d/c").mode == 0o4755


def test_a_hard_link_keeps_the_content_when_its_target_is_replaced():
    root = merged(tar(file("a", "old"), hardlink("b", "a")), tar(file("a", "new")))
    assert contains(at(root, "b"), "old")


def test_a_hard_link_can_be_one_of_a_symbolic_link():
    root = merged(tar(symlink("a", "nowhere"), hardlink("b", "a")))
    assert at(root, "b").target == b"nowhere"


def test_a_hard_link_to_what_is_whited_out_is_refused():
    with pytest.raises(NotComparable):
        merged(tar(file("a")), tar(file(".wh.a"), hardlink("b", "a")))


def test_a_path_follows_symbolic_links_in_its_middle():
    root = merged(
        tar(folder("real/deep"), symlink("relative", "real/deep"), symlink("real/absolute", "/real")),
        tar(file("relative/a"), file("real/absolute/b"), file("real/deep/../../real/c"), symlink("up", "real/deep/..")),
        tar(file("up/d"), file("relative/.wh.a")),
    )
    assert paths(root) == ["real", "real/absolute", "real/b", "real/c", "real/d", "real/deep", "relative", "up"]


def test_a_path_through_a_dangling_link_makes_its_target():
    assert paths(merged(tar(symlink("way", "not/there"), file("way/x")))) == ["not", "not/there", "not/there/x", "way"]


def test_the_last_part_of_a_path_is_not_followed():
    root = merged(tar(file("a", "old"), symlink("b", "a")), tar(file("b", "new")))
    assert contains(at(root, "a"), "old")
    assert at(root, "b").kind is FileType.FILE


@pytest.mark.parametrize("name", ["./a", "/a", "a/", "b/../a", "//a", "../a"])
def test_a_path_is_taken_from_the_root(name):
    assert paths(merged(tar(file(name)))) == ["a"]


def test_an_entry_of_the_root_describes_it():
    root = merged(tar(folder("./", 0o711), file("a")))
    assert (root.mode, root.implied) == (0o711, False)
    assert merged(tar(file("a"))).implied


def test_many_headers_together_may_be_large():
    assert len(paths(merged(tar(*(file(f"f{number}") for number in range(3000)))))) == 3000


def test_an_empty_layer_changes_nothing():
    assert paths(merged(tar(file("a")), b"", bytes(1024))) == ["a"]


def test_an_archive_may_come_in_any_pieces():
    archive = tar(file("a", "x" * 5000), folder("b"), file("b/c"))
    layers = Layers()
    layers.add(archive[at : at + 7] for at in range(0, len(archive), 7))
    assert list(layers.root.walk()) == list(merged(archive).walk())


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(tar(file("a"))),
        gzip.compress(tar(file("a"))[:700]) + gzip.compress(tar(file("a"))[700:]),
        tar(file("a")),
    ],
    ids=["gzip", "members", "plain"],
)
def test_a_layer_is_unpacked_by_its_first_bytes(content):
    for step in (1, 5, len(content)):
        pieces = [content[at : at + step] for at in range(0, len(content), step)]
        assert b"".join(unpacked(pieces)) == tar(file("a"))


@pytest.mark.parametrize(
    "content",
    [gzip.compress(b"x" * 1000)[:-1], gzip.compress(b"x") + b"junk", b"\x1f\x8b\xff"],
    ids=["cut short", "junk behind it", "no header"],
)
def test_a_damaged_gzip_stream_is_refused(content):
    with pytest.raises(NotComparable, match="gzip"):
        list(unpacked([content]))


def test_a_large_piece_of_gzip_comes_out_in_bounded_parts():
    parts = list(unpacked([gzip.compress(bytes(5_000_000))]))
    assert sum(map(len, parts)) == 5_000_000
    assert max(map(len, parts)) <= 1 << 20


def test_checked_bytes_come_to_their_end_or_raise():
    good = Digest.of(b"content")
    assert b"".join(checked([b"con", b"tent"], good, 7)) == b"content"
    for pieces, size in (([b"conTent"], 7), ([b"content"], 6), ([b"content"], 8), ([], 7)):
        with pytest.raises(DamagedBlob):
            list(checked(pieces, good, size))


def test_a_path_is_shown_on_one_line():
    assert shown(b"a\n\x1b[31m\xff") == "/a\\n\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}"
    assert len(shown(b"x" * 9000)) < 300
