"""One workflow with pinned containers, in the main process or in the process of a job.

Where Snakemake collects the images of its jobs, at first and again after each checkpoint, references that only
wildcards or functions make are pinned, all at once. Where it fetches images, before any job that needs them starts,
each is proven to be what its pin names. How it does either is :mod:`.engine.containers`'.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from snakemake_apptainer_freshness.engine import containers
from snakemake_apptainer_freshness.engine.directives import PinTable, static_references
from snakemake_apptainer_freshness.engine.images import Images
from snakemake_apptainer_freshness.engine.messages import as_workflow_errors, group_by_reason, list_first
from snakemake_apptainer_freshness.errors import FreshnessError, PinningFailed
from snakemake_apptainer_freshness.freshness import Verdict


class Session:
    """Rewrites the rules of `workflow` to what `pins` says, and proves the images that its jobs run."""

    def __init__(self, workflow: Any, pins: PinTable, images: Images) -> None:
        self.workflow = workflow
        self._containers = containers.of(workflow)
        self._pins = pins
        self._images = images
        self._rules_of: dict[str, list[Any]] = {}
        self.needed: set[str] = set()
        """The references that a job of the DAG names; others are of rules that have no job in it."""
        self.original: Callable[[Any, Any], Any] | None = None
        """What a rule says for wildcards, before pinning; None before the DAG is built."""
        self._containers.attach(self._collect, self._provide)

    def build_dag(self, build: Callable[[], Any]) -> Any:
        """Build the DAG with `build`; no job has started when this returns."""
        rules = self.workflow.rules
        self._meet_rules(static_references(rules))
        self.original = self._containers.rewrite(rules, self._pins)
        return build()

    def _collect(self, collect: Callable[[], Any]) -> Any:
        """Pin what jobs need, have Snakemake `collect` their images, and guard those."""
        if self.original is not None:
            self._meet_jobs(self._containers.references(self.original))
        collected = collect()
        self._images.guard(self._pins.images())
        return collected

    def _provide(self, pull: Callable[[], Any]) -> Any:
        """Provide a proven image for each job that needs one; Snakemake is to `pull` what is left."""
        with as_workflow_errors(self._explain):
            pulled = self._images.provide(self._pins.images(), pull, self.verdicts())
            self.on_provided()
        return pulled

    def on_named(self, references: list[str]) -> None:
        """Handle that `references` were met for the first time, before a registry is asked for them."""

    def on_pinned(self, references: list[str]) -> None:
        """Handle that `references` were met for the first time, and are pinned now."""

    def verdicts(self) -> Mapping[str, Sequence[Verdict]]:
        """Return what registries said of the references that jobs need, by the url that rules run; none in a job."""
        return {}

    def on_provided(self) -> None:
        """Handle that images are provided; in a dry run Snakemake has said which it would fetch."""

    def _meet_rules(self, named: Iterable[tuple[str, Any]]) -> None:
        """Pin what rules name, each reference with its rule; a rule without a job may name what cannot be pinned."""
        new = self._not_met(named)
        with as_workflow_errors(self._explain):
            self.on_named(new)
            self._pins.attempt(new)
            self.on_pinned(new)

    def _meet_jobs(self, named: Iterable[tuple[str, Any]]) -> None:
        """Pin what jobs need, each reference with its rule; an error where that cannot be."""
        needed = list(named)
        new = self._not_met(needed)
        references = dict.fromkeys(reference for reference, _ in needed)
        self.needed |= set(references)
        with as_workflow_errors(self._explain):
            self.on_named(new)
            self._pins.ensure(references)
            self.on_pinned(new)

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
        reasons = group_by_reason({text: why.message for text, why in error.failures.items()})
        lines = [
            f"  {list_first([f'{text} ({self.place_of(text)})' for text in named])}: {why}" for named, why in reasons
        ]
        return "\n".join([error.headline + ":", *lines, *([error.hint] if error.hint else [])])

    def place_of(self, reference: str) -> str:
        """Return the rule that names `reference`, and its line in the Snakefile."""
        first, *others = self._rules_of[reference]
        more = f", and {len(others)} more" if others else ""
        line = self.workflow.linemaps.get(first.snakefile, {}).get(first.lineno, first.lineno)
        return f"rule {first.name} in {first.snakefile}, line {line}{more}"
