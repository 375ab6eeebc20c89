"""Our software deployment plugin under the tests of its interface; ``test_deployment.py`` runs it.

The newest interface cannot be installed beside today's Snakemake, so an environment of its own runs this file, without
any Snakemake. ``TOOL`` and ``OTHER`` name two images of a real registry, ``TOOL_DIGEST`` what the first one is.
"""

import asyncio
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import snakemake_software_deployment_plugin_container as published
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_software_deployment_plugins.registry import SoftwareDeploymentPluginRegistry
from snakemake_interface_software_deployment_plugins.tests import TestSoftwareDeploymentBase
from snakemake_software_deployment_plugin_apptainer_freshness import Env, EnvSpec, Settings

from snakemake_apptainer_freshness.engine import envspecs, guard
from snakemake_apptainer_freshness.freshness import DiskFact, DiskState, Evidence, decide
from snakemake_apptainer_freshness.settings import Options
from snakemake_apptainer_freshness.store.prefix import image_name

TOOL, OTHER, DIGEST = (os.environ[name] for name in ("TOOL", "OTHER", "TOOL_DIGEST"))
PINNED = f"{TOOL.rpartition(':')[0]}@{DIGEST}"


class TestInterface(TestSoftwareDeploymentBase):
    """What the interface asks of every plugin."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def _own_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

    def get_env_spec(self):
        return EnvSpec(TOOL)

    def get_env_cls(self):
        return Env

    def get_test_cmd(self):
        return "test \"$(cat /message)\" = 'the tool'"

    def get_settings(self):
        return Settings(args="--userns")

    def get_settings_cls(self):
        return Settings

    def get_contained_executable(self):
        return "cat"


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes environments whose lock, images and pins lie in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    lab = TestInterface()

    def environment(reference=TOOL):
        made = lab._get_env_by_cls(Env, EnvSpec(reference), lab.get_settings(), tmp_path)
        made.spec.technical_init()
        return made

    return environment


@pytest.fixture
def run():
    """What a command prints in an environment."""
    return lambda env, cmd: env.run_cmd(env.managed_decorate_shellcmd(cmd), capture_output=True, text=True)


def deployed(env):
    asyncio.run(env.pin())
    asyncio.run(env.deploy())
    return env


def test_the_verified_file_is_what_is_deployed_and_what_runs(make, run):
    env = deployed(make())
    assert env.deployment_path.name == image_name(PINNED)
    assert str(env.deployment_path) in env.managed_decorate_shellcmd("true")
    assert run(env, "cat /message").stdout == "the tool\n"


def test_the_hash_is_the_digests(make):
    env = deployed(make())
    assert env.hash() == hashlib.md5(DIGEST.encode()).hexdigest()


def test_the_software_is_reported_with_its_digest(make):
    [software] = deployed(make()).report_software()
    assert (software.name, software.version) == (TOOL, DIGEST)


def test_a_pin_is_added_to_the_lock_and_told_to_snakemake(make):
    env = make()
    asyncio.run(env.pin())
    assert DIGEST in Path("containers.lock").read_text()
    assert DIGEST in env.pinfile.read_text()


def test_what_the_lock_lacks_is_not_run(make):
    env = make()
    with pytest.raises(WorkflowError, match="does not say what it is"):
        env.decorate_shellcmd("cat /message")
    with pytest.raises(WorkflowError, match="does not say what it is"):
        asyncio.run(env.deploy())


def test_a_source_without_a_digest_is_refused(make):
    with pytest.raises(WorkflowError, match="it cannot be proven"):
        asyncio.run(make("shub://team/tool").pin())


def test_a_planted_image_in_the_deployment_prefix_is_not_run(make, run):
    other, env = deployed(make(OTHER)), make()
    asyncio.run(env.pin())
    env.deployment_path.write_bytes(other.deployment_path.read_bytes())
    with pytest.raises(WorkflowError, match="will not run the image"):
        env.decorate_shellcmd("cat /message")
    asyncio.run(env.deploy())
    assert run(env, "cat /message").stdout == "the tool\n"


def test_without_the_guard_a_planted_image_would_run(make, run, monkeypatch):
    other, env = deployed(make(OTHER)), make()
    asyncio.run(env.pin())
    env.deployment_path.write_bytes(other.deployment_path.read_bytes())
    proven = Evidence(disk=DiskFact(state=DiskState.VERIFIED))
    monkeypatch.setattr(guard, "decide", lambda *_, **__: decide(proven, Options()))
    assert run(env, "cat /message").stdout == "the other\n"


def test_an_image_that_was_swapped_after_its_deployment_is_not_run(make):
    other, env = deployed(make(OTHER)), deployed(make())
    env.decorate_shellcmd("true")
    env.deployment_path.write_bytes(other.deployment_path.read_bytes())
    with pytest.raises(WorkflowError, match="will not run the image"):
        env.decorate_shellcmd("cat /message")


def test_a_planted_file_with_a_pin_is_not_believed(make, run):
    env = make()
    asyncio.run(env.pin())
    env.pinfile.write_text(env.pinfile.read_text().replace(DIGEST, "sha256:" + "0" * 64))
    assert run(deployed(env), "cat /message").stdout == "the tool\n"


def test_an_image_of_a_registered_lock_is_not_removed(make):
    from snakemake_apptainer_freshness.actions.lock_io import read_lock
    from snakemake_apptainer_freshness.store import claims

    env = deployed(make())
    lock = Path("containers.lock").absolute()
    claims.register(env.deployment_path.parent, lock, read_lock(lock), unpinned=())
    env.remove()
    assert env.deployment_path.exists()


def test_an_image_that_no_lock_needs_is_removed(make):
    env = deployed(make())
    env.remove()
    assert not env.deployment_path.exists()


def test_values_of_variables_show_in_no_command(make, run, monkeypatch):
    monkeypatch.setenv("TOKEN", "canary, with a comma")
    env = deployed(make())
    env.envvars = {"TOKEN"}
    assert "canary" not in env.managed_decorate_shellcmd('echo "$TOKEN"')
    assert run(env, 'echo "$TOKEN"').stdout == "canary, with a comma\n"


def test_quotes_in_a_command_reach_the_container(make, run):
    assert run(deployed(make()), """echo "it's" 'a "quote"' """).stdout == 'it\'s a "quote"\n'


def test_snakemakes_registry_takes_both_plugins_for_the_same_kind():
    plugins = SoftwareDeploymentPluginRegistry().plugins
    assert {plugins[name].common_settings.provides for name in ("container", "apptainer-freshness")} == {"container"}
    assert plugins["apptainer-freshness"].settings_cls is Settings


def test_what_rules_say_to_the_published_plugin_they_can_say_to_ours():
    assert list(EnvSpec.identity_attributes()) == list(published.EnvSpec.identity_attributes())
    assert str(EnvSpec(TOOL)) == str(published.EnvSpec(TOOL))


def test_a_specification_of_the_published_plugin_becomes_ours_wherever_it_stands():
    outer, inner = published.EnvSpec("docker://a/b:1"), published.EnvSpec("c/d:2")
    for one in (outer, inner):
        one.technical_init()
    inner.within, inner.kind = outer, "conda"

    def make(image):
        spec = EnvSpec(envspecs.reference_of(image))
        spec.technical_init()
        return spec

    kept = envspecs._convert(inner, make)
    assert (type(kept), type(kept.within)) == (published.EnvSpec, EnvSpec)
    inner.kind, inner.fallback, inner.within = "container", outer, None
    new = envspecs._convert(inner, make)
    assert (str(new), str(new.fallback)) == ("docker://c/d:2", "docker://a/b:1")
    assert {type(new), type(new.fallback)} == {EnvSpec}


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ("docker://quay.io/team/tool:1", "docker://quay.io/team/tool:1"),
        ("quay.io/team/tool:1", "docker://quay.io/team/tool:1"),
        ("ubuntu", "docker://ubuntu"),
        ("./tool", "./tool"),
        ("/images/tool", "/images/tool"),
        ("images/tool.sif", "images/tool.sif"),
    ],
)
def test_what_has_no_scheme_is_of_a_registry_or_looks_like_a_file(image, reference):
    assert envspecs.reference_of(image) == reference


def test_what_snakemake_imports_at_every_start_loads_nothing_of_ours():
    code = """if True:
        import sys, snakemake_software_deployment_plugin_apptainer_freshness
        print(*[name for name in sys.modules if name.startswith(("snakemake_apptainer_freshness", "httpx", "rich"))])
    """
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == []
