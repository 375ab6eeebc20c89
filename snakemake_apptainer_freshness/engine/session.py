"""One workflow with pinned containers, in the main process or in the process of a job.

Two methods of Snakemake's one ``DAG`` object are wrapped:

``update_container_imgs``
    where Snakemake collects the images of its jobs, at first and again after each checkpoint: references that only
    wildcards or functions make are pinned here, all at once.
``pull_container_imgs``
    where Snakemake fetches images, before any job that needs them starts: each is proven to be what its pin names.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from snakemake_apptainer_freshness.engine.directives import Rewriting, job_references, static_references
from snakemake_apptainer_freshness.engine.images import Images
from snakemake_apptainer_freshness.engine.messages import alike, errors_told, some, workflow_error
from snakemake_apptainer_freshness.engine.seams import COLLECT_IMAGES, PULL_IMAGES, require
from snakemake_apptainer_freshness.errors import FreshnessError, PinningFailed
from snakemake_apptainer_freshness.lockfile import Pinned
from snakemake_apptainer_freshness.pin import Pin


class PinTable(Protocol):
    """Where a session's pins come from."""

    def attempt(self, references: Iterable[str]) -> None:
        """Get those of `references` pinned that can be."""

    def ensure(self, references: Iterable[str]) -> None:
        """Get `references` pinned, which jobs need; raise a FreshnessError where one cannot be."""

    def pinned(self, reference: str) -> str:
        """Return what the rule that says `reference` runs."""

    def table(self) -> dict[str, Pinned]:
        """Return what is run for every reference that was met."""

    def images(self) -> dict[str, Pin]:
        """Return what each image file has to be, by the url that rules run."""


class Session:
    """Rewrites the rules of `workflow` to what `pins` says, and proves the images that its jobs run."""

    def __init__(self, workflow: Any, pins: PinTable, images: Images) -> None:
        require(workflow.dag, COLLECT_IMAGES, PULL_IMAGES)
        self.workflow = workflow
        self._pins = pins
        self._images = images
        self._rules_of: dict[str, list[Any]] = {}
        self.needed: set[str] = set()
        """The references that a job of the DAG names; others are of rules that have no job in it."""
        self.original: Callable[[Any, Any], Any] | None = None
        """What a rule says for wildcards, before pinning; None before the DAG is built."""

    def build_dag(self, build: Callable[[], Any]) -> Any:
        """Build the DAG with `build`; no job has started when this returns."""
        rules, dag = self.workflow.rules, self.workflow.dag
        self._meet_rules(static_references(rules))
        rewriting = Rewriting(rules, pin=self._pins.pinned, fail=lambda error, rule: workflow_error(str(error), rule))
        self.original = rewriting.original
        collect, pull = dag.update_container_imgs, dag.pull_container_imgs

        def collect_pinned() -> Any:
            self._meet_jobs(job_references(dag.jobs, rewriting.original))
            collected = collect()
            self._images.guard(self._pins.images())
            return collected

        def pull_proven(*args: Any, **kwargs: Any) -> Any:
            with errors_told(self._explain):
                pulled = self._images.provide(self._pins.images(), functools.partial(pull, *args, **kwargs))
                self.pulled()
            return pulled

        dag.update_container_imgs = collect_pinned
        dag.pull_container_imgs = pull_proven
        return build()

    def named(self, references: list[str]) -> None:
        """Note that `references` were met for the first time, and no registry was asked for them yet."""

    def met(self, references: list[str]) -> None:
        """Note that `references` were met for the first time, and are pinned now."""

    def pulled(self) -> None:
        """Snakemake has its images; in a dry run it has said which it would fetch."""

    def _meet_rules(self, named: Iterable[tuple[str, Any]]) -> None:
        """Pin what rules name, each reference with its rule; a rule without a job may name what cannot be pinned."""
        new = self._not_met(named)
        with errors_told(self._explain):
            self.named(new)
            self._pins.attempt(new)
            self.met(new)

    def _meet_jobs(self, named: Iterable[tuple[str, Any]]) -> None:
        """Pin what jobs need, each reference with its rule; an error where that cannot be."""
        needed = list(named)
        new = self._not_met(needed)
        references = dict.fromkeys(reference for reference, _ in needed)
        self.needed |= set(references)
        with errors_told(self._explain):
            self.named(new)
            self._pins.ensure(references)
            self.met(new)

    def _not_met(self, named: Iterable[tuple[str, Any]]) -> list[str]:
        """Note the rules of the references that were not met before; gives these."""
        new: dict[str, list[Any]] = {}
        for reference, rule in named:
            if reference not in self._rules_of:
                rules = new.setdefault(reference, [])
                if rule not in rules:
                    rules.append(rule)
        self._rules_of |= new
        return list(new)

    def _explain(self, error: FreshnessError) -> str:
        """Return `error`, with the rule and the line of its Snakefile for each reference that it is about."""
        if not isinstance(error, PinningFailed):
            return str(error)
        reasons = alike({text: why.message for text, why in error.failures.items()})
        lines = [f"  {some([f'{text} ({self.place_of(text)})' for text in named])}: {why}" for named, why in reasons]
        return "\n".join([error.headline + ":", *lines, *([error.hint] if error.hint else [])])

    def place_of(self, reference: str) -> str:
        """Return the rule that names `reference`, and its line in the Snakefile."""
        first, *others = self._rules_of[reference]
        more = f", and {len(others)} more" if others else ""
        line = self.workflow.linemaps.get(first.snakefile, {}).get(first.lineno, first.lineno)
        return f"rule {first.name} in {first.snakefile}, line {line}{more}"
