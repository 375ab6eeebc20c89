"""Whether images can be mounted, and what makes that slow, is told with what to do, by program and version."""

import os
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions.mounting import KIND, cannot_mount, mount_of, slowness
from tests.support.fake_apptainer import FakeApptainer

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

    def tell(file_system="ext4", *, programs=("squashfuse_ll",), own=(), said="apptainer version 1.4.5", **variables):
        family = said.partition(" ")[0].removesuffix("-ce")
        place = tmp_path / "libexec" / family / "bin"
        place.mkdir(parents=True)
        path = tmp_path / "bin"
        path.mkdir()
        for program in (*(path / name for name in programs), *(place / name for name in own)):
            program.write_text("#!/bin/sh\n")
            program.chmod(0o755)
        installed = path / family
        installed.write_text(
            f"#!/bin/sh\nif [ $1 = buildcfg ]; then echo PACKAGE_NAME={family}; echo LIBEXECDIR={tmp_path}/libexec\n"
            f"else echo {said}; fi\n"
        )
        installed.chmod(0o755)
        file = tmp_path / "mountinfo"
        file.write_text(f"1 1 0:1 / / rw - {file_system} x rw\n")
        found = list(slowness({"PATH": str(path), **variables}, tmp_path, file))
        tell.hints = [one.hint for one in found]
        return [one.text for one in found]

    return tell


def test_a_local_disk_and_squashfuse_ll_are_fine(told):
    assert told() == []


@pytest.mark.parametrize("file_system", ["lustre", "nfs4", "fuse.beegfs"])
def test_a_temporary_folder_on_a_parallel_file_system_is_slow(told, file_system):
    [text] = told(file_system)
    assert text.endswith(f"which is on {file_system.removeprefix('fuse.')}: that takes long")


@pytest.mark.parametrize(
    ("said", "variable"),
    [("apptainer version 1.4.5", "APPTAINER_TMPDIR"), ("singularity-ce version 4.1.0", "SINGULARITY_TMPDIR")],
)
def test_another_temporary_folder_is_named_by_the_variable_of_the_program(told, said, variable):
    told("nfs4", said=said)
    assert told.hints == [f"set {variable} to a folder on a local disk"]


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


WITHOUT_PRIVILEGES = [  # what is said; what unpacks; whether FUSE that fails is a problem, slow, or nothing
    ("apptainer version 1.0.3", (), None),
    ("apptainer version 1.1.0", ("APPTAINER_UNSQUASH", "SINGULARITY_UNSQUASH"), "fuse"),
    ("apptainer version 1.4.5", ("APPTAINER_UNSQUASH", "SINGULARITY_UNSQUASH"), "fuse"),
    ("apptainer version 1.5.3", ("APPTAINER_UNSQUASH", "SINGULARITY_UNSQUASH"), "fuse"),
    ("singularity-ce version 3.8.7", (), None),
    ("singularity-ce version 3.11.5", (), None),
    ("singularity-ce version 4.0.3", (), None),
    ("singularity-ce version 4.1.0", ("SINGULARITY_TMP_SANDBOX",), KIND),
    ("singularity-ce version 4.5.1", ("SINGULARITY_TMP_SANDBOX",), KIND),
]
"""Read in the sources of Apptainer 1.0.0 to 1.5.3 and SingularityCE 3.8.0 to 4.5.1: the flags ``--unsquash`` and
``--tmp-sandbox`` with their variables, and what is done where no image can be mounted."""
SWITCHES = ("APPTAINER_UNSQUASH", "SINGULARITY_UNSQUASH", "APPTAINER_TMP_SANDBOX", "SINGULARITY_TMP_SANDBOX")


@pytest.mark.parametrize(("said", "switches", "kind"), WITHOUT_PRIVILEGES)
def test_a_device_that_cannot_be_opened_matters_by_program_and_version(tmp_path, said, switches, kind):
    name = said.partition(" ")[0].removesuffix("-ce")
    fake = FakeApptainer(tmp_path / "fake", name=name, version=said)
    environment = {"PATH": f"{tmp_path}/fake/bin:/usr/bin:/bin"}
    problem = cannot_mount(environment, tmp_path / "fuse")

    assert (problem and problem.kind) == kind
    assert [switch for switch in SWITCHES if problem and f"{switch}=1" in problem.hint] == list(switches[:1])
    for switch in SWITCHES if kind else ():
        told = cannot_mount(environment | {switch: "true"}, tmp_path / "fuse")
        assert (told is None) is (switch in switches)
    (fake.temporary / "fuse").touch()
    assert cannot_mount(environment, fake.temporary / "fuse") is None


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("apptainer version 1.0.3", "this Apptainer mounts no image without privileges"),
        ("apptainer version 1.1.0", "Apptainer finds no squashfuse"),
        ("singularity-ce version 4.0.3", "this SingularityCE mounts no image without privileges"),
        ("singularity-ce version 4.1.0", "SingularityCE finds no squashfuse"),
    ],
)
def test_a_program_that_unpacks_each_image_is_slow(told, said, text):
    assert told(programs=[], said=said) == [f"{text}: it unpacks the whole image for each job"]


@pytest.mark.parametrize("said", ["apptainer version 1.0.3", "singularity-ce version 4.0.3"])
def test_squashfuse_does_not_help_a_program_that_mounts_nothing(told, said):
    assert len(told(said=said)) == 1


@pytest.mark.parametrize("said", ["apptainer version 1.0.3", "singularity-ce version 4.0.3"])
def test_the_setuid_starter_helps_each_program(told, said):
    assert told(said=said, own=["starter-suid"]) == []


@pytest.mark.parametrize(
    ("said", "switch"),
    [("apptainer version 1.4.5", "APPTAINER_UNSQUASH"), ("singularity-ce version 4.1.0", "SINGULARITY_TMP_SANDBOX")],
)
def test_what_is_unpacked_because_that_is_wanted_is_not_told(told, said, switch):
    assert told(programs=[], said=said, **{switch: "1"}) == []


def test_a_switch_that_the_program_does_not_know_changes_nothing(told):
    assert told(programs=[], said="singularity-ce version 4.1.0", SINGULARITY_UNSQUASH="1") != []


def test_without_a_program_nothing_is_said_of_the_device(tmp_path):
    assert cannot_mount({"PATH": str(tmp_path)}, tmp_path / "fuse") is None
