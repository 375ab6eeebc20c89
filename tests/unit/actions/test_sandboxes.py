"""Sandbox folders: proven against layers like SIFs, and known from then on. With the real Apptainer."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_apptainer_freshness.actions import sandboxes
from snakemake_apptainer_freshness.actions.prove import Proof, prove
from snakemake_apptainer_freshness.actions.sandboxes import check_sandbox
from snakemake_apptainer_freshness.apptainer import sandbox
from snakemake_apptainer_freshness.settings import LIBRARY
from snakemake_apptainer_freshness.store import facts, places
from tests.support import proofs
from tests.support.images import Image
from tests.support.pins import forget_all
from tests.support.proofs import Served, environment, file, folder, hardlink, layer, pin_of, symlink

CONTENT = Image(
    layers=(
        layer(
            folder("bin"),
            file("bin/tool", "one", 0o755),
            symlink("bin/link", "tool"),
            hardlink("bin/hard", "bin/tool"),
            file("etc/owned", "x", 0o640, (33, 44)),
            folder("tmp", 0o1777),
        ),
    ),
    env=("PATH=/bin",),
)
PIN = pin_of(CONTENT)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return proofs.sandbox(CONTENT, tmp_path_factory.mktemp("original"))


@pytest.fixture
def box(original, tmp_path) -> Path:
    """A copy that no other test sees."""
    path = tmp_path / "box"
    shutil.copytree(original, path, symlinks=True)
    for source in original.rglob("*"):
        status = source.lstat()
        os.chown(path / source.relative_to(original), status.st_uid, status.st_gid, follow_symlinks=False)
    return path


@pytest.fixture
def unhurried(monkeypatch):
    """Times are trusted at once, which else takes minutes."""
    monkeypatch.setattr(sandboxes, "LIBRARY", LIBRARY._replace(settle=-60.0))


def judged(box: Path, content: Image = CONTENT) -> Proof:
    return prove(pin_of(content), box, registry=Served(content=content), environment=environment(box.parent / "home"))


def test_a_sandbox_that_apptainer_made_is_verified(box):
    proof = judged(box)
    assert (proof.state, proof.differences) == ("verified", ())
    assert proof.sha256 == sandbox.read(box).sha256


def test_it_is_known_from_then_on_wherever_it_lies_and_only_there_where_nothing_was_touched(box, tmp_path, unhurried):
    judged(box)
    assert check_sandbox(PIN, box).detail == "untouched since its SHA-256 was checked"
    other = box.rename(tmp_path / "moved")
    fact = check_sandbox(PIN, other)
    assert (fact.state, fact.detail.partition(" recorded")[0]) == ("verified", "its tree is the one")
    assert check_sandbox(PIN, other).detail == "untouched since its SHA-256 was checked"
    (other / "bin" / "tool").write_text("two")
    assert check_sandbox(PIN, other).state == "altered"


def test_times_that_are_young_are_not_trusted(box):
    judged(box)
    place = places.load(box)
    assert place is not None
    assert place.survey == ""
    assert check_sandbox(PIN, box).detail.startswith("its tree is the one recorded")


def test_a_sandbox_of_another_image_is_stale_and_stays_so(box):
    other = Image(layers=(layer(folder("bin"), file("bin/tool", "two", 0o755)),), env=("PATH=/bin",))
    assert judged(box, other).state == "stale"
    assert facts.about(pin_of(other))[0].refuted
    assert check_sandbox(pin_of(other), box).state == "stale"


def change(box: Path, what: str) -> None:
    tool = box / "bin" / "tool"
    match what:
        case "content":
            tool.write_text("two")
        case "mode":
            tool.chmod(0o4755)
        case "owner":
            os.chown(box / "etc" / "owned", 35, 44)
        case "link":
            (box / "bin" / "link").unlink()
            (box / "bin" / "link").symlink_to("hard")
        case "more":
            (box / "bin" / "more").write_text("x")
        case "less":
            tool.unlink()
        case "capability":
            os.setxattr(tool, "security.capability", bytes.fromhex("0100000200000400000000000000000000000000"))
        case "start":
            (box / ".singularity.d" / "actions" / "exec").write_text("#!/bin/sh\nexec /evil\n")
        case "kind":
            (box / "etc" / "owned").unlink()
            os.mkfifo(box / "etc" / "owned", 0o640)


CHANGES = ["content", "mode", "owner", "link", "more", "less", "capability", "start", "kind"]


@pytest.mark.parametrize("what", CHANGES)
def test_a_sandbox_that_differs_is_stale(box, what):
    change(box, what)
    assert judged(box).state == "stale"


@pytest.mark.parametrize("what", CHANGES)
def test_a_sandbox_that_changes_once_it_is_proven_is_not_known_any_more(box, what, unhurried):
    judged(box)
    change(box, what)
    assert check_sandbox(PIN, box).state in ("altered", "bound", "unbound")


def test_a_sandbox_that_anyone_may_write_proves_nothing(box):
    (box / "bin" / "tool").chmod(0o777)
    proof = judged(box)
    assert (proof.state, proof.detail) == ("unbound", "it cannot be compared: every user may write /bin/tool")
    assert check_sandbox(PIN, box).state == "unbound"


def test_a_site_may_know_a_sandbox_by_its_tree(box, tmp_path, monkeypatch):
    from snakemake_apptainer_freshness.store import sites
    from tests.support.stores import publish

    judged(box)
    [fact] = facts.about(PIN)
    forget_all()
    (tmp_path / "facts").mkdir(mode=0o755)
    publish(tmp_path / "facts", replace(fact))
    monkeypatch.setenv(sites.STORES, str(tmp_path / "facts"))
    monkeypatch.setenv(sites.OWNERS, str(os.geteuid()))
    known = check_sandbox(PIN, box)
    assert (known.state, known.store) == ("verified", str(tmp_path / "facts"))
