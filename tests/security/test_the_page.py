"""docs/security.md speaks of attacks that are played, and of every file of them."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = re.compile(r"`(?P<file>tests/[\w/]+\.py)(?:::(?P<test>\w+))?`")


def functions_in(path):
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("match", [*NAMED.finditer(PAGE)], ids=lambda match: match[0].strip("`"))
def test_every_attack_that_the_page_names_is_played(match):
    path = ROOT / match["file"]

    assert path.is_file()
    assert match["test"] is None or match["test"] in functions_in(path)


def test_every_file_of_attacks_is_named_on_the_page():
    files = {f"tests/security/{path.name}" for path in (ROOT / "tests" / "security").glob("test_*.py")}

    assert files - {match["file"] for match in NAMED.finditer(PAGE)} == {f"tests/security/{Path(__file__).name}"}


def test_every_section_about_an_attacker_says_what_is_not_answered_or_who_plays_it():
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    attackers = [one for one in sections if not one.startswith(("Two words", "Never answered"))]

    assert len(attackers) > 10
    assert [one.splitlines()[0] for one in attackers if "*Played by*" not in one] == []
