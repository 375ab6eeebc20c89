"""What README.md and docs/ say is true: their commands run, and their tables are those of the program."""

import re
import subprocess
import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml

from snakemake_apptainer_freshness import CONFIG_KEY, ENVIRONMENT_VARIABLE
from snakemake_apptainer_freshness.settings import LIMITS, Mode, Options, parse_options

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language=""):
    """The fenced blocks of `language` in a page."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [text for said, text in found if said == language]


def test_make_demo_works_as_the_readme_says(tmp_path):
    assert "make demo\nmake test\n" in blocks(ROOT / "README.md")
    result = subprocess.run(["make", "demo"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)

    assert result.returncode == 0, result.stdout + result.stderr
    for step in ("(a)", "(b)", "(c)", "(d)"):
        assert step in result.stdout
    assert "\nThe container that ran is the one that was named.\n" in result.stdout


def test_make_test_is_what_runs_the_tests():
    planned = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "-m pytest" in planned
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_package_to_install_is_this_one():
    name = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]

    assert f"pip install {name}\n" in blocks(ROOT / "README.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_yaml_block_with_the_flag_is_accepted(page):
    for block in blocks(page, "yaml"):
        document = yaml.safe_load(block)
        if isinstance(document, dict) and CONFIG_KEY in document:
            parse_options(document[CONFIG_KEY], source=page.name)


def test_the_mapping_in_the_docs_has_every_option_with_its_default():
    [mapping] = [
        document[CONFIG_KEY]
        for block in blocks(ROOT / "docs" / "further.md", "yaml")
        if isinstance((document := yaml.safe_load(block))[CONFIG_KEY], dict)
    ]

    assert list(mapping) == [field.name for field in fields(Options)]
    assert mapping["timeout"] == LIMITS.read_timeout
    assert replace(parse_options(mapping, source="docs"), timeout=None) == Options()


def test_the_tables_of_options_and_modes_are_complete():
    text = (ROOT / "docs" / "modes.md").read_text()

    for field in fields(Options):
        assert f"| `{field.name}` |" in text
    for mode in Mode:
        assert f"| `{mode}`" in text
    assert ENVIRONMENT_VARIABLE in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_inside_the_repository_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_toml_of_the_lock_file_has_the_keys_of_the_program():
    from snakemake_apptainer_freshness.lockfile import Entry

    for page in (ROOT / "README.md", ROOT / "docs" / "lockfile.md"):
        [block] = blocks(page, "toml")
        [entry] = tomllib.loads(block)["image"]
        assert set(entry) <= {field.name for field in fields(Entry)}
    assert all(f"| `{field.name}` |" in (ROOT / "docs" / "lockfile.md").read_text() for field in fields(Entry))


def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name]


def test_no_file_names_a_package_host_or_a_path_of_this_machine():
    hosts = ["pypi" + ".org", "pythonhosted" + ".org", "debian" + ".org", "npmjs" + ".org", "npmjs" + ".com"]
    paths = [f"{ROOT.parent}/"] if len(ROOT.parts) > 2 else []
    for path in tracked():
        text = path.read_text(errors="replace")
        assert [word for word in (*hosts, *paths) if word in text] == [], path


def test_the_top_level_holds_what_the_design_says_and_nothing_else():
    tops = {path.relative_to(ROOT).parts[0] for path in tracked()}

    assert tops <= {
        *("snakemake_apptainer_freshness", "workflows", "tests", "docs", ".ci"),
        *("pyproject.toml", "Makefile", "mkdocs.yml", "action.yml", ".gitignore", ".github"),
        *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "LICENSE", "CHANGELOG.md"),
        ".pre-commit-hooks.yaml",  # pre-commit looks for it there alone
    }
