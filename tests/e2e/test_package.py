"""Snakemake finds the plugin from an installed wheel and from a development install, and pays nothing for it."""

import hashlib
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.release import CATALOGUED, build

ROOT = Path(__file__).parents[2]
HEAVY = ("httpx", "pydantic", "jinja2", "rich", "click", "tenacity", "tomllib", "tomli_w", "filelock")
TEMPLATES = [path.name for path in (ROOT / "snakemake_apptainer_freshness/audit/render/page/templates").iterdir()]


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The folder of the built files, made with the build backend that is installed here."""
    folder = tmp_path_factory.mktemp("dist")
    build(folder)
    return folder


@pytest.fixture(scope="module")
def wheel(dist):
    return next(dist.glob("snakemake_apptainer_freshness*.whl"))


@pytest.fixture(scope="module")
def second(dist):
    """The wheel of the name that Snakemake's plugin catalog looks for."""
    return next(dist.glob("snakemake_report_plugin*.whl"))


def run(*command, **options):
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=300, **options)
    assert result.returncode == 0, f"{command}:\n{result.stdout}\n{result.stderr}"
    return result.stdout


def fresh_environment(folder):
    """A virtual environment that sees this one's packages, but not this project."""
    venv.create(folder, with_pip=False)
    purelib = run(folder / "bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    ours = run(sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # as a path alone: site.py follows no .pth file in it, so not a development install of this project either
    Path(purelib, "dependencies.pth").write_text(f"{ours}\n")
    return folder / "bin/python"


def install(python, *what):
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
    run(*pip, "--no-deps", "--no-build-isolation", *what)


def finds_the_plugin(python, folder):
    """Whether that Snakemake has the plugin and stops on a wrong value of the flag, which only the plugin knows."""
    assert "--report-html-path" in run(python, "-m", "snakemake", "--help")
    (folder / "Snakefile").write_text('rule a:\n    output: "a"\n    shell: "touch a"\n')
    command = [python, "-m", "snakemake", "--use-apptainer", "--dry-run", "--config", "apptainer_freshness=nonsense"]
    result = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    listed = run(
        python,
        "-c",
        "from snakemake_interface_report_plugins.registry import ReportPluginRegistry as R;"
        "print(R().get_registered_plugins())",
    )
    return (
        "apptainer_freshness cannot be 'nonsense'" in result.stderr + result.stdout and "apptainer-freshness" in listed
    )


def test_the_wheel_holds_all_packages_and_nothing_of_the_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}

    assert tops == {
        "snakemake_apptainer_freshness",
        "snakemake_report_plugin_apptainer_freshness",
        "snakemake_software_deployment_plugin_apptainer_freshness",
    }
    assert "snakemake_apptainer_freshness/py.typed" in names
    assert {f"snakemake_apptainer_freshness/audit/render/page/templates/{name}" for name in TEMPLATES} <= set(names)
    assert not any(name.startswith("snakemake_apptainer_freshness/plugin") for name in names)


def test_snakemake_finds_the_plugin_of_an_installed_wheel(wheel, tmp_path):
    python = fresh_environment(tmp_path / "env")
    assert not finds_the_plugin(python, tmp_path)
    install(python, wheel)

    assert finds_the_plugin(python, tmp_path)


def test_the_distribution_that_the_catalog_lists_has_no_code_and_brings_the_plugin(wheel, second, tmp_path):
    names = zipfile.ZipFile(second).namelist()
    python = fresh_environment(tmp_path / "env")
    install(python, wheel, second)
    asked = (
        f"from importlib.metadata import requires, version as v; print(v({CATALOGUED!r}), *requires({CATALOGUED!r}))"
    )

    assert all(".dist-info/" in name for name in names)
    assert run(python, "-c", asked).split() == ["0.1.0", "snakemake-apptainer-freshness==0.1.0"]
    assert finds_the_plugin(python, tmp_path)
    assert run(python.parent / "apptainer-freshness", "--version") == "apptainer-freshness 0.1.0\n"


def test_the_recipe_for_conda_has_the_hash_of_the_built_source(dist):
    source = next(dist.glob("snakemake_apptainer_freshness*.tar.gz"))

    assert hashlib.sha256(source.read_bytes()).hexdigest() in (dist / "conda/meta.yaml").read_text()


def test_snakemake_finds_the_plugin_of_a_development_install(tmp_path):
    python = fresh_environment(tmp_path / "env")
    install(python, "--editable", ROOT)

    assert finds_the_plugin(python, tmp_path)


def test_importing_the_plugin_package_loads_nothing_heavy():
    code = (
        "import sys, snakemake.cli; before = set(sys.modules);"
        "import snakemake_report_plugin_apptainer_freshness;"
        "print(*sorted(set(sys.modules) - before))"
    )
    loaded = run(sys.executable, "-c", code).split()

    assert "snakemake_apptainer_freshness.engine.install" in loaded
    assert not [name for name in loaded if name.split(".")[0] in HEAVY]
    assert len(loaded) < 12


def test_importing_the_library_loads_nothing_else():
    code = (
        "import sys; before = set(sys.modules); import snakemake_apptainer_freshness; print(set(sys.modules) - before)"
    )

    assert run(sys.executable, "-c", code).strip() == "{'snakemake_apptainer_freshness'}"


def test_a_broken_installation_of_ours_does_not_break_a_snakemake_that_does_not_ask_for_us(tmp_path):
    broken = tmp_path / "snakemake_apptainer_freshness"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise RuntimeError('half installed')\n")
    surroundings = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "snakemake", "--help"]

    run(*command, env=surroundings, cwd=tmp_path)
    result = subprocess.run(
        command,
        cwd=tmp_path,
        env=surroundings | {"SNAKEMAKE_APPTAINER_FRESHNESS": "lock"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "apptainer-freshness cannot be used: RuntimeError: half installed" in result.stderr
