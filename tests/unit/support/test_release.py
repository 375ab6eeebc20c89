"""The files of a release that say again what pyproject.toml says."""

import subprocess
import tomllib

import jinja2
import pytest
import yaml

from tests.support.release import CATALOGUED, RECIPE, conda_requirements, files, project, recipe
from tests.support.rooms import ROOT


@pytest.mark.parametrize(("path", "text"), files().items(), ids=lambda value: getattr(value, "name", ""))
def test_each_file_is_current(path, text):
    assert path.read_text(encoding="utf-8") == text, "run: python -m tests.support.release"


def test_the_address_of_the_project_is_that_of_pyproject_toml_wherever_it_stands():
    address = project()["urls"]["Repository"]
    pattern = r"https?://[a-z.]+/snakemake-apptainer-freshness\b"
    tracked = subprocess.run(["git", "grep", "-hIoE", pattern], cwd=ROOT, capture_output=True, text=True, check=True)

    assert set(tracked.stdout.split()) == {address}
    assert all(url.startswith(address) for url in project()["urls"].values())
    assert set(project()["urls"]) == {"Repository", "Documentation", "Changelog"}


def rendered(text):
    """The recipe as conda reads it: Jinja first, then YAML."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=True)
    functions = {"PYTHON": "python", "pin_subpackage": lambda name, max_pin: f"{name} {max_pin}"}
    return yaml.safe_load(environment.from_string(text).render(**functions))


def test_the_recipe_has_what_the_linter_of_bioconda_asks_for():
    read = rendered(recipe(project(), "a" * 64))

    assert read["source"]["sha256"] == "a" * 64
    assert read["source"]["url"].endswith("snakemake_apptainer_freshness-0.1.0.tar.gz")
    assert (read["build"]["noarch"], read["build"]["number"]) == ("python", 0)
    assert read["build"]["run_exports"] == ["snakemake-apptainer-freshness x.x"]
    assert {"home", "license", "license_file", "summary"} <= set(read["about"])
    assert read["test"]["imports"]
    assert read["test"]["commands"]
    assert len(read["requirements"]["run"]) == 1 + len(project()["dependencies"])


def test_the_recipe_of_the_repository_has_no_hash_of_what_is_not_built_yet():
    assert rendered(RECIPE.read_text())["source"]["sha256"] is None


def test_a_requirement_is_written_as_conda_does():
    assert list(conda_requirements({"dependencies": ["snakemake>=9,<10"]})) == ["snakemake-minimal >=9,<10"]
    with pytest.raises(ValueError, match="cannot have the requirement"):
        list(conda_requirements({"dependencies": ["x[extra]>=1"]}))


def test_the_second_distribution_is_listed_by_its_name_and_brings_the_first():
    [text] = [text for path, text in files().items() if path.name == "pyproject.toml"]
    second, first = tomllib.loads(text)["project"], project()

    assert second["name"] == CATALOGUED
    assert second["dependencies"] == [f"{first['name']}=={first['version']}"]
    assert second["urls"] == first["urls"]
