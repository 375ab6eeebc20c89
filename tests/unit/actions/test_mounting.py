"""What makes Apptainer slow is told with what to do."""

import os
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.mounting import mount_of, slowness

MOUNTS = """\
22 28 0:20 / /proc rw,nosuid shared:12 - proc proc rw
28 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
40 28 0:40 / /scratch rw shared:2 - lustre 10.0.0.1@tcp:/scratch rw
41 40 0:41 / /scratch/local\\040disk rw - xfs /dev/sdb rw
42 28 0:42 / /tmp rw - ext4 /dev/sdc rw
43 28 0:43 / /tmp rw - tmpfs tmpfs rw
broken
"""


@pytest.mark.parametrize(
    ("path", "file_system"),
    [
        ("/home/me", "ext4"),
        ("/scratch", "lustre"),
        ("/scratch/tmp", "lustre"),
        ("/scratchy", "ext4"),
        ("/scratch/local disk/tmp", "xfs"),
        ("/tmp/x", "tmpfs"),
    ],
)
def test_a_folder_lies_in_the_mount_that_is_nearest_and_on_top(path, file_system):
    assert mount_of(Path(path), MOUNTS).file_system == file_system


def test_where_nothing_is_mounted_nothing_is_said():
    assert mount_of(Path("/x"), "") is None


@pytest.fixture
def told(tmp_path):
    """The texts for a temporary folder on a file system, and a machine with these programs."""

    def tell(file_system="ext4", *, programs=("squashfuse_ll",), own=(), mounts=""):
        place = tmp_path / "libexec" / "apptainer" / "bin"
        place.mkdir(parents=True)
        path = tmp_path / "bin"
        path.mkdir()
        for program in (*(path / name for name in programs), *(place / name for name in own)):
            program.write_text("#!/bin/sh\n")
            program.chmod(0o755)
        apptainer = path / "apptainer"
        apptainer.write_text(
            f"#!/bin/sh\nif [ $1 = buildcfg ]; then echo PACKAGE_NAME=apptainer; echo LIBEXECDIR={tmp_path}/libexec\n"
            "else echo apptainer version 1.4.5; fi\n"
        )
        apptainer.chmod(0o755)
        file = tmp_path / "mountinfo"
        file.write_text(mounts or f"1 1 0:1 / / rw - {file_system} x rw\n")
        return [one.text for one in slowness({"PATH": str(path)}, tmp_path, file)]

    return tell


def test_a_local_disk_and_squashfuse_ll_are_fine(told):
    assert told() == []


@pytest.mark.parametrize("file_system", ["lustre", "nfs4", "fuse.beegfs"])
def test_a_temporary_folder_on_a_parallel_file_system_is_slow(told, file_system):
    [text] = told(file_system)
    assert text.endswith(f"which is on {file_system.removeprefix('fuse.')}: that takes long")


@pytest.mark.parametrize(("gigabytes", "is_told"), [(2, True), (64, False)])
def test_a_small_tmpfs_is_told_and_a_large_one_is_not(told, monkeypatch, gigabytes, is_told):
    size = os.statvfs_result((4096, 4096, gigabytes * 2**18, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: size)

    assert [f"a tmpfs of {gigabytes}.0 GiB" in text for text in told("tmpfs")] == [True] * is_told


def test_squashfuse_without_ll_is_slow(told):
    assert told(programs=["squashfuse"]) == [
        "Apptainer finds squashfuse and no squashfuse_ll: it reads images with one thread"
    ]


def test_no_squashfuse_is_slower(told):
    assert told(programs=[]) == ["Apptainer finds no squashfuse: it unpacks the whole image for each job"]


@pytest.mark.parametrize("own", ["squashfuse_ll", "starter-suid"])
def test_what_apptainer_brings_along_counts(told, own):
    assert told(programs=[], own=[own]) == []


def test_a_mount_table_that_cannot_be_read_and_a_missing_program_say_nothing(tmp_path):
    assert list(slowness({"PATH": str(tmp_path)}, tmp_path, tmp_path / "none")) == []
