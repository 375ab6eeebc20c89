"""Attacks through a mirror, one test each: whatever a place has, no image is made that the lock does not name.

With the real Apptainer; the registry of the images does not answer.
"""

from __future__ import annotations

import os

import pytest

from snakemake_apptainer_freshness.actions.elsewhere import VARIABLE, mirror_files
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import pull
from tests.support.bundles import saved
from tests.support.images import Image, multi_arch
from tests.support.machines import CONTENT, INDEX, Machine, dead
from tests.support.proofs import file, folder, layer, pin_of

EVIL = Image(layers=(layer(folder("bin"), file("bin/tool", "evil", 0o755)),))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(pull, "DISK", DISK._replace(pull_attempts=1))
    return Machine(tmp_path)


def refused(machine, reason):
    """That nothing is taken from the mirror, for a `reason` that is told, and nothing is left of it."""
    result = machine.fetch(dead(pin_of(INDEX)))
    assert result.error is not None
    assert any("not taken from" in note and reason in note for note in machine.notes), machine.notes
    assert list((machine.folder / "images").glob("*.simg*")) == []


def test_another_layer_under_the_name_of_the_right_one(machine):
    right = CONTENT.layers[0]
    machine.layout(lies={right.digest: right.content[:-1] + bytes([right.content[-1] ^ 1])})
    machine.mirrors("layout")
    refused(machine, "is not that")


def test_another_index_that_names_other_layers(machine):
    machine.layout(lies={INDEX.digest: multi_arch(EVIL, "s390x").manifest})
    machine.mirrors("layout")
    refused(machine, "is something else")


def test_another_manifest_that_names_other_layers(machine):
    machine.layout(lies={CONTENT.digest: EVIL.manifest})
    machine.mirrors("layout")
    refused(machine, "is something else")


def test_a_sound_bundle_of_another_image(machine):
    saved(EVIL, machine.folder / "evil")
    machine.mirrors("evil/all.tar")
    result = machine.fetch(dead(pin_of(INDEX)))

    assert result.error is not None
    assert list((machine.folder / "images").glob("*.simg*")) == []


def test_a_bundle_that_is_damaged(machine):
    path = saved(INDEX, machine.folder / "damaged")
    path.write_bytes(path.read_bytes()[:-700])
    machine.mirrors("damaged/all.tar")
    refused(machine, "it is cut short")


def test_a_huge_layer_is_refused_for_its_size(machine):
    layout = machine.layout()
    blob = layout / "blobs/sha256" / CONTENT.layers[0].digest.removeprefix("sha256:")
    os.truncate(blob, 1 << 36)
    machine.mirrors("layout")
    refused(machine, f"has {1 << 36} bytes in it")


@pytest.mark.parametrize("target", ["/dev/zero", "FIFO"])
def test_a_layer_that_has_no_end(machine, target):
    layout = machine.layout()
    blob = layout / "blobs/sha256" / CONTENT.layers[0].digest.removeprefix("sha256:")
    blob.unlink()
    if target == "FIFO":
        os.mkfifo(blob)
    else:
        blob.symlink_to(target)
    machine.mirrors("layout")
    refused(machine, "it lacks")


def test_a_mirror_file_in_the_folder_of_a_workflow_is_not_looked_for(machine, monkeypatch):
    monkeypatch.chdir(machine.folder)
    (machine.folder / "apptainer-freshness").mkdir()
    for name in ("mirrors.toml", "apptainer-freshness/mirrors.toml", "apptainer-freshness.toml"):
        (machine.folder / name).write_text('[[mirror]]\nprefix = ""\nplaces = ["docker://evil.example"]\n')
    del machine.environment[VARIABLE]
    found = mirror_files(machine.environment | {"XDG_CONFIG_DIRS": "."})

    assert [path for path in found if machine.folder in path.absolute().parents] == []


def test_a_manifest_as_large_as_memory(machine):
    layout = machine.layout()
    os.truncate(layout / "blobs/sha256" / INDEX.digest.removeprefix("sha256:"), 1 << 36)
    machine.mirrors("layout")
    result = machine.fetch(dead(pin_of(INDEX)))

    assert result.error is not None
