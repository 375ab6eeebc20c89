"""A policy holds in a run: what it forbids never starts, and a registry that it forbids is never asked."""

import pytest

from tests.support.workflow import READS_MESSAGE


@pytest.fixture
def named(workspace, repository):
    """A workflow of one rule whose image is named without a tag, and its repository."""
    tool = repository()
    tool.push("hello", tag="latest")
    workspace.write("Snakefile", READS_MESSAGE.format(image=tool.reference.removesuffix(":1.0")))
    return tool


def configure(workspace, policy):
    workspace.write("config.yaml", f"apptainer_freshness: {{policy: {policy}}}\n")
    return ("--configfile", "config.yaml")


def test_a_name_that_is_forbidden_stops_the_run_before_anybody_is_asked(workspace, named):
    forbidden = configure(workspace, "{tags: {required: true}, registries: {allow: [quay.io]}}")
    result = workspace.snakemake(*forbidden, fails=True)

    assert "the policy does not allow:" in result.output
    assert "(rule read in" in result.output
    assert "line 2): it names no tag (the workflow's configuration)" in result.output
    assert "registry 127.0.0.1" in result.output
    assert "Traceback" not in result.output
    assert named.our_requests() == []
    assert not workspace.exists("containers.lock")
    assert not workspace.exists("message.txt")


def test_a_site_holds_its_workflows_to_what_images_say_of_themselves(workspace, named):
    workspace.write(
        "apptainer-freshness.toml",
        '[policy.platforms]\nrequire = ["linux/s390x"]\nlevel = "warn"\n[policy.age]\nat_most = 1\n',
    )
    result = workspace.snakemake("--dry-run", flag="true", fails=True)

    assert "it was made on 2024-01-01" in result.output
    assert "days ago; 1 are allowed" in result.output
    assert f"{workspace.folder}/apptainer-freshness.toml" in result.output

    workspace.write(
        "apptainer-freshness.toml",
        '[policy.platforms]\nrequire = ["linux/s390x"]\nlevel = "warn"\n[policy.age]\nat_most = 100000\n',
    )
    result = workspace.snakemake(flag="true")

    assert any(line.startswith("policy: ") and "it has no image for linux/s390x" in line for line in result.ours)
    [entry] = workspace.lock()
    assert entry.hints["created"] == "2024-01-01"
    assert list(map(str, entry.platforms)) == ["linux/amd64"]
    assert workspace.read("message.txt") == "hello\n"


def test_a_sites_policy_holds_wherever_the_workflow_puts_its_lock(workspace, named):
    workspace.write("apptainer-freshness.toml", '[policy.registries]\nallow = ["quay.io"]\n')
    workspace.write("hidden/.keep", "")
    workspace.write("config.yaml", "apptainer_freshness: {lockfile: hidden/containers.lock}\n")
    result = workspace.snakemake("--configfile", "config.yaml", fails=True)

    assert "is not allowed; allowed are quay.io" in result.output
    assert named.our_requests() == []

    workspace.write("config.yaml", "apptainer_freshness: {lockfile: /etc/containers.lock}\n")
    result = workspace.snakemake("--configfile", "config.yaml", fails=True)
    assert "lies outside of the workflow's and the working directory" in result.output


def test_a_policy_that_is_wrong_is_named(workspace, named):
    result = workspace.snakemake("--dry-run", *configure(workspace, "{tag: {refuse: [latest]}}"), fails=True)

    assert "policy has no key 'tag' (did you mean 'tags'?)" in result.output
