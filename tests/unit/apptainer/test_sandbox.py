"""Sandbox folders as trees: what stands in them is read through descriptors, and refused where that is not certain."""

import hashlib
import json
import os
import shutil
import socket
import threading

import pytest

from snakemake_apptainer_freshness.apptainer import sandbox
from snakemake_apptainer_freshness.image.tree import FileType, NotComparable
from snakemake_apptainer_freshness.settings import TREE
from tests.support import sifs

CAPABILITY = bytes.fromhex("0100000200000400000000000000000000000000")


@pytest.fixture
def box(tmp_path):
    """A folder as ``apptainer build --sandbox`` leaves it, in small."""
    folder = tmp_path / "box"
    (folder / ".singularity.d").mkdir(parents=True)
    (folder / ".singularity.d" / "labels.json").write_text(json.dumps(sifs.labels_of("quay.io/team/tool:1.0")))
    (folder / "bin").mkdir()
    (folder / "bin" / "tool").write_bytes(b"one")
    (folder / "bin" / "tool").chmod(0o755)
    (folder / "bin" / "link").symlink_to("/etc/passwd")
    for path in (folder, folder / "bin", folder / ".singularity.d"):
        path.chmod(0o755)
    return folder


def nodes(box):
    return dict(sandbox.read(box).tree.walk())


def test_a_folder_is_a_sandbox_by_what_apptainer_puts_into_it(box):
    assert sandbox.is_sandbox(box)
    assert not sandbox.is_sandbox(box / "bin")


def test_a_file_has_its_mode_size_and_content(box):
    tool = nodes(box)[b"bin/tool"]
    assert (tool.kind, tool.mode, tool.size) == (FileType.FILE, 0o755, 3)
    assert tool.sha256 == hashlib.sha256(b"one").digest()


def test_capabilities_of_a_file_are_read(box):
    os.setxattr(box / "bin" / "tool", "security.capability", CAPABILITY)
    assert nodes(box)[b"bin/tool"].capability == CAPABILITY


def test_nothing_is_followed_or_waited_for(box):
    os.mkfifo(box / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(box / "socket"))
    (box / "outside").symlink_to("/etc")
    found = nodes(box)

    assert [found[name].kind for name in (b"fifo", b"socket", b"outside")] == [
        FileType.FIFO, FileType.SOCKET, FileType.LINK,
    ]  # fmt: skip
    assert found[b"outside"].target == b"/etc"
    assert not any(path.startswith(b"outside/") for path in found)


def test_a_link_to_a_sandbox_is_none(box, tmp_path):
    (tmp_path / "link").symlink_to(box)
    with pytest.raises(OSError, match="link"):
        sandbox.read(tmp_path / "link")


def test_its_sha256_does_not_depend_on_where_it_lies_or_on_times(box, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(box, copy, symlinks=True)
    os.utime(copy / "bin" / "tool", (1, 1))

    assert sandbox.read(copy).sha256 == sandbox.read(box).sha256
    assert sandbox.survey(copy).key != sandbox.survey(box).key


@pytest.mark.parametrize("change", ["content", "mode", "target", "name"])
def test_its_sha256_is_that_of_all_that_a_comparison_looks_at(box, change):
    before = sandbox.read(box).sha256
    match change:
        case "content":
            (box / "bin" / "tool").write_bytes(b"two")
        case "mode":
            (box / "bin" / "tool").chmod(0o700)
        case "target":
            (box / "bin" / "link").unlink()
            (box / "bin" / "link").symlink_to("/etc/shadow")
        case "name":
            (box / "bin" / "tool").rename(box / "bin" / "other")
    assert sandbox.read(box).sha256 != before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_who_owns_the_top_stands_for_root_and_nobody_else_does(box):
    before = sandbox.read(box).sha256
    for path in (box, *box.rglob("*")):
        os.chown(path, 1234, 1234, follow_symlinks=False)
    assert sandbox.read(box).sha256 == before
    os.chown(box / "bin" / "tool", 33, 44)
    assert nodes(box)[b"bin/tool"].owner == (33, 44)


def test_a_survey_counts_the_bytes_and_has_the_latest_change(box):
    (box / "bin" / "more").write_bytes(bytes(1000))
    os.utime(box / "bin" / "more", ns=(2**62, 2**62))
    found = sandbox.survey(box)

    assert found.size == 1003 + (box / ".singularity.d" / "labels.json").stat().st_size
    assert found.newest_ns == 2**62
    assert found == sandbox.survey(box) == sandbox.read(box).survey


def test_a_survey_reads_no_content_and_yet_sees_a_write(box):
    before = sandbox.survey(box)
    status = (box / "bin" / "tool").stat()
    (box / "bin" / "tool").write_bytes(b"two")
    os.utime(box / "bin" / "tool", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert sandbox.survey(box).key != before.key


@pytest.mark.parametrize(("name", "mode"), [("bin/tool", 0o757), ("bin", 0o777)])
def test_what_anyone_may_write_proves_nothing(box, name, mode):
    (box / name).chmod(mode)
    for read in (sandbox.read, sandbox.survey):
        with pytest.raises(NotComparable, match=f"^every user may write /{name}$"):
            read(box)


def test_a_sticky_folder_as_tmp_is_allowed(box):
    (box / "tmp").mkdir()
    (box / "tmp").chmod(0o1777)
    assert nodes(box)[b"tmp"].mode == 0o1777


def test_folders_without_end_are_given_up(tmp_path):
    deep = tmp_path / "box" / "/".join("d" * 250)
    deep.mkdir(parents=True)
    with pytest.raises(NotComparable, match="deeper than 200"):
        sandbox.read(tmp_path / "box")


def test_entries_without_end_are_given_up(box, monkeypatch):
    monkeypatch.setattr(sandbox, "TREE", TREE._replace(entries=4))
    with pytest.raises(NotComparable, match="more than 4 files"):
        sandbox.read(box)


def test_a_sandbox_that_changes_while_it_is_read_proves_nothing(box, monkeypatch):
    survey = sandbox.survey

    def survey_after_a_write(path):
        (box / "bin" / "more").touch()
        return survey(path)

    monkeypatch.setattr(sandbox, "survey", survey_after_a_write)
    with pytest.raises(NotComparable, match="changes while it is read"):
        sandbox.read(box)


def test_reading_can_be_stopped(box):
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedError):
        sandbox.read(box, stop=stop)


def test_its_labels_name_what_it_was_pulled_by(box):
    said = sandbox.labels(box)
    assert said == sifs.labels_of("quay.io/team/tool:1.0")
    assert sandbox.pulled_reference(said) == "quay.io/team/tool:1.0"


def test_a_sandbox_that_was_not_pulled_from_a_registry_names_nothing(box):
    said = dict(sandbox.labels(box)) | {"org.label-schema.usage.singularity.deffile.bootstrap": "localimage"}
    assert sandbox.pulled_reference(said) == ""
    assert sandbox.pulled_reference({}) == ""


@pytest.mark.parametrize("content", [b"", b"[]", b"no", b"\xff", b"[" * 100_000])
def test_labels_that_are_no_table_say_nothing(box, content):
    (box / ".singularity.d" / "labels.json").write_bytes(content)
    assert sandbox.labels(box) == {}


def test_a_label_that_is_no_text_is_left_out(box):
    (box / ".singularity.d" / "labels.json").write_text('{"a": "b", "c": 1}')
    assert sandbox.labels(box) == {"a": "b"}
