"""Containers: the interface to what differs between today's Snakemake and the next one.

Today's Snakemake runs containers itself (:mod:`.engine.singularity`); the next one leaves them to software deployment
plugins (:mod:`.engine.deployment`). Which of the two a workflow has is seen from its object, never from a version
number; the rest of the program asks :class:`Containers` and does not know.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from snakemake_apptainer_freshness.engine.config import PLUGIN
from snakemake_apptainer_freshness.engine.directives import PinTable
from snakemake_apptainer_freshness.engine.guard import Guard, OnImage
from snakemake_apptainer_freshness.engine.next_seams import MANAGER
from snakemake_apptainer_freshness.freshness import FileHash
from snakemake_apptainer_freshness.pin import Pin
from snakemake_apptainer_freshness.settings import Options


class Containers(Protocol):
    """How the Snakemake of one workflow runs containers."""

    known_by_name: bool
    """Whether Snakemake knows an image by the name that rules run: another name, and what it made is made again."""

    method: str
    """What ``--sdm`` has to say for containers to be run."""

    @property
    def what_next(self) -> str:
        """What a user can do about an image that is refused."""

    @property
    def are_run(self) -> bool:
        """Whether containers are run at all; raises a UsageError where they are run past us."""

    @property
    def folder(self) -> Path:
        """Where the image files of the workflow lie."""

    @property
    def arguments(self) -> str:
        """What Apptainer is told besides; empty where nothing is."""

    @property
    def version(self) -> str:
        """The version of the program that was found, where it was looked for; else empty."""

    def options(self, options: Options) -> Options:
        """Return `options` with those of this Snakemake's own command line for containers."""

    def require_program(self) -> None:
        """Look for Apptainer now, before anything is written; raises an error that Snakemake prints well."""

    def urls(self) -> list[str]:
        """Return what the jobs of the DAG run, each url once."""

    def url_of(self, job: Any) -> str:
        """Return the url that `job` runs; empty where it runs no container."""

    def rewrite(self, rules: Iterable[Any], pins: PinTable) -> Callable[[Any, Any], Any]:
        """Make `rules` run what `pins` says; gives what a rule says for wildcards, before pinning."""

    def references(self, original: Callable[[Any, Any], Any]) -> Iterator[tuple[str, Any]]:
        """Yield each reference that a job of the DAG needs, with its rule; `original` is what :meth:`rewrite` gave."""

    def attach(self, collect: Callable[[Callable[[], Any]], Any], provide: Callable[[Callable[[], Any]], Any]) -> None:
        """Have `collect` called where Snakemake collects the images of its jobs, `provide` where it fetches them.

        Both get what Snakemake itself would do. Raises an error of Snakemake's where it does neither.
        """

    def guard(
        self, pins: Mapping[str, Pin], options: Options, *, hashes: dict[str, FileHash], on_image: OnImage
    ) -> set[str]:
        """Give no job the path of an image that is not what its pin in `pins`, by url, names; gives the new urls."""

    def guards(self) -> Mapping[str, Guard]:
        """Return the guards of the images that jobs are about to need, by url."""


def choose(arguments: Any) -> None:
    """Change Snakemake's parsed `arguments` so that it looks at containers."""
    if hasattr(arguments, "software_deployment_methods"):
        arguments.software_deployment_methods = {PLUGIN}
    else:
        arguments.use_apptainer = True


def of(workflow: Any) -> Containers:
    """Return how the Snakemake of `workflow` runs containers."""
    if MANAGER.is_in(workflow):
        from snakemake_apptainer_freshness.engine.deployment import PluginContainers

        return PluginContainers.of(workflow)
    from snakemake_apptainer_freshness.engine.singularity import OwnContainers

    return OwnContainers(workflow)
