"""Images from mirrors of every kind, and which places are asked when. With the real Apptainer."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.actions.elsewhere import VARIABLE, Elsewhere, load_mirrors, mirror_files
from snakemake_apptainer_freshness.errors import InvalidSettings, LocalIOError
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.settings import DISK
from snakemake_apptainer_freshness.store import pull
from tests.support import images, pins, sifs
from tests.support.bundles import saved
from tests.support.digests import sha256
from tests.support.images import Image
from tests.support.lab import Lab
from tests.support.machines import CONTENT, INDEX, Machine, dead
from tests.support.proofs import REPOSITORY, file, folder, layer, pin_of
from tests.support.registry import RealRegistry

OTHER = Image(layers=(layer(folder("bin"), file("bin/tool", "evil", 0o755)),))
SIF = sifs.pulled("", labels={})
PREFIX, REST = REPOSITORY.rsplit("/", 1)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(pull, "DISK", DISK._replace(pull_attempts=1))
    return Machine(tmp_path)


def test_a_local_layout_is_taken_before_the_registry_is_asked(machine):
    machine.mirrors("layout")
    machine.layout()
    result = machine.fetch(pin_of(INDEX))

    assert (result.error, result.fact.state) == (None, "verified")
    assert result.fact.detail == "built from the layers that its digest names"
    assert f"taken from {machine.folder / 'layout'}" in machine.notes
    assert machine.having(pin_of(INDEX)) == [str(machine.folder / "layout")]


def test_a_bundle_is_a_mirror(machine):
    saved(INDEX, machine.folder / "saved")
    machine.mirrors("saved/all.tar")

    assert machine.fetch(pin_of(INDEX)).fact.state == "verified"
    assert machine.having(pin_of(INDEX)) == [str(machine.folder / "saved/all.tar")]


def test_a_layout_that_lacks_a_layer_is_passed_over_for_the_next_place(machine):
    machine.layout("poor", lacks=[CONTENT.layers[0].digest])
    machine.layout("rich")
    machine.mirrors("poor", "rich")

    assert machine.fetch(pin_of(INDEX)).fact.state == "verified"
    assert f"not taken from {machine.folder / 'poor'}: it lacks {CONTENT.layers[0].digest}" in machine.notes
    assert machine.having(pin_of(INDEX)) == [str(machine.folder / "rich")]


def test_another_registry_has_what_the_first_one_has_lost(machine, tmp_path):
    with RealRegistry(tmp_path / "registry") as registry:
        images.push(INDEX, registry.host, "copies/tool", "1.0")
        machine.mirrors(f"docker://{registry.host}/copies", prefix="127.0.0.1:1/team")
        wanted = dead(pin_of(INDEX))
        result = machine.fetch(wanted)

        assert (result.error, result.fact.state) == (None, "verified")
        assert f"taken from docker://{registry.host}/copies" in machine.notes
        assert machine.having(wanted) == [f"docker://{registry.host}/copies"]


def test_where_no_place_has_it_the_error_is_that_of_the_registry(machine):
    machine.mirrors("nothing", "docker://127.0.0.1:1/other")
    result = machine.fetch(dead(pin_of(INDEX)))

    assert "cannot pull docker://127.0.0.1:1/team/tool" in result.error.message
    assert machine.having(dead(pin_of(INDEX))) == []
    assert list((machine.folder / "images").glob("*.simg*")) == []


def test_a_file_on_a_web_server_is_an_image_that_is_pinned_by_its_hash(machine, tmp_path):
    digest = Digest.of(SIF)
    url = f"library://team/tool:sha256.{digest.hex}"
    wanted = replace(pins.pin(digest, None), reference=parse(url), pinned=parse(url), content=digest)
    with Lab(tmp_path / "lab") as lab:
        server = lab.registry("registry.example")
        machine.environment |= {"SSL_CERT_FILE": lab.environ["SSL_CERT_FILE"]}
        machine.mirrors(server.serve("/other.sif", SIF[:-1] + b"!"), server.serve("/tool.sif", SIF))
        with Elsewhere(machine.environment) as elsewhere:
            target = tmp_path / "image.simg"
            obtained = _obtain(elsewhere, wanted, target, machine.notes)

        assert target.read_bytes() == SIF
        assert obtained.sha256 == hashlib.sha256(SIF).hexdigest()
        assert any("not taken from" in note and "other.sif" in note for note in machine.notes)
        assert len(machine.having(wanted)) == 2


def test_a_layout_on_a_web_server_has_the_layers(machine, tmp_path):
    with Lab(tmp_path / "lab") as lab:
        server = lab.registry("registry.example")
        for blob in (INDEX.manifest, CONTENT.manifest, *CONTENT.blobs):
            url = server.serve(f"/layout/blobs/sha256/{sha256(blob).removeprefix('sha256:')}", blob)
        machine.environment |= {"SSL_CERT_FILE": lab.environ["SSL_CERT_FILE"]}
        machine.mirrors(url.partition("blobs/")[0])
        with Elsewhere(machine.environment) as elsewhere:
            obtained = _obtain(elsewhere, pin_of(INDEX), tmp_path / "image.simg", machine.notes)

        assert obtained.proven_by.text == "built from the layers that its digest names"
        assert machine.having(pin_of(INDEX)) == [url.partition("blobs/")[0]]


def _obtain(elsewhere, wanted, target, notes):
    import threading

    from snakemake_apptainer_freshness.apptainer.program import Apptainer

    program = Apptainer.find(elsewhere._environment)
    options = {"program": lambda: program, "stop": threading.Event(), "note": notes.append}
    assert elsewhere.obtain(wanted, target, local=True, **options) is None
    return elsewhere.obtain(wanted, target, local=False, **options)


# --- Which files name mirrors ----------------------------------------------------------------------------------


def test_files_are_those_of_the_environment_the_user_and_the_system(tmp_path):
    user, system = tmp_path / "user", tmp_path / "system"
    for root in (user, system):
        (root / "apptainer-freshness").mkdir(parents=True)
        (root / "apptainer-freshness" / "mirrors.toml").touch()
    named = tmp_path / "named.toml"
    found = mirror_files(
        {VARIABLE: str(named), "XDG_CONFIG_HOME": str(user), "XDG_CONFIG_DIRS": f"relative:{system}", "HOME": "/"}
    )

    assert found[:3] == [
        named,
        user / "apptainer-freshness/mirrors.toml",
        system / "apptainer-freshness/mirrors.toml",
    ]


def test_a_file_that_the_environment_names_has_to_be_there(tmp_path):
    with pytest.raises(LocalIOError, match=r"cannot read the mirrors in .*none\.toml"):
        load_mirrors({VARIABLE: str(tmp_path / "none.toml"), "HOME": str(tmp_path)})


@pytest.mark.parametrize("content", [b"\xff", b"x" * (1 << 17)], ids=["bytes", "large"])
def test_a_file_that_is_none_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "m.toml").write_bytes(content)
    with pytest.raises(InvalidSettings, match=r"cannot use the mirrors in .*m\.toml"):
        load_mirrors({VARIABLE: str(tmp_path / "m.toml"), "HOME": str(tmp_path)})


def test_without_mirrors_nothing_is_asked(tmp_path):
    with Elsewhere({"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path)}) as elsewhere:
        assert elsewhere.having(pin_of(INDEX)) == []
