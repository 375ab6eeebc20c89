"""Containers of the next Snakemake, which leaves them to software deployment plugins.

Our own plugin is one of them (``--sdm apptainer-freshness``). Its environments ask this module, which has the pins of
the session. Two methods of Snakemake's one ``SoftwareDeploymentManager`` object are wrapped:

``collect_envs``
    where Snakemake makes the environments of its jobs, at first and again after each checkpoint.
``deploy_envs``
    where it deploys them, before any job that needs them starts.

A workflow that chose another plugin for containers, and has the flag, is stopped: its containers would run past us.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

from snakemake_apptainer_freshness import CONFIG_KEY
from snakemake_apptainer_freshness.engine import envspecs, plugin_environment
from snakemake_apptainer_freshness.engine.config import PLUGIN
from snakemake_apptainer_freshness.engine.directives import PinTable
from snakemake_apptainer_freshness.engine.guard import Guard, OnImage
from snakemake_apptainer_freshness.engine.messages import as_workflow_errors
from snakemake_apptainer_freshness.engine.next_seams import COLLECT_ENVIRONMENTS, DEPLOY_ENVIRONMENTS, SPECS
from snakemake_apptainer_freshness.engine.seams import names, require
from snakemake_apptainer_freshness.errors import InvalidReference, UnprovenImage, UsageError
from snakemake_apptainer_freshness.freshness import FileHash
from snakemake_apptainer_freshness.image.pinned import Pinned
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import Options

_OURS: Final = "_apptainer_freshness_containers"


class PluginContainers:
    """How the next Snakemake runs the containers of `workflow`.

    It is a :class:`.plugin_environment.Provider` of its images.
    """

    known_by_name = False
    method = PLUGIN

    def __init__(self, workflow: Any) -> None:
        self._workflow = workflow
        self._manager = workflow.software_deployment_manager
        self._pins: PinTable | None = None
        self._known: Mapping[str, Pinned] = {}
        self._guards: dict[str, Guard] = {}
        self._due: list[Any] = []

    @classmethod
    def of(cls, workflow: Any) -> Self:
        """Return the one object of `workflow`."""
        if not hasattr(workflow, _OURS):
            setattr(workflow, _OURS, cls(workflow))
        ours: Self = getattr(workflow, _OURS)
        return ours

    @property
    def are_run(self) -> bool:
        """Whether ``--sdm`` chose our plugin.

        Raises
        ------
        UsageError
            where it chose another one for containers.
        """
        chosen = self._workflow.deployment_settings.deployment_methods
        if PLUGIN in chosen:
            return True
        plugins = self._manager.registry.plugins
        others = sorted(name for name in chosen if plugins[name].common_settings.provides == envspecs.KIND)
        if others:
            raise UsageError(
                f"--sdm {others[0]} would run the containers of this workflow without a proof",
                hint=f"run it with --sdm {PLUGIN} instead, or turn the flag off with --config {CONFIG_KEY}=off",
            )
        return False

    @property
    def folder(self) -> Path:
        """The folder that ``--sdm-prefix`` names, or its default."""
        return Path(self._workflow.deployment_settings.deployment_prefix, envspecs.KIND).absolute()

    @property
    def what_next(self) -> str:
        """Name the command, with the folder of this workflow's images."""
        return plugin_environment.what_next(self.folder)

    @property
    def arguments(self) -> str:
        """What ``--sdm-apptainer-freshness-args`` says."""
        return (getattr(self._settings, "args", None) or "").strip()

    @property
    def version(self) -> str:
        """See :class:`.Containers`."""
        from snakemake_apptainer_freshness.apptainer.program import Apptainer

        return Apptainer.find().version.rpartition(" ")[2]

    def options(self, options: Options) -> Options:
        """Return `options` with the lock that ``--sdm-apptainer-freshness-lockfile`` names."""
        from dataclasses import replace

        lockfile = getattr(self._settings, "lockfile", None)
        return options if lockfile is None else replace(options, lockfile=str(Path(lockfile).absolute()))

    def require_program(self) -> None:
        """See :class:`.Containers`."""
        from snakemake_apptainer_freshness.apptainer.program import Apptainer

        Apptainer.find()

    def urls(self) -> list[str]:
        """See :class:`.Containers`."""
        return [url for url in dict.fromkeys(map(self.url_of, self._workflow.dag.jobs)) if url]

    def url_of(self, job: Any) -> str:
        """See :class:`.Containers`."""
        env = job.software_env
        while env is not None and env.spec.kind != envspecs.KIND:
            env = env.within
        pinned = None if env is None else self.pinned(env.spec.image_uri)
        return "" if pinned is None else pinned.url

    def rewrite(self, rules: Iterable[Any], pins: PinTable) -> Callable[[Any, Any], Any]:
        """See :class:`.Containers`."""
        self._pins = pins
        for rule in rules:
            require(rule, SPECS)
            if rule.software_env_specs is not None:
                make = functools.partial(self._specification, rule)
                rule.software_env_specs = envspecs.converted(rule.software_env_specs, make)
        return envspecs.reference_for

    def references(self, original: Callable[[Any, Any], Any]) -> Iterator[tuple[str, Any]]:  # noqa: ARG002
        """See :class:`.Containers`; a specification knows what its rule said."""
        chosen = self._manager.selected_plugin_kinds
        for job in self._workflow.dag.jobs:
            for spec in envspecs.that_run(job.software_env_spec, chosen):
                yield spec.image_uri, job.rule

    def attach(self, collect: Callable[[Callable[[], Any]], Any], provide: Callable[[Callable[[], Any]], Any]) -> None:
        """Wrap both methods of the manager."""
        manager = self._manager
        require(manager, COLLECT_ENVIRONMENTS, DEPLOY_ENVIRONMENTS)
        collect_envs, deploy_envs = manager.collect_envs, manager.deploy_envs

        def collect_pinned(jobs: Iterable[Any]) -> Any:
            return collect(functools.partial(collect_envs, [*jobs]))

        async def deploy_proven(jobs: Iterable[Any]) -> None:
            self._due = [*jobs]
            shared = names(self._workflow.storage_settings.shared_fs_usage)
            if "SOFTWARE_DEPLOYMENT" in shared or self._workflow.remote_exec:
                provide(lambda: None)
            await deploy_envs(self._due)

        manager.collect_envs, manager.deploy_envs = collect_pinned, deploy_proven

    def guard(
        self, pins: Mapping[str, Pin], options: Options, *, hashes: dict[str, FileHash], on_image: OnImage
    ) -> set[str]:
        """See :class:`.Containers`."""
        new = {
            url: plugin_environment.guard_of(pin, self.folder, options, hashes=hashes, on_image=on_image)
            for url, pin in pins.items()
            if url not in self._guards
        }
        self._guards |= new
        return set(new)

    def guards(self) -> Mapping[str, Guard]:
        """See :class:`.Containers`."""
        urls = dict.fromkeys(map(self.url_of, self._due))
        return {url: self._guards[url] for url in urls if url in self._guards}

    def pinned(self, reference: str) -> Pinned | None:
        """Return what the session pins `reference` to; None where it has no digest."""
        if reference not in self._known and self._pins is not None:
            with as_workflow_errors():
                self._pins.pinned(reference)
            self._known = self._pins.table()
        pinned = self._known.get(reference)
        return None if pinned is None or pinned.digest is None else pinned

    def pin(self, reference: str) -> Pinned:
        """See :class:`.plugin_environment.Provider`: the session did it, before there were environments."""
        pinned = self.pinned(reference)
        if pinned is None:
            raise plugin_environment.unprovable(reference, "its source has no digest")
        return pinned

    def image(self, reference: str) -> Guard:
        """Return the guard of the image of `reference`."""
        guard = self._guards.get(self.pin(reference).url)
        if guard is None:
            raise plugin_environment.unprovable(reference, "no image file can be held to its digest")
        return guard

    def provide(self, reference: str) -> None:
        """Hold the image to its pin; the session fetched it, with all others."""
        path = self.image(reference).path()
        if not Path(path).exists():
            raise UnprovenImage(
                f"the image of {reference} is not at {path} any more", hint="run again: it will be fetched"
            )

    @property
    def _settings(self) -> Any:
        """What the command line said of our plugin."""
        return self._workflow.software_deployment_provider_settings.get(PLUGIN)

    def _specification(self, rule: Any, image: Any) -> Any:
        """Return the specification of our plugin for what `rule` says."""
        with as_workflow_errors():
            if not isinstance(image, str) or not image:
                raise InvalidReference(
                    f"rule {rule.name} has {image!r} as its container", hint="write a reference such as docker://…"
                )
        spec = self._manager.registry.plugins[PLUGIN].env_spec_cls(envspecs.reference_of(image))
        spec.technical_init()
        spec.provider = self
        return spec
