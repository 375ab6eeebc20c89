"""Container directives: which references a workflow names, and how its rules are made to run pinned ones.

A rule's container may be a text, a text with wildcards, a function of wildcards, or nothing; it may come from the
rule, a global ``container:`` or ``containerized:``, an included file or a module. All of them meet in one method,
``Rule.expand_container_img(wildcards)``, which gives a job's reference. Wrapping it on each rule covers every kind,
leaves the author's function to Snakemake's own error handling, and touches no class.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from snakemake_apptainer_freshness.errors import FreshnessError


def static_references(rules: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Each reference that can be read off a rule without a job, with its rule."""
    for rule in rules:
        image = rule.container_img
        if isinstance(image, str) and not ("{" in image or "}" in image):
            yield image, rule


def job_references(jobs: Iterable[Any], expand: Callable[[Any, Any], Any]) -> Iterator[tuple[str, Any]]:
    """Each reference that only a job's wildcards make, with its rule; `expand` gives what a rule says for wildcards."""
    for job in jobs:
        image = job.rule.container_img
        if callable(image) or (isinstance(image, str) and ("{" in image or "}" in image)):
            reference = expand(job.rule, job.wildcards_dict)
            if isinstance(reference, str) and reference:
                yield reference, job.rule


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
        """What the directive of `rule` says for `wildcards`, before pinning."""
        return self._originals[rule.name](wildcards)

    def _rewrite(self, rule: Any) -> None:
        if not rule.container_img:
            return
        expand = rule.expand_container_img
        self._originals[rule.name] = expand

        def expand_pinned(wildcards: Any) -> Any:
            reference = expand(wildcards)
            if not isinstance(reference, str) or not reference:
                return reference
            try:
                return self._pin(reference)
            except FreshnessError as error:
                raise self._fail(error, rule) from None

        rule.expand_container_img = expand_pinned
