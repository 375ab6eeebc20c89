"""The text of a pull request: each image platform by platform, and nothing of an image can pass for ours."""

import re
from dataclasses import replace

import pytest

from snakemake_apptainer_freshness.actions.labels import Details
from snakemake_apptainer_freshness.cli.lock_markdown import code, lines
from tests.support.lock_plans import NEW, OLD, SAID, TOOL, everything, workflow


def text_of(details=SAID):
    return "\n".join(lines(workflow(), everything(workflow()), details, written=True))


def test_an_image_has_its_digests_whole_and_what_becomes_of_each_platform():
    text = text_of()

    assert f"### updated `{TOOL}`" in text
    assert f"| digest | `{OLD}` | `{NEW}` |" in text
    assert re.search(r"^\| linux/\w+ (same|changed|added|removed) \|", text, re.MULTILINE)
    assert "Rules: `a`, `b`, `c`, `d`" in text
    assert "outputs that are there were made with the old one" in text
    assert "| revision |" in text


@pytest.mark.parametrize(
    "evil",
    ["@octocat", "[click](https://evil.example)", "`@octocat`", "``\n# Approved\n", "a|b|c", "<img src=x>", "\x1b[31m"],
)
def test_what_an_image_says_of_itself_is_code_and_neither_mention_nor_link_nor_mark(evil):
    said = {pinned: replace(one, version=evil) for pinned, one in SAID.items()} | {"other": Details(version=evil)}
    row = next(line for line in text_of(said).splitlines() if line.startswith("| version |"))

    outside = re.sub(r"`[^`]*`", "", row)
    assert re.sub(r"[| ]", "", outside) == "version"
    assert len(re.findall(r"(?<!\\)\|", row)) == 4


def test_nothing_is_no_code():
    assert code("") == ""
    assert code("a`b\n`c|") == "`a'b 'c\\|`"
