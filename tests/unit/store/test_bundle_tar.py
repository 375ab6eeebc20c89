"""What stands around the files of a bundle in a tar file, and reading one that was left unfinished."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakemake_apptainer_freshness.errors import InvalidBundle, NotFound
from snakemake_apptainer_freshness.image import layout
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.store import bundle_tar
from snakemake_apptainer_freshness.store.bundle_layout import LOCK, Contents, Member
from snakemake_apptainer_freshness.store.bundle_tar import Archive

SIZE = st.integers(0, 2**39)
REFERENCE = parse("docker://quay.io/team/tool:1.0")
TEXTS = {layout.LAYOUT: layout.VERSION, LOCK: b"version = 1\n", layout.INDEX: b"{}"}
BLOBS = [b"first", b"", b"x" * 2000]


def made(*, upto: int | None = None) -> bytes:
    """An archive; broken off behind so many files, if that is said."""
    files = [Member.of(name, text) for name, text in TEXTS.items()]
    files += [Member.blob(Digest.of(blob), len(blob)) for blob in BLOBS]
    table = Contents(platform="linux/amd64", files=tuple(files))
    out = bundle_tar.start_of(table)
    for member, text in list(zip(files, [*TEXTS.values(), *BLOBS], strict=True))[:upto]:
        out += bundle_tar.header(member.name, member.size) + text + bundle_tar.padding(member.size)
    return out if upto is not None else out + bundle_tar.END


TABLE = bundle_tar.read_contents(io.BytesIO(made()))


@given(st.binary(max_size=3000))
def test_any_bytes_are_no_archive(content):
    with pytest.raises(InvalidBundle):
        Archive(io.BytesIO(content))


@given(SIZE)
def test_a_header_is_one_block_that_tar_understands(size):
    block = bundle_tar.header(f"blobs/sha256/{'0' * 64}", size)

    assert len(block) == 512
    assert tarfile.TarInfo.frombuf(block, "ascii", "strict").size == size
    assert (size + len(bundle_tar.padding(size))) % 512 == 0


def test_a_file_beyond_8_gib_has_a_header():
    size = 20 * 1024**3
    assert tarfile.TarInfo.frombuf(bundle_tar.header("x", size), "ascii", "strict").size == size


def test_blobs_are_read_in_any_order_and_the_small_files_at_once():
    bundle = Archive(io.BytesIO(made()))

    assert (bundle.lock, bundle.index) == (TEXTS[LOCK], TEXTS[layout.INDEX])
    for blob in [*BLOBS, *reversed(BLOBS)]:
        assert b"".join(bundle.blob(REFERENCE, Digest.of(blob))) == blob
        assert bundle.size_of(Digest.of(blob)) == len(blob)


def test_what_is_not_in_it_is_not_found():
    bundle, other = Archive(io.BytesIO(made())), Digest.of(b"other")

    assert bundle.size_of(other) is None
    with pytest.raises(NotFound, match=r"which docker://quay\.io/team/tool:1\.0 needs"):
        bundle.manifest(REFERENCE, other)
    with pytest.raises(NotFound):
        next(bundle.blob(REFERENCE, other))


def test_a_pipe_is_copied_to_its_end_and_no_further():
    content, out = made(), io.BytesIO()
    source = io.BytesIO(content)
    table = bundle_tar.read_contents(source)
    steps = list(bundle_tar.spool(source, out, table))

    assert out.getvalue() == content
    assert sum(steps) >= table.size


@pytest.mark.parametrize("whole", range(len(TABLE.files) + 1))
def test_whole_files_of_an_unfinished_archive_are_counted(whole):
    for cut in (0, 1, 511):
        content = made(upto=whole)
        rest = made()[len(content) : len(content) + cut]
        file = io.BytesIO(content + rest)

        assert bundle_tar.whole_files(file, TABLE) == whole
        assert file.tell() == len(content)


def test_a_damaged_file_and_all_behind_it_do_not_count():
    content = bytearray(made())
    content[content.index(b"xxxx") + 5] ^= 1

    assert bundle_tar.whole_files(io.BytesIO(bytes(content)), TABLE) == len(TABLE.files) - 1


def test_an_archive_of_something_else_does_not_count():
    other = Contents(platform="linux/arm64", files=TABLE.files)

    assert bundle_tar.whole_files(io.BytesIO(made()), other) is None
    assert bundle_tar.whole_files(io.BytesIO(b""), TABLE) is None


@pytest.mark.parametrize("size", range(len(BLOBS[2]) + 1))
def test_the_beginning_of_a_file_is_as_long_as_what_stands_behind_its_header(size):
    member, before = TABLE.files[-1], made(upto=len(TABLE.files) - 1)
    file = io.BytesIO(before + bundle_tar.header(member.name, member.size) + BLOBS[2][:size])
    file.seek(len(before))

    assert bundle_tar.begun(file, member) == size
    assert file.tell() == len(before)


@pytest.mark.parametrize("there", [b"", b"x" * 700, bundle_tar.header("blobs/sha256/" + "0" * 64, 2000) + b"x" * 10])
def test_something_else_is_no_beginning(there):
    assert bundle_tar.begun(io.BytesIO(there), TABLE.files[-1]) == 0


def test_what_is_longer_than_the_file_is_no_beginning():
    member = TABLE.files[-1]
    there = bundle_tar.header(member.name, member.size) + bytes(member.size + 1)
    assert bundle_tar.begun(io.BytesIO(there), member) == 0
