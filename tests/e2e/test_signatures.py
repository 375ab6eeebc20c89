"""A signed image runs, later without a network too; one that is not signed, or wrongly, never starts."""

import json

import pytest

from tests.support.signatures import IDENTITY, ISSUER, Key, Sigstore, push
from tests.support.workflow import READS_MESSAGE


@pytest.fixture(scope="module")
def key():
    return Key()


@pytest.fixture(scope="module")
def sigstore():
    return Sigstore()


@pytest.fixture
def named(workspace, repository, key, sigstore):
    """A workflow of one rule, whose image the site wants to be signed with a key; its repository."""
    tool = repository()
    workspace.write("Snakefile", READS_MESSAGE.format(image=tool.reference))
    (workspace.folder / "cosign.pub").write_bytes(key.pem)
    (workspace.folder / "root.json").write_bytes(sigstore.trusted_root)
    return tool


def demand(workspace, tool, signer='{key = "cosign.pub"}', before=""):
    workspace.write(
        "apptainer-freshness.toml",
        f'[policy.signed_by]\n{before}\n[policy.signed_by.images]\n"{tool.registry.host}/{tool.name}" = {signer}\n',
    )


def name(tool):
    return f"{tool.registry.host}/{tool.name}"


def test_an_image_that_is_signed_with_the_key_runs_and_later_without_a_network(workspace, named, key):
    digest = named.push("hello")
    push(named.registry.host, named.name, digest, key.simple(digest, name(named)))
    demand(workspace, named)
    workspace.snakemake(flag="true")
    assert workspace.read("message.txt") == "hello\n"
    [image] = json.loads(workspace.freshness("audit", "--json").stdout)["image"]
    [signature] = image["sighting"][0]["signature"]
    assert (signature["digest"], signature["by"][:11]) == (digest, "key sha256:")

    (workspace.folder / "message.txt").unlink()
    named.registry.clear()
    workspace.snakemake(flag="frozen")
    assert workspace.read("message.txt") == "hello\n"
    assert named.our_requests() == []


def test_an_image_that_is_signed_by_the_identity_runs(workspace, named, sigstore):
    digest = named.push("hello")
    push(named.registry.host, named.name, digest, sigstore.bundle(digest))
    demand(workspace, named, f'{{identity = "{IDENTITY}", issuer = "{ISSUER}"}}', before='trusted_root = "root.json"')
    workspace.snakemake(flag="true")
    assert workspace.read("message.txt") == "hello\n"


def test_an_image_that_is_not_signed_never_starts(workspace, named):
    named.push("hello")
    demand(workspace, named)
    result = workspace.snakemake(flag="true", fails=True)
    assert "no signature of sha256:" in result.output
    assert "it has to be signed by key cosign.pub" in result.output
    assert "rule read" in result.output
    assert not workspace.exists("containers.lock")
    assert not workspace.exists("message.txt")


def test_an_image_that_another_key_signed_never_starts(workspace, named):
    digest = named.push("hello")
    push(named.registry.host, named.name, digest, Key().simple(digest, name(named)), Key().bundle(digest))
    demand(workspace, named)
    result = workspace.snakemake(flag="true", fails=True)
    assert "none of the 2 signatures of sha256:" in result.output
    assert "it was not made with key cosign.pub" in result.output
    assert not workspace.exists("message.txt")


def test_without_a_policy_nobody_asks_for_signatures(workspace, named):
    named.push("hello")
    named.registry.clear()
    workspace.snakemake(flag="true")
    assert not [path for _, path, _ in named.our_requests() if "referrers" in path or path.endswith(".sig")]


def test_a_lock_that_was_made_where_signatures_could_be_asked_for_serves_a_frozen_run(workspace, named, key):
    digest = named.push("hello")
    push(named.registry.host, named.name, digest, key.bundle(digest))
    demand(workspace, named)
    workspace.freshness("lock")
    workspace.freshness("pull", "--prefix", ".snakemake/singularity")
    named.registry.clear()
    workspace.snakemake(flag="frozen")
    assert workspace.read("message.txt") == "hello\n"
    assert named.our_requests() == []


def test_a_lock_is_not_made_of_an_image_that_is_not_signed(workspace, named):
    named.push("hello")
    demand(workspace, named)
    result = workspace.freshness("lock", fails=True)
    assert "no signature of sha256:" in result.output
    assert not workspace.exists("containers.lock")


def test_a_frozen_run_of_a_user_who_has_never_seen_a_signature_is_refused(workspace, named, key):
    digest = named.push("hello")
    push(named.registry.host, named.name, digest, key.bundle(digest))
    demand(workspace, named)
    workspace.snakemake(flag="true")
    unseen = {"APPTAINER_FRESHNESS_STATE": str(workspace.home / "of-another-user")}
    (workspace.folder / "message.txt").unlink()
    result = workspace.snakemake(flag="frozen", environment=unseen, fails=True)
    assert "is remembered, no registry is asked" in result.output


def test_a_key_that_the_workflows_own_configuration_names_lies_beside_its_lock(workspace, named, key):
    digest = named.push("hello")
    workspace.write(
        "config.yaml",
        f"apptainer_freshness: {{policy: {{signed_by: {{images: {{'{name(named)}': {{key: cosign.pub}}}}}}}}}}\n",
    )
    result = workspace.snakemake("--configfile", "config.yaml", fails=True)
    assert "it has to be signed by key cosign.pub (the workflow's configuration)" in result.output

    push(named.registry.host, named.name, digest, key.bundle(digest))
    workspace.snakemake("--configfile", "config.yaml")
    assert workspace.read("message.txt") == "hello\n"


def test_a_policy_whose_key_is_not_there_stops_the_run(workspace, named):
    named.push("hello")
    demand(workspace, named, '{key = "gone.pub"}')
    result = workspace.snakemake(flag="true", fails=True)
    assert "gone.pub: No such file or directory" in result.output
    assert not workspace.exists("message.txt")
