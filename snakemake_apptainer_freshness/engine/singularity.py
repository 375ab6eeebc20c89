"""Containers of today's Snakemake, which runs them itself (its module ``deployment/singularity.py``).

Two methods of Snakemake's one ``DAG`` object are wrapped:

``update_container_imgs``
    where Snakemake collects the images of its jobs, at first and again after each checkpoint.
``pull_container_imgs``
    where Snakemake fetches images, before any job that needs them starts.

Its image objects are replaced by ones whose path is given to no job while the file there is not what its pin names.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from snakemake.deployment.singularity import Image, Singularity

from snakemake_apptainer_freshness.engine.directives import PinTable, Rewriting, job_references
from snakemake_apptainer_freshness.engine.guard import WHAT_NEXT, Guard, OnImage
from snakemake_apptainer_freshness.engine.messages import as_workflow_errors, workflow_error
from snakemake_apptainer_freshness.engine.next_seams import MANAGER
from snakemake_apptainer_freshness.engine.seams import COLLECT_IMAGES, PULL_IMAGES, missing, unsupported
from snakemake_apptainer_freshness.freshness import FileHash
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import Options


class GuardedImage(Image):
    """One of Snakemake's images, whose path is given out by a `guard` alone."""

    guard: Guard

    @classmethod
    def of(
        cls, image: Any, pin: Pin, *, options: Options, hashes: dict[str, FileHash], on_image: OnImage
    ) -> "GuardedImage":
        """`image`, guarded as `options` say."""
        guarded: GuardedImage = object.__new__(cls)
        guard = Guard(pin, Path(image.path), options=options, hashes=hashes, on_image=on_image, is_local=image.is_local)
        guarded.__dict__.update(vars(image), guard=guard)
        return guarded

    @property
    def path(self) -> str:
        """Where the file is, for a job that is about to run it.

        Raises
        ------
        ContainerFreshnessError
            where it is there, and not what the pin names.
        """
        with as_workflow_errors():
            return self.guard.path()


class OwnContainers:
    """How today's Snakemake runs the containers of `workflow`."""

    known_by_name = True
    what_next = WHAT_NEXT
    method = "apptainer"

    def __init__(self, workflow: Any) -> None:
        self._workflow = workflow

    @property
    def are_run(self) -> bool:
        """Whether ``--sdm apptainer`` was said."""
        from snakemake.settings.types import DeploymentMethod

        return DeploymentMethod.APPTAINER in self._workflow.deployment_settings.deployment_method

    @property
    def folder(self) -> Path:
        """The folder that ``--apptainer-prefix`` names, or its default."""
        return Path(self._workflow.persistence.container_img_path)

    @property
    def arguments(self) -> str:
        """What ``--apptainer-args`` says."""
        return self._workflow.deployment_settings.apptainer_args or ""

    @property
    def version(self) -> str:
        """What the program says of itself, where Snakemake found one."""
        with contextlib.suppress(AssertionError):
            return str(Singularity().version).strip().rpartition(" ")[2]
        return ""

    def options(self, options: Options) -> Options:
        """Return `options`: today's Snakemake has no others."""
        return options

    def require_program(self) -> None:
        """Have Snakemake look for Apptainer now, and not when it comes to the first image.

        Raises
        ------
        WorkflowError
            Snakemake's own, where there is none, or it is too old.
        """
        Singularity().check()

    def urls(self) -> list[str]:
        """See :class:`.Containers`."""
        return list(self._workflow.dag.container_imgs)

    def url_of(self, job: Any) -> str:
        """See :class:`.Containers`."""
        return job.container_img_url or ""

    def rewrite(self, rules: Iterable[Any], pins: PinTable) -> Callable[[Any, Any], Any]:
        """See :class:`.Containers`."""
        return Rewriting(rules, pin=pins.pinned, fail=lambda error, rule: workflow_error(str(error), rule)).original

    def references(self, original: Callable[[Any, Any], Any]) -> Iterator[tuple[str, Any]]:
        """See :class:`.Containers`."""
        return job_references(self._workflow.dag.jobs, original)

    def attach(self, collect: Callable[[Callable[[], Any]], Any], provide: Callable[[Callable[[], Any]], Any]) -> None:
        """Wrap both methods of the DAG; a Snakemake without them, nor with plugins for containers, is refused."""
        dag = self._workflow.dag
        for seam in missing(dag, COLLECT_IMAGES, PULL_IMAGES):
            raise unsupported(seam, nor=MANAGER)
        collect_images, pull_images = dag.update_container_imgs, dag.pull_container_imgs

        def pull(*args: Any, **kwargs: Any) -> Any:
            return provide(functools.partial(pull_images, *args, **kwargs))

        dag.update_container_imgs = functools.partial(collect, collect_images)
        dag.pull_container_imgs = pull

    def guard(
        self, pins: Mapping[str, Pin], options: Options, *, hashes: dict[str, FileHash], on_image: OnImage
    ) -> set[str]:
        """See :class:`.Containers`."""
        known, new = self._workflow.dag.container_imgs, set()
        for url, image in known.items():
            if url in pins and not isinstance(image, GuardedImage):
                known[url] = GuardedImage.of(image, pins[url], options=options, hashes=hashes, on_image=on_image)
                new.add(url)
        return new

    def guards(self) -> Mapping[str, Guard]:
        """See :class:`.Containers`."""
        images = self._workflow.dag.container_imgs.items()
        return {url: image.guard for url, image in images if isinstance(image, GuardedImage)}
