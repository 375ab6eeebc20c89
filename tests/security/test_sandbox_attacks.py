"""A job that writes into the sandbox folder that it runs in: whatever it leaves there, its outputs are not taken.

The sandbox is the real Apptainer's, proven against its layers; the look before the job and the look after it are those
of a run.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from snakemake_apptainer_freshness.actions.library_images import look_again
from snakemake_apptainer_freshness.actions.prove import prove
from snakemake_apptainer_freshness.engine.messages import ContainerFreshnessError
from snakemake_apptainer_freshness.store import facts, image_library
from tests.support import proofs
from tests.support.images import Image
from tests.support.proofs import Served, environment, file, folder, layer, pin_of
from tests.support.watched import SandboxRun

CONTENT = Image(layers=(layer(folder("bin"), file("bin/tool", "one", 0o755), folder("empty")),), env=("PATH=/bin",))
PIN = pin_of(CONTENT)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return proofs.sandbox(CONTENT, tmp_path_factory.mktemp("original"))


@pytest.fixture
def found(original, tmp_path) -> Path:
    """A sandbox in a library, which was proven and found there."""
    shelf = tmp_path / "library"
    path = shelf / "box"
    shutil.copytree(original, path, symlinks=True)
    proof = prove(PIN, path, registry=Served(content=CONTENT), environment=environment(tmp_path / "home"))
    assert proof.state == "verified"
    image_library.remember(PIN, path)
    return path


def times_restored(path: Path, harm: Any) -> None:
    """Do `harm`, and put the times of `path` back as far as a user can."""
    before = path.stat()
    harm()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def written_over(box: Path) -> None:
    tool = box / "bin/tool"
    times_restored(tool, lambda: tool.write_text("two"))


def written_over_and_put_back(box: Path) -> None:
    tool = box / "bin/tool"

    def both() -> None:
        tool.write_text("two")
        tool.write_text("one")

    times_restored(tool, both)


def swapped_and_swapped_back(box: Path) -> None:
    tool, aside = box / "bin/tool", box / "bin/aside"
    tool.rename(aside)
    tool.write_text("two")
    aside.replace(tool)
    os.utime(box / "bin", (1, 1))


def file_added_and_removed(box: Path) -> None:
    times_restored(box / "empty", lambda: ((box / "empty/new").write_text("x"), (box / "empty/new").unlink()))


def file_added(box: Path) -> None:
    (box / "empty/new").write_text("x")


def mode_changed_and_put_back(box: Path) -> None:
    (box / "bin/tool").chmod(0o4755)
    (box / "bin/tool").chmod(0o755)


def link_beside(box: Path) -> None:
    (box / "bin/other").symlink_to("/evil")


def whole_folder_swapped_and_swapped_back(box: Path) -> None:
    box.rename(box.with_name("kept"))
    shutil.copytree(box.with_name("kept"), box, symlinks=True)
    shutil.rmtree(box)
    box.with_name("kept").rename(box)


def whole_folder_replaced_by_a_copy(box: Path) -> None:
    box.rename(box.with_name("kept"))
    shutil.copytree(box.with_name("kept"), box, symlinks=True)


def opened_to_everybody(box: Path) -> None:
    (box / "bin/tool").chmod(0o777)


def removed(box: Path) -> None:
    shutil.rmtree(box)


def replaced_by_a_link(box: Path) -> None:
    box.rename(box.with_name("kept"))
    box.symlink_to("kept")


ATTACKS = [
    written_over, written_over_and_put_back, swapped_and_swapped_back, file_added, file_added_and_removed,
    mode_changed_and_put_back, opened_to_everybody, link_beside, whole_folder_swapped_and_swapped_back,
    whole_folder_replaced_by_a_copy, removed, replaced_by_a_link,
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_a_job_that_writes_into_its_sandbox_while_it_runs(found, attack):
    run = SandboxRun(PIN, found)
    attack(found)
    with pytest.raises(ContainerFreshnessError, match="while the job ran"):
        run.end()
    assert run.dag.taken == []


def test_a_job_that_leaves_its_sandbox_alone_has_its_outputs(found):
    run = SandboxRun(PIN, found)
    assert (found / "bin/tool").read_text() == "one"
    assert [path.name for path in (found / "bin").iterdir()] == ["tool"]
    assert run.end() == [run.job]


def test_it_is_looked_at_though_its_files_are_too_young_for_their_times_to_be_trusted(found):
    """The hash is then read before the job, and the key of that reading is what counts after it."""
    assert look_again(PIN, [found.parent]).known.survey == ""
    assert facts.about(PIN)
    run = SandboxRun(PIN, found)
    written_over_and_put_back(found)
    with pytest.raises(ContainerFreshnessError):
        run.end()
