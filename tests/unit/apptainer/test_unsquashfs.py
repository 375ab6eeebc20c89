"""File systems that the real mksquashfs made, read through the real unsquashfs."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.apptainer import unsquashfs
from snakemake_apptainer_freshness.errors import MissingProgram
from snakemake_apptainer_freshness.image.tree import FileType, Node, NotComparable
from snakemake_apptainer_freshness.settings import TreeLimits
from tests.support import programs

OFFSET = 4096


def packed(folder: Path, *, offset: int = OFFSET) -> Path:
    """`folder` as a file system that begins at `offset` of a file beside it."""
    result = folder.with_name("packed")
    subprocess.run(
        [programs.find("mksquashfs"), folder, result, "-quiet", "-no-progress", "-noappend", "-all-root"], check=True
    )
    image = folder.with_name("image")
    image.write_bytes(bytes(offset) + result.read_bytes())
    return image


def read(image: Path, *, offset: int = OFFSET, **limits: object) -> dict[bytes, Node]:
    with image.open("rb") as file:
        tree = unsquashfs.read(
            file,
            offset,
            environment=programs.environment(),
            limits=TreeLimits(**limits),  # type: ignore[arg-type]
        )
    return dict(tree.walk())


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "content"
    path.mkdir()
    return path


def test_files_folders_and_links_are_what_they_are(folder):
    (folder / "a").write_bytes(b"content")
    (folder / "a").chmod(0o4751)
    (folder / "d").mkdir(0o700)
    (folder / "d/empty").write_bytes(b"")
    (folder / "d/link").symlink_to("../a b\\c")
    os.mkfifo(folder / "pipe")
    tree = read(packed(folder))

    assert set(tree) == {b"a", b"d", b"d/empty", b"d/link", b"pipe"}
    assert (tree[b"a"].kind, tree[b"a"].mode, tree[b"a"].size) == (FileType.FILE, 0o4751, 7)
    assert tree[b"a"].sha256 == hashlib.sha256(b"content").digest()
    assert (tree[b"d"].kind, tree[b"d"].mode) == (FileType.FOLDER, 0o700)
    assert tree[b"d/empty"].sha256 == hashlib.sha256(b"").digest()
    assert (tree[b"d/link"].kind, tree[b"d/link"].target) == (FileType.LINK, b"../a b\\c")
    assert tree[b"pipe"].kind is FileType.FIFO


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "new\nline",
        "two\n\nlines\\",
        'quo"te',
        "back\\",
        "#",
        "# START OF DATA - DO NOT MODIFY",
        "é東",
        "a R 0 644",
    ],
)
def test_any_name_is_understood(folder, name):
    (folder / name).write_bytes(name.encode())
    os.link(folder / name, folder / f"{name}.2")
    (folder / "z").write_bytes(b"after")
    tree = read(packed(folder))

    assert set(tree) == {name.encode(), f"{name}.2".encode(), b"z"}
    assert tree[name.encode()].sha256 == tree[f"{name}.2".encode()].sha256 == hashlib.sha256(name.encode()).digest()
    assert tree[b"z"].sha256 == hashlib.sha256(b"after").digest()


def test_names_need_not_be_text(folder):
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")).write_bytes(b"x")
    assert set(read(packed(folder))) == {b"caf\xe9"}


def test_large_sparse_and_equal_files_are_hashed_whole(folder):
    with (folder / "sparse").open("wb") as file:
        file.seek(5_000_000)
        file.write(b"end")
    for name in ("one", "two"):
        (folder / name).write_bytes(b"equal" * 100_000)
    tree = read(packed(folder))

    assert tree[b"sparse"].sha256 == hashlib.sha256(bytes(5_000_000) + b"end").digest()
    assert tree[b"one"].sha256 == tree[b"two"].sha256 == hashlib.sha256(b"equal" * 100_000).digest()


def test_an_empty_file_system_is_an_empty_tree(folder):
    assert read(packed(folder)) == {}


def test_extended_attributes_are_left_out(folder):
    (folder / "a").write_bytes(b"x")
    try:
        os.setxattr(folder / "a", b"user.a\nevil R 0 644 0 0 0 0 0", b"v")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    assert set(read(packed(folder))) == {b"a"}


@pytest.mark.parametrize("target", ["x\ny", "x\nevil D 0 755 0 0", "x\n#\n# START OF DATA - DO NOT MODIFY\n#\n"])
def test_a_link_that_could_pretend_is_refused(folder, target):
    (folder / "link").symlink_to(target)
    with pytest.raises(NotComparable, match="new line"):
        read(packed(folder))


def test_limits_are_kept(folder):
    for number in range(20):
        (folder / f"f{number}").write_bytes(bytes(1000))
    image = packed(folder)
    with pytest.raises(NotComparable, match="more than 10 entries"):
        read(image, entries=10)
    with pytest.raises(NotComparable, match="larger than 5000"):
        read(image, size=5000)
    assert len(read(image, entries=21, size=20_000)) == 20


def test_a_truncated_file_system_is_refused(folder):
    (folder / "a").write_bytes(os.urandom(500_000))
    image = packed(folder)
    image.write_bytes(image.read_bytes()[:-100_000])
    with pytest.raises(NotComparable, match="unsquashfs"):
        read(image)


def test_what_is_no_file_system_is_refused(tmp_path):
    image = tmp_path / "image"
    image.write_bytes(b"hsqs" + bytes(100_000))
    with pytest.raises(NotComparable):
        read(image, offset=0)


def test_the_open_file_is_read_whatever_its_name_leads_to(folder):
    (folder / "a").write_bytes(b"x")
    image = packed(folder)
    with image.open("rb") as file:
        image.unlink()
        image.write_bytes(b"other")
        tree = unsquashfs.read(file, OFFSET, environment=programs.environment())
    assert set(dict(tree.walk())) == {b"a"}


def test_without_unsquashfs_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(unsquashfs, "_SBIN", "")
    image = tmp_path / "image"
    image.write_bytes(b"x")
    with image.open("rb") as file, pytest.raises(MissingProgram, match=r"squashfs-tools 4\.5"):
        unsquashfs.read(file, 0, environment={"PATH": str(tmp_path)})
