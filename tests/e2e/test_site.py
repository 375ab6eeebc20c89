"""The documentation site: it builds without a warning, has what people look for, and needs no network and no server."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from snakemake_apptainer_freshness import cli
from tests.support.browser import chromium
from tests.support.site import PUBLIC, SCHEMAS

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    surroundings = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(
        command, cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False, timeout=240
    )
    assert result.returncode == 0, result.stderr
    return folder


def test_it_has_four_parts_and_every_page_of_the_documentation(site):
    assert [next(iter(part)) for part in CONFIG["nav"]] == ["Start", "How-to", "Reference", "Explanation"]
    left_out = set(CONFIG["exclude_docs"].split())
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / f"{page.stem}.html").exists() != (page.name in left_out)


def test_the_reference_is_made_of_help_schemas_and_docstrings(site):
    commands = (site / "reference/commands.html").read_text()
    python = (site / "reference/python.html").read_text()

    assert all(f'id="{name}"' in commands for name in cli.COMMANDS)
    assert commands.count("Exit status: 0") > len(cli.COMMANDS)
    assert all(name.rpartition(".")[2] in python for name in PUBLIC)
    assert {path.name for path in (site / "schemas").iterdir()} == {path.name for path in SCHEMAS.glob("*.json")}


def test_a_page_loads_nothing_from_elsewhere_and_is_searched_from_a_folder(site):
    outside = []
    with chromium() as browser:
        page = browser.new_context(viewport={"width": 1300, "height": 900}).new_page()

        def watch(route):
            if route.request.url.startswith("file:"):
                route.continue_()
            else:
                outside.append(route.request.url)
                route.abort()

        page.route("**/*", watch)
        page.goto((site / "reference/schemas.html").as_uri())
        page.click("input.md-search__input")
        page.keyboard.type("quarantine")
        page.wait_for_function("document.querySelectorAll('.md-search-result__link').length > 0", timeout=30_000)
        found = page.locator(".md-search-result__link").first.get_attribute("href")

    assert outside == []
    assert found.startswith(site.as_uri())
    for path in site.rglob("*.html"):
        assert not re.search(r'(?:<script|<img|stylesheet)[^>]*(?:src|href)="https?://', path.read_text()), path


def test_its_addresses_are_those_of_the_distribution():
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]

    assert (CONFIG["repo_url"], CONFIG["site_url"]) == (urls["Repository"], urls["Documentation"])


def test_make_docs_is_strict():
    planned = subprocess.run(["make", "-n", "docs"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "mkdocs build --strict" in planned
