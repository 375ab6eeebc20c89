"""Container directives: which references a workflow names, and how its rules are made to run pinned ones.

A rule's container may be a text, a text with wildcards, a function of wildcards, or nothing; it may come from the
rule, a global ``container:`` or ``containerized:``, an included file or a module. All of them meet in one method,
``Rule.expand_container_img(wildcards)``, which gives a job's reference. Wrapping it on each rule covers every kind,
leaves the author's function to Snakemake's own error handling, and touches no class.

Snakemake before 9.5 has no such method, no wildcards and no functions there: a job has what the rule says, and that is
replaced on each rule.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from snakemake_apptainer_freshness.engine import envspecs
from snakemake_apptainer_freshness.engine.next_seams import SPECS
from snakemake_apptainer_freshness.engine.seams import EXPAND_CONTAINER, RULE_WILDCARDS
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.image.pinned import Pinned
from snakemake_apptainer_freshness.pin import Pin

_DIRECTIVE: Final = "_apptainer_freshness_directive"
"""Where a rule whose directive was replaced keeps what its author wrote."""


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


def directive_of(rule: Any) -> Any:
    """Return the container directive of `rule` as its author wrote it: a text, a function, or nothing."""
    if SPECS.is_in(rule):
        return envspecs.directive(rule)
    return getattr(rule, _DIRECTIVE, rule.container_img)


def container_of(rule: Any, wildcards: Any) -> Any:
    """Return what the directive of `rule` says for `wildcards`, whatever was made of it on this one object."""
    if SPECS.is_in(rule):
        return envspecs.reference_for(rule, wildcards)
    if EXPAND_CONTAINER.is_in(type(rule)):
        return type(rule).expand_container_img(rule, wildcards)
    return directive_of(rule)


def static_references(rules: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield each reference that can be read off a rule without a job, with its rule."""
    for rule in rules:
        image = directive_of(rule)
        if isinstance(image, str) and image and not _has_wildcards(image):
            yield image, rule


def job_references(jobs: Iterable[Any], expand: Callable[[Any, Any], Any]) -> Iterator[tuple[str, Any]]:
    """Yield each reference that a job needs, with its rule; `expand` gives what a rule says for wildcards."""
    for job in jobs:
        reference = directive_of(job.rule)
        if callable(reference) or (isinstance(reference, str) and _has_wildcards(reference)):
            reference = expand(job.rule, job.wildcards_dict)
        if isinstance(reference, str) and reference:
            yield reference, job.rule


def given_references(rules: Iterable[Any], values: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Any]]:
    """Yield each reference that `values` of wildcards make of the rules that need no others, with its rule."""
    for rule in rules:
        names = sorted(wildcards_of(rule))
        if names and all(name in values for name in names):
            for combination in itertools.product(*(values[name] for name in names)):
                reference = container_of(rule, dict(zip(names, combination, strict=True)))
                if isinstance(reference, str) and reference:
                    yield reference, rule


def wildcards_of(rule: Any) -> frozenset[str]:
    """Return the names of the wildcards that the container of `rule` may depend on."""
    image = directive_of(rule)
    if callable(image):
        return frozenset(rule.wildcard_names if RULE_WILDCARDS.is_in(rule) else ())
    if not isinstance(image, str) or not (EXPAND_CONTAINER.is_in(rule) or SPECS.is_in(rule)):
        return frozenset()
    from snakemake.io import get_wildcard_names

    return frozenset(get_wildcard_names(image))


def _has_wildcards(image: str) -> bool:
    return "{" in image or "}" in image


class Rewriting:
    """Makes the rules of a workflow give pinned references.

    `pin` gives the pinned reference of a reference; `fail` turns one of our errors into one that Snakemake prints well.
    """

    def __init__(
        self,
        rules: Iterable[Any],
        *,
        pin: Callable[[str], str],
        fail: Callable[[FreshnessError, Any], Exception],
    ) -> None:
        self._pin = pin
        self._fail = fail
        self._originals: dict[str, Callable[..., Any]] = {}
        for rule in rules:
            self._rewrite(rule)

    def original(self, rule: Any, wildcards: Any) -> Any:
        """Return what the directive of `rule` says for `wildcards`, before pinning."""
        return self._originals[rule.name](wildcards)

    def _rewrite(self, rule: Any) -> None:
        if not directive_of(rule):
            return
        if not EXPAND_CONTAINER.is_in(rule):
            self._replace(rule)
            return
        expand = rule.expand_container_img
        self._originals[rule.name] = expand

        def expand_pinned(wildcards: Any) -> Any:
            reference = expand(wildcards)
            return self._pinned(reference, rule)

        rule.expand_container_img = expand_pinned

    def _replace(self, rule: Any) -> None:
        directive = directive_of(rule)
        self._originals[rule.name] = lambda wildcards: directive  # noqa: ARG005  the signature of Snakemake's method
        setattr(rule, _DIRECTIVE, directive)
        if not isinstance(directive, str) or _has_wildcards(directive):
            return  # no job could run it, pinned or not
        with contextlib.suppress(FreshnessError):  # raised where a job needs it: most rules that fail here have none
            rule.container_img = self._pin(directive)

    def _pinned(self, reference: Any, rule: Any) -> Any:
        if not isinstance(reference, str) or not reference:
            return reference
        try:
            return self._pin(reference)
        except FreshnessError as error:
            raise self._fail(error, rule) from None
