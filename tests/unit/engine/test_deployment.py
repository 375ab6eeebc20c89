"""Containers of the next Snakemake: what its rules say becomes ours, and nothing leads past it.

Stand-ins have the shape of its development branch, with which ``tests/e2e/next_snakemake.py`` was run.
"""

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.exceptions import WorkflowError

from snakemake_apptainer_freshness.engine import config, containers, directives, hook
from snakemake_apptainer_freshness.engine.rerun import Reruns
from snakemake_apptainer_freshness.errors import InvalidSettings, Unpinnable, UsageError
from snakemake_apptainer_freshness.image.digest import Digest
from snakemake_apptainer_freshness.image.pinned import Pinned
from snakemake_apptainer_freshness.image.reference import parse
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import Mode, Options, Rerun
from snakemake_apptainer_freshness.store.prefix import image_path

ONE, DIGEST = "docker://quay.io/team/one:1", "sha256:" + "d" * 64
ARCHIVE = "docker-archive:tool.tar"
URL = f"docker://quay.io/team/one@{DIGEST}"


@dataclass
class Spec:
    """A specification of an environment; `ours` tells our plugin's class from another's."""

    image_uri: str
    kind: str = "container"
    within: Any = None
    fallback: Any = None
    ours: bool = False

    def technical_init(self):
        self.within = self.fallback = None


def our_spec(image):
    return Spec(image, ours=True)


@dataclass
class Specs:
    """What a rule says, as the next Snakemake keeps it."""

    software_spec: Any = None
    legacy_conda_env: Any = None
    legacy_container_img: Any = None
    legacy_env_modules: Any = None

    def interpret(self):
        if self.software_spec is None:
            raise AssertionError("it would import the published plugin, which is not there")
        return self.software_spec


class Rule:
    name, snakefile, lineno = "read", "Snakefile", 7

    def __init__(self, **said):
        self.software_env_specs = Specs(**said) if said else None

    def expand_software_env_specs(self, wildcards):
        return self.software_env_specs.interpret()


class Pins:
    """Pins ONE alone."""

    def pinned(self, reference):
        return URL if reference == ONE else reference

    def table(self):
        alone, archive = parse("shub://team/tool"), parse(ARCHIVE)
        return {
            ARCHIVE: Pinned(reference=archive, pinned=archive, digest=Digest.parse(DIGEST)),
            ONE: Pinned(reference=parse(ONE), pinned=parse(URL), digest=Digest.parse(DIGEST)),
            alone.text: Pinned(reference=alone, pinned=alone),
        }

    def images(self):
        return {URL: Pin.held_to(pinned=parse(URL), reference=parse(ONE), digest=Digest.parse(DIGEST))}


class Manager:
    """Snakemake's, as far as it tells what it did."""

    def __init__(self):
        kinds = {"apptainer-freshness": "container", "container": "container", "conda": "conda"}
        self.registry = SimpleNamespace(
            plugins={
                name: SimpleNamespace(common_settings=SimpleNamespace(provides=kind), env_spec_cls=our_spec)
                for name, kind in kinds.items()
            }
        )
        self.selected_plugin_kinds = {"container", "conda"}
        self.done = []

    def collect_envs(self, jobs):
        self.done.append(("collect", jobs))

    async def deploy_envs(self, jobs):
        self.done.append(("deploy", jobs))


@pytest.fixture
def workflow(tmp_path):
    return SimpleNamespace(
        config={},
        software_deployment_manager=Manager(),
        software_deployment_provider_settings={},
        deployment_settings=SimpleNamespace(deployment_methods={"apptainer-freshness"}, deployment_prefix=tmp_path),
        storage_settings=SimpleNamespace(shared_fs_usage={"software-deployment"}),
        remote_exec=False,
        dag=SimpleNamespace(jobs=[]),
    )


def job(environment):
    return SimpleNamespace(software_env=environment, software_env_spec=environment and environment.spec, rule=Rule())


def environment(image=ONE, within=None, kind="container"):
    return SimpleNamespace(spec=Spec(image, kind=kind, within=within and within.spec), within=within)


def test_the_plugin_is_the_flag(workflow):
    nothing = config.CommandLineFlag()
    assert config.is_wanted(workflow, nothing)
    workflow.deployment_settings.deployment_methods = {"conda"}
    assert not config.is_wanted(workflow, nothing)


@pytest.mark.parametrize("off", [False, "off"])
def test_the_plugin_with_the_flag_off_is_refused(workflow, tmp_path, monkeypatch, off):
    workflow.config["apptainer_freshness"] = off
    with pytest.raises(InvalidSettings, match="apptainer_freshness is off"):
        config.options(workflow, config.CommandLineFlag())


def test_another_plugin_for_containers_with_the_flag_is_refused_in_every_process(workflow):
    workflow.deployment_settings.deployment_methods = {"container", "conda"}
    with pytest.raises(UsageError, match="--sdm container would run the containers"):
        assert containers.of(workflow).are_run
    with pytest.raises(UsageError, match="--sdm container would run the containers"):
        hook._for_job(workflow, config.CommandLineFlag(pins="v1.any"))


def test_without_a_plugin_for_containers_there_is_nothing_to_do(workflow):
    workflow.deployment_settings.deployment_methods = {"conda"}
    assert not containers.of(workflow).are_run


