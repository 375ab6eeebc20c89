"""A site's policies are found wherever a workflow cannot move them to."""

import os

import pytest

from snakemake_apptainer_freshness.actions import site
from snakemake_apptainer_freshness.actions.site import VARIABLE, site_files
from snakemake_apptainer_freshness.errors import InvalidPolicy, LocalIOError


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Every place where a policy may lie, under names of its own; nothing is there yet."""
    system = tmp_path / "etc" / "apptainer-freshness" / "policy.toml"
    monkeypatch.setattr(site, "SYSTEM", system)
    return {
        "system": system,
        "config folder": tmp_path / "xdg" / "apptainer-freshness" / "policy.toml",
        "snakefile": tmp_path / "workflow" / "apptainer-freshness.toml",
        "lock": tmp_path / "elsewhere" / "apptainer-freshness.toml",
        "variable": tmp_path / "named.toml",
    }


def found(tmp_path, **environment):
    return site_files(
        tmp_path / "elsewhere" / "containers.lock",
        tmp_path / "workflow" / "Snakefile",
        environment={"XDG_CONFIG_DIRS": f"relative:{tmp_path}/xdg", **environment},
    )


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


@pytest.mark.parametrize("place", ["system", "config folder", "snakefile", "lock"])
def test_each_place_is_looked_at(places, tmp_path, place):
    assert found(tmp_path) == ()
    assert found(tmp_path, **{VARIABLE: ""}) == ()
    assert found(tmp_path) != (write(places[place]),)
    assert found(tmp_path) == (places[place],)


def test_the_environment_names_one_or_several(places, tmp_path):
    write(places["variable"])
    write(places["system"])
    other = write(tmp_path / "other.toml")
    named = f"{places['variable']}:{other}"
    assert found(tmp_path, **{VARIABLE: named}) == (places["variable"], other, places["system"])


def test_a_policy_that_the_environment_names_and_that_is_not_there_is_an_error(places, tmp_path):
    with pytest.raises(InvalidPolicy, match=VARIABLE):
        found(tmp_path, **{VARIABLE: str(places["variable"])})


def test_one_file_under_two_names_is_one_policy(places, tmp_path):
    write(places["lock"])
    places["snakefile"].parent.mkdir()
    places["snakefile"].symlink_to(places["lock"])
    assert len(found(tmp_path)) == 1


def test_no_folder_of_the_environment_hides_the_systems_own(places, tmp_path):
    write(places["system"])
    assert found(tmp_path, XDG_CONFIG_DIRS="/nowhere") == (places["system"],)


def test_a_place_that_cannot_be_looked_at_is_an_error_and_not_no_policy(places, tmp_path, monkeypatch):
    lstat = os.lstat

    def refusing(path, *args, **options):
        if str(path).endswith("xdg/apptainer-freshness/policy.toml"):
            raise PermissionError(13, "Permission denied", str(path))
        return lstat(path, *args, **options)

    monkeypatch.setattr(os, "lstat", refusing)
    monkeypatch.setattr(type(tmp_path), "lstat", refusing)
    with pytest.raises(LocalIOError, match="cannot look for a policy"):
        found(tmp_path)
