"""The custom manager for Renovate in docs/pipelines.md: it reads our locks, and what follows mends them."""

import json
import re
from pathlib import Path

import pytest

from snakemake_apptainer_freshness import cli
from snakemake_apptainer_freshness.lockfile import Lock, dumps
from tests.support.images import multi_arch, push, tiny_image
from tests.support.pins import lock_entry

PAGE = (Path(__file__).parents[2] / "docs" / "pipelines.md").read_text()
CONFIG = json.loads(re.search(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1])
[PATTERN] = CONFIG["customManagers"][0]["matchStrings"]
FOUND = re.compile(PATTERN.replace("(?<", "(?P<"))
"""JavaScript writes a named group without the P."""
ONE, TWO = ("sha256:" + letter * 64 for letter in "ab")


def replaced(text, digest):
    """What Renovate makes of a lock: in what a match has, each occurrence of the digest is the new one."""
    match = FOUND.search(text)
    return text.replace(match[0], match[0].replace(match["currentDigest"], digest))


def test_it_finds_each_image_with_a_tag_in_a_lock_and_no_other():
    entries = [
        lock_entry("docker://quay.io/team/tool:1.0", ONE, {"linux/amd64": TWO}),
        lock_entry("docker://localhost:5000/team/tool:2", TWO),
        lock_entry(f"docker://quay.io/team/pinned@{ONE}", ONE),
        lock_entry("docker://untagged", ONE),
        lock_entry("https://h.example/x.sif", ONE),
    ]
    found = [match.groupdict() for match in FOUND.finditer(dumps(Lock.of(entries)))]

    assert sorted(found, key=lambda one: one["depName"]) == [
        {"depName": "localhost:5000/team/tool", "currentValue": "2", "currentDigest": TWO},
        {"depName": "quay.io/team/tool", "currentValue": "1.0", "currentDigest": ONE},
    ]
    assert re.search(CONFIG["customManagers"][0]["fileMatch"][0], "workflow/containers.lock")


@pytest.fixture
def here(workspace, monkeypatch):
    for name, value in workspace.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(workspace.folder)
    return workspace


def index(message):
    return multi_arch(tiny_image(message), "s390x")


def test_the_command_after_it_brings_the_platforms_of_the_new_index_along(here, repository, capsys):
    tool = repository()
    host, _, name = tool.reference.removeprefix("docker://").rpartition(":")[0].partition("/")
    tag = tool.reference.rpartition(":")[2]
    push(index("original"), host, name, tag)
    assert cli.run(["lock", tool.reference]) == 0
    new = push(index("updated"), host, name, tag)
    lock = here.folder / "containers.lock"
    lock.write_text(replaced(lock.read_text(), new))
    match = FOUND.search(lock.read_text())
    [task] = [rule["postUpgradeTasks"] for rule in CONFIG["packageRules"] if "postUpgradeTasks" in rule]
    [command] = task["commands"]
    for word, value in {**match.groupdict(), "packageFile": "containers.lock"}.items():
        command = command.replace("{{{" + word + "}}}", value)
    assert cli.run(command.split()[1:]) == 0
    mended = lock.read_text()
    lock.unlink()
    assert cli.run(["lock", tool.reference]) == 0

    assert str(here.lock().entries[tool.reference].digest) == new
    assert mended == lock.read_text()
