"""Snakemake's image folder."""

from __future__ import annotations

import pytest
from snakemake.deployment.singularity import Image

from snakemake_apptainer_freshness.common.files import quarantine
from snakemake_apptainer_freshness.common.locks import lock_path
from snakemake_apptainer_freshness.store import prefix, records
from snakemake_apptainer_freshness.store.prefix import ItemKind, folder, image_path, survey
from tests.support.pins import OTHER, pin, plant_record, put, record


class FakeDag:
    """As much of a DAG as :class:`Image` looks at."""

    class workflow:  # noqa: N801
        class persistence:  # noqa: N801
            container_img_path = "/images"


@pytest.mark.parametrize(
    "url", [pin().url, "docker://x", "library://team/tool:sha256." + "0" * 64, "https://example.org/ü.sif"]
)
def test_an_image_has_the_name_that_snakemake_gives_it(url):
    assert str(image_path("/images", url)) == Image(url, FakeDag, is_containerized=False).path


def test_the_folder_is_chosen_as_snakemake_does(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("DISK", "/disk")
    given = {"workdir": tmp_path, "environment": {"APPTAINER_CACHEDIR": "/cache"}}
    assert folder("/prefix", **given) == prefix.Path("/prefix")
    assert folder("images", **given) == tmp_path / "images"
    assert str(folder("~/images", **given)) == "/home/someone/images"
    assert str(folder("$DISK/images", **given)) == "/disk/images"
    assert str(folder(**given)) == "/cache"
    assert folder(workdir=tmp_path, environment={}) == tmp_path / ".snakemake/singularity"


def test_the_folder_agrees_with_snakemakes_own_settings(tmp_path, monkeypatch):
    from snakemake.settings.types import DeploymentSettings

    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("APPTAINER_CACHEDIR", "~/cache")
    assert str(folder(workdir=tmp_path)) == str(DeploymentSettings().apptainer_prefix)
    assert str(folder("~/images", workdir=tmp_path)) == str(
        DeploymentSettings(apptainer_prefix="~/images").apptainer_prefix
    )


def test_every_file_in_the_folder_is_told_apart(tmp_path):
    wanted, other = pin(), pin(OTHER)
    image = put(tmp_path, wanted)
    put(tmp_path, other)
    aside = quarantine(put(tmp_path, wanted))
    assert aside is not None
    image = put(tmp_path, wanted)
    for name in ("notes.txt", "0" * 32 + ".simg.bak", "x.simg", "cache"):
        (tmp_path / name).touch()
    lock_path(image).touch()
    plant_record(image, wanted)
    (tmp_path / f"{image.name}.partial-host-1-00000000").touch()
    (tmp_path / prefix.INDEX).touch()
    (tmp_path / ".freshness-clock-host-1-00000000").touch()

    found = {item.path.name: item for item in survey(tmp_path, [wanted.url])}

    assert found[image.name].kind is ItemKind.IMAGE
    assert found[image.name].urls == (wanted.url,)
    assert found[image_path(tmp_path, other.url).name].urls == ()
    assert found[records.path_of(image).name].kind is ItemKind.RECORD
    assert found[aside.name].kind is ItemKind.QUARANTINE
    assert found[lock_path(image).name].kind is ItemKind.LOCK
    assert found[f"{image.name}.partial-host-1-00000000"].kind is ItemKind.PARTIAL
    assert found[prefix.INDEX].kind is ItemKind.INDEX
    assert found[".freshness-clock-host-1-00000000"].kind is ItemKind.PARTIAL
    assert {name for name, item in found.items() if item.kind is ItemKind.FOREIGN} == {
        "notes.txt", "0" * 32 + ".simg.bak", "x.simg", "cache",
    }  # fmt: skip


def test_no_folder_has_nothing_in_it(tmp_path):
    assert list(survey(tmp_path / "none")) == []


def test_snakemakes_clean_up_deletes_none_of_our_files(tmp_path):
    image = put(tmp_path, pin())
    record(image, pin())
    lock_path(image).touch()
    aside = quarantine(put(tmp_path, pin()))
    assert list(tmp_path.glob("*.simg")) == []
    assert aside is not None
    assert aside.exists()