@pytest.mark.parametrize("said", [{"legacy_container_img": ONE}, {"software_spec": Spec(ONE)}])
def test_what_a_rule_says_becomes_a_specification_of_our_plugin(workflow, said):
    rule = Rule(**said)
    containers.of(workflow).rewrite([rule, Rule()], Pins())
    spec = rule.expand_software_env_specs({})
    assert (spec.image_uri, spec.ours, spec.provider) == (ONE, True, containers.of(workflow))


def test_a_container_around_another_environment_becomes_ours_too(workflow):
    rule = Rule(software_spec=Spec("env.yaml", kind="conda", within=Spec(ONE)))
    containers.of(workflow).rewrite([rule], Pins())
    spec = rule.expand_software_env_specs({})
    assert (spec.kind, spec.ours, spec.within.ours) == ("conda", False, True)


def test_what_is_no_reference_is_told_with_its_rule(workflow):
    rule = Rule(legacy_container_img=7)
    containers.of(workflow).rewrite([rule], Pins())
    with pytest.raises(WorkflowError, match="rule read has 7 as its container"):
        rule.expand_software_env_specs({})


def test_directives_are_read_off_rules():
    rules = [Rule(legacy_container_img=ONE), Rule(software_spec=Spec("a/b:1")), Rule(), Rule(legacy_container_img=len)]
    assert [directives.directive_of(rule) for rule in rules] == [ONE, "docker://a/b:1", None, len]
    assert [text for text, _ in directives.static_references(rules)] == [ONE, "docker://a/b:1"]


def test_of_environments_that_stand_for_each_other_a_job_needs_the_one_that_runs(workflow):
    modules = SimpleNamespace(spec=Spec("gcc", kind="envmodules", fallback=Spec(ONE)), within=None)
    workflow.dag.jobs = [job(modules), job(None)]
    assert [text for text, _ in containers.of(workflow).references(None)] == [ONE]
    workflow.software_deployment_manager.selected_plugin_kinds = {"envmodules", "container"}
    assert not list(containers.of(workflow).references(None))


def test_references_are_pinned_before_environments_are_made_and_proven_before_they_are_deployed(workflow):
    ours, order = containers.of(workflow), workflow.software_deployment_manager.done
    ours.rewrite([], Pins())
    ours.attach(lambda collect: (order.append("pin"), collect()), lambda pull: (order.append("prove"), pull()))
    jobs = [job(environment())]
    workflow.software_deployment_manager.collect_envs(iter(jobs))
    asyncio.run(workflow.software_deployment_manager.deploy_envs(iter(jobs)))
    assert order == ["pin", ("collect", jobs), "prove", ("deploy", jobs)]


def test_a_main_process_that_shares_no_image_folder_fetches_nothing(workflow):
    workflow.storage_settings.shared_fs_usage = set()
    containers.of(workflow).attach(lambda collect: collect(), lambda _: pytest.fail("it is not needed here"))
    asyncio.run(workflow.software_deployment_manager.deploy_envs([]))


def test_guarded_is_what_the_jobs_at_hand_run(workflow, tmp_path):
    ours = containers.of(workflow)
    ours.rewrite([], Pins())
    assert ours.guard(Pins().images(), Options(), hashes={}, on_image=lambda *_: None) == {URL}
    assert ours.guard(Pins().images(), Options(), hashes={}, on_image=lambda *_: None) == set()
    assert ours.guards() == {}
    ours.attach(lambda collect: collect(), lambda _: None)
    jobs = [job(environment("env.yaml", within=environment(), kind="conda")), job(None)]
    asyncio.run(workflow.software_deployment_manager.deploy_envs(jobs))
    assert {url: guard.place for url, guard in ours.guards().items()} == {URL: image_path(tmp_path / "container", URL)}


def test_what_nothing_can_be_held_to_is_given_to_no_job(workflow):
    ours = containers.of(workflow)
    ours.rewrite([], Pins())
    ours.guard(Pins().images(), Options(), hashes={}, on_image=lambda *_: None)
    with pytest.raises(Unpinnable, match="it cannot be proven: its source has no digest"):
        ours.image("shub://team/tool")
    with pytest.raises(Unpinnable, match="it cannot be proven: no image file can be held to its digest"):
        ours.image(ARCHIVE)


def test_what_the_command_line_says_of_the_plugin_is_heard(workflow, tmp_path):
    workflow.software_deployment_provider_settings["apptainer-freshness"] = SimpleNamespace(
        args=" --userns", lockfile=tmp_path / "other.lock"
    )
    ours = containers.of(workflow)
    assert ours.arguments == "--userns"
    assert ours.options(Options()).lockfile == str(tmp_path / "other.lock")


@pytest.mark.parametrize(("rerun", "refused"), [(Rerun.CONTENT, False), (Rerun.ALWAYS, False), (Rerun.NEVER, True)])
def test_this_snakemake_compares_digests_itself(workflow, rerun, refused):
    workflow.rerun_triggers, workflow.dryrun, workflow.persistence = {"software-env"}, False, SimpleNamespace()
    reruns = Reruns(workflow, None, Options(mode=Mode.LOCK, rerun=rerun), runs_jobs=True)
    if refused:
        with pytest.raises(InvalidSettings, match="compares the digests of images itself"):
            reruns.attach()
    else:
        reruns.attach()
    assert not vars(workflow.persistence)
