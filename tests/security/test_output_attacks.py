"""An output that is no file: a device has no end, a FIFO no other side. Neither is read, at the end of a job or later.

Each test is the attack that its name says.
"""

import os

import pytest

from snakemake_apptainer_freshness.audit import disk
from snakemake_apptainer_freshness.engine.recording import _output
from snakemake_apptainer_freshness.record.run import OutputRecord

HEX = "a" * 64


@pytest.fixture(params=["device", "fifo", "link to a device"])
def special(request, tmp_path):
    """What stands where an output should be."""
    if request.param == "device":
        return "/dev/zero"
    path = tmp_path / "out.txt"
    os.mkfifo(path) if request.param == "fifo" else path.symlink_to("/dev/zero")
    return str(path)


@pytest.fixture
def opened(monkeypatch):
    """The files that are opened from now on."""
    opens, real = [], os.open
    monkeypatch.setattr(os, "open", lambda path, *rest, **more: (opens.append(str(path)), real(path, *rest, **more))[1])
    return opens


def test_output_that_is_a_device_is_not_opened_when_its_job_ends(special, opened):
    left = _output(special)
    assert (left.size, left.sha256) == (0, "")
    assert special not in opened


def test_output_that_is_a_device_is_not_hashed_by_an_audit(special, opened, tmp_path):
    recorded = OutputRecord(path=special, size=0, mtime_ns=1, sha256=HEX)
    seen = disk.look(tmp_path, {special: recorded})[special]
    assert (seen.exists, seen.problem, seen.sha256) == (True, "it is neither a file nor a folder", "")
    assert special not in opened


def test_output_that_becomes_a_device_between_look_and_hash(tmp_path, monkeypatch):
    path = tmp_path / "out.txt"
    path.write_bytes(b"abc")
    status = path.stat()
    path.unlink()
    path.symlink_to("/dev/zero")
    monkeypatch.setattr(os, "stat", lambda *_args, **_options: status)
    seen = disk.look(tmp_path, {"out.txt": OutputRecord(path="out.txt", size=3, mtime_ns=1, sha256=HEX)})["out.txt"]
    assert seen.problem == "it is neither a file nor a folder"
    assert _output(path).sha256 == ""
