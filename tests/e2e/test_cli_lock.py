"""``lock`` on real workflows and a real registry: what it writes, what a run makes of it, and what an upgrade shows."""

import json

import pytest

from snakemake_apptainer_freshness import cli
from tests.support.images import multi_arch, native_architecture, push, tiny_image
from tests.support.workflow import READS_MESSAGE

HERE = f"linux/{native_architecture()}"
OTHER = "linux/s390x"
TWO = """
    rule all:
        input: "a.txt", "b.txt"
    rule a:
        output: "a.txt"
        container: "{a}"
        shell: "cat /message > {{output}}"
    rule b:
        output: "b.txt"
        container: "{b}"
        shell: "cat /message > {{output}}"
    """


class Program:
    """The command line in this process, in a workspace."""

    def __init__(self, workspace, capsys):
        self.workspace = workspace
        self._capsys = capsys

    def __call__(self, *arguments, status=0):
        assert cli.run(["lock", *arguments]) == status, self._capsys.readouterr()
        captured = self._capsys.readouterr()
        self.err = captured.err
        assert "Traceback" not in captured.err
        return captured.out

    def json(self, *arguments, status=0):
        return json.loads(self(*arguments[:1], "--json", *arguments[1:], status=status))


@pytest.fixture
def lock(workspace, monkeypatch, capsys):
    for name, value in workspace.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("APPTAINER_CACHEDIR", "SNAKEMAKE_APPTAINER_FRESHNESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(workspace.folder)
    return Program(workspace, capsys)


def test_what_lock_writes_is_what_a_run_would_write_and_an_upgrade_names_what_it_was_used_for(
    lock, repository, workspace
):
    tool = repository()
    digest = tool.push("original")
    workspace.write("Snakefile", READS_MESSAGE.format(image=tool.reference))
    unlocked = lock("--check", status=1)
    assert not workspace.exists("containers.lock")
    assert tool.our_requests() == []
    out = lock()
    by_hand = workspace.read("containers.lock")
    (workspace.folder / "containers.lock").unlink()
    workspace.snakemake(flag="lock")

    assert unlocked.split("\t")[:2] == ["missing", tool.reference]
    assert out.split("\t")[:3] == ["added", tool.reference, digest[:19]]
    assert "rule read (Snakefile:2)" in out
    assert lock.err.removeprefix("still resolving images\n") == "containers.lock: 1 image; 1 added\n"
    assert workspace.read("containers.lock") == by_hand

    new = tool.push("updated")
    before = workspace.files()
    shown = lock("--upgrade", "--dry-run")
    assert shown.split("\t")[:3] == ["updated", tool.reference, f"{digest[:19]} → {new[:19]}"]
    assert "1 output that is there was made with the old one: message.txt" in shown
    assert lock.err.removeprefix("still resolving images\n") == "containers.lock: 1 image; 1 would be updated\n"
    assert lock.json("--check", "--upgrade", status=1)["change"][0]["outputs"] == ["message.txt"]
    assert workspace.files() == before


def test_an_upgrade_of_one_image_shows_what_really_changed(lock, repository, workspace):
    a, b = repository("a"), repository("b")
    workspace.write("Snakefile", TWO.format(a=a.reference, b=b.reference))

    def publish(message, version, created):
        image = tiny_image(message, labels={"org.opencontainers.image.version": version}, created=created)
        index = multi_arch(image, "s390x")
        return [push(index, one.registry.host, one.name, "1.0") for one in (a, b)], image.digest

    (old, _), old_image = publish("one", "1.0", "2026-01-01T00:00:00Z")
    lock()
    (new, _), new_image = publish("two", "2.0", "2026-02-02T00:00:00Z")
    out = lock("--upgrade-image", "*/a:*")

    assert str(workspace.lock().get(a.reference).digest) == new
    assert str(workspace.lock().get(b.reference).digest) == old
    [row] = [line.split("\t") for line in out.splitlines()]
    assert row == [
        "updated",
        a.reference,
        f"{old[:19]} → {new[:19]}",
        f"{HERE} changed, {OTHER} changed",
        "created 2026-01-01T00:00:00Z → 2026-02-02T00:00:00Z, version 1.0 → 2.0",
        "rule a (Snakefile:4)",
        "",
    ]
    [change] = lock.json("--dry-run", "--upgrade")["change"]
    assert (change["what"], change["reference"]) == ("updated", b.reference)
    assert (change["old"]["platforms"][HERE], change["new"]["platforms"][HERE]) == (old_image, new_image)
    assert (change["old"]["version"], change["new"]["version"]) == ("1.0", "2.0")
    assert change["rules"] == [{"rule": "b", "snakefile": str(workspace.folder / "Snakefile"), "line": 8}]


def test_an_index_that_changed_around_the_same_image_is_taken_only_where_that_is_asked_for(lock, repository, workspace):
    tool = repository()
    workspace.write("Snakefile", READS_MESSAGE.format(image=tool.reference))
    image = tiny_image("same")
    old, new = multi_arch(image), multi_arch(image, "s390x", attested=True)
    push(old, tool.registry.host, tool.name, "1.0")
    lock()
    push(new, tool.registry.host, tool.name, "1.0")

    held = lock("--upgrade")
    assert held.split("\t")[:2] == ["same platform", tool.reference]
    assert f"{HERE} same, {OTHER} added" in held
    assert str(workspace.lock().get(tool.reference).digest) == old.digest
    assert lock.json("--check", "--upgrade")["as_agreed"] is True
    lock("--upgrade", "--take-same-platform")
    assert str(workspace.lock().get(tool.reference).digest) == new.digest


def test_orphans_go_when_they_are_pruned_unless_a_rule_could_not_be_seen(lock, repository, workspace):
    a, b = repository("a"), repository("b")
    for one in (a, b):
        one.push("x")
    workspace.write("Snakefile", TWO.format(a=a.reference, b=b.reference))
    lock()
    dynamic = f'rule c:\n    output: "{{n}}.c"\n    container: "docker://{a.registry.host}/{{n}}"\n    shell: "true"\n'
    workspace.write("Snakefile", READS_MESSAGE.format(image=a.reference))
    workspace.write("with_dynamic", workspace.read("Snakefile") + dynamic)

    assert lock("--prune", "--", "--snakefile", "with_dynamic").split("\t")[:2] == ["unclear", b.reference]
    assert "not seen: rule c: its container depends on a job" in lock.err
    assert lock.json("--check", status=1)["orphan"] == [b.reference]
    assert lock("--prune").split("\t")[:2] == ["removed", b.reference]
    assert list(workspace.lock().entries) == [a.reference]
    assert lock("--check") == ""


def test_one_image_that_is_not_there_stops_no_other(lock, repository, workspace):
    a, b = repository("a"), repository("b")
    a.push("x")
    workspace.write("Snakefile", TWO.format(a=a.reference, b=b.reference))
    document = lock.json(status=3)

    assert [one["reference"] for one in document["change"]] == [a.reference]
    assert [one["reference"] for one in document["error"]] == [b.reference]
    assert f"error: cannot pin {b.reference} (rule b (Snakefile:8)): " in lock.err
    assert list(workspace.lock().entries) == [a.reference]


def test_single_references_are_locked_and_moved_without_a_workflow(lock, repository, workspace):
    tool, other = repository(), repository("other")
    digest, unmoved = tool.push("original"), other.push("original")
    lock(tool.reference, other.reference)
    new = tool.push("updated")
    other.push("updated")
    lock("--upgrade", tool.reference)

    assert {text: str(one.digest) for text, one in workspace.lock().entries.items()} == {
        tool.reference: new,
        other.reference: unmoved,
    }
    assert digest != new


def test_a_check_without_input_data_is_told_the_values_of_wildcards(lock, repository, workspace):
    tool = repository()
    tool.push("original")
    by_version = tool.reference.rpartition(":")[0] + ":{version}"
    workspace.write(
        "Snakefile",
        f"""
        rule all:
            input: "data/missing", "{tool.reference.rpartition(":")[2]}.txt"
        rule read:
            output: "{{version,[0-9.]+}}.txt"
            container: "{by_version}"
            shell: "cat /message > {{output}}"
        """,
    )
    lock("--check", status=1)
    assert "not seen: rule read: its container depends on a job, and the DAG cannot be built" in lock.err
    value = f"version={tool.reference.rpartition(':')[2]}"
    lock("--wildcard", value)

    assert list(workspace.lock().entries) == [tool.reference]
    assert lock("--check", "--wildcard", value) == ""
