"""A policy: which images a workflow, or a whole site, may name. Pure: values in, violations out.

Written under ``policy`` in the workflow's configuration (:data:`~.settings.Options.policy`), and for a whole site as
``[policy]`` in files of its own (:mod:`.actions.site`). All that are there hold: a workflow can be stricter than its
site, never laxer. Each rule is a table of what it allows, refuses or requires, and its ``level``::

    [policy.registries]
    allow = ["quay.io", "*.example.org"]
    level = "error"                      # the default; or "warn"

Patterns are those of a shell: ``*`` stands for any text, ``/`` included. A rule says nothing of an image that it
cannot be about: ``registries`` nothing of a file, ``platforms`` nothing of what has no manifest. What a rule would have
to know and could not be found out is a violation of its own, since a policy that is silent about it would be believed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Final

from snakemake_apptainer_freshness.common.tables import Damaged, read_toml
from snakemake_apptainer_freshness.errors import FreshnessError, InvalidPolicy
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference, parse
from snakemake_apptainer_freshness.image.scheme import Scheme
from snakemake_apptainer_freshness.lockfile import Entry
from snakemake_apptainer_freshness.policy.schema import Level, level_of, nearest, table_of, texts_of
from snakemake_apptainer_freshness.policy.signed_by import Demand, parse_signed_by
from snakemake_apptainer_freshness.settings import SITE_FILE

UNPINNABLE: Final = "unpinnable"
"""Stands among refused sources for all that have no digest."""

_DAYS: Final = 365_000


class Rule(StrEnum):
    """What a policy can rule on; the words are the keys that it is written with."""

    REGISTRIES = "registries"
    REPOSITORIES = "repositories"
    TAGS = "tags"
    SOURCES = "sources"
    PLATFORMS = "platforms"
    AGE = "age"
    SIGNED_BY = "signed_by"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One policy; `source` says where it is written. What is empty or None is no rule.

    `registries` and `repositories` are patterns of what is allowed, `tags` of what is refused; `tag_needed` refuses a
    reference that names neither tag nor digest. `sources` are refused schemes, or :data:`UNPINNABLE`; `platforms` are
    required (``os/architecture``); `age` is in days. `signed_by` says who has to have signed (:mod:`.signed_by`).
    """

    source: str
    registries: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    tag_needed: bool = False
    sources: tuple[str, ...] = ()
    platforms: tuple[Platform, ...] = ()
    age: int | None = None
    signed_by: tuple[Demand, ...] = ()
    levels: Mapping[Rule, Level] = field(default_factory=dict)

    @property
    def wants_configuration(self) -> bool:
        """Whether it has to be known what an image's configuration says: when it was made, and for which platform."""
        return self.age is not None or bool(self.platforms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One rule that one reference breaks; `text` says how, `source` where the rule is written."""

    rule: Rule
    level: Level
    reference: str
    text: str
    source: str


def check_name(policy: Policy, text: str) -> list[Violation]:
    """Return how the name that is written as `text` breaks `policy`; asks no registry, so it can be told first.

    Raises
    ------
    InvalidReference
        where `text` is no reference.
    """
    reference = parse(text)
    problems = {
        Rule.SOURCES: f"{reference.scheme} sources are refused" if reference.scheme.value in policy.sources else None,
        Rule.REGISTRIES: _registry_problem(policy, reference),
        Rule.REPOSITORIES: _repository_problem(policy, reference),
        Rule.TAGS: _tag_problem(policy, reference),
    }
    return _violations(policy, text, problems)


def check_pin(
    policy: Policy,
    text: str,
    entry: Entry | None,
    *,
    today: date,
    made: date | None = None,
    offered: frozenset[Platform] | None = None,
) -> list[Violation]:
    """Return how what the reference `text` is pinned to breaks `policy`; `entry` is None where it cannot be pinned.

    `made` is the day that the image's own configuration says, `offered` the platforms that its index has images for,
    where those were hashed. What the lock says of either is a claim, and decides nothing.

    Raises
    ------
    InvalidReference
        where `text` is no reference.
    """
    reference = parse(text)
    problems: dict[Rule, str | None] = {}
    if entry is None:
        problems[Rule.SOURCES] = "sources that cannot be pinned are refused" if UNPINNABLE in policy.sources else None
    else:
        problems[Rule.PLATFORMS] = _platform_problem(policy, reference, offered)
        problems[Rule.AGE] = _age_problem(policy, reference, made, today)
    return _violations(policy, text, problems)


def _violations(policy: Policy, text: str, problems: Mapping[Rule, str | None]) -> list[Violation]:
    return [
        Violation(
            rule=rule, level=policy.levels.get(rule, Level.ERROR), reference=text, text=problem, source=policy.source
        )
        for rule, problem in problems.items()
        if problem is not None
    ]


def _registry_problem(policy: Policy, reference: Reference) -> str | None:
    if not policy.registries or not reference.scheme.rules.has_host:
        return None
    host = _host(reference)
    if any(fnmatchcase(host, pattern) for pattern in policy.registries):
        return None
    return f"registry {host} is not allowed; allowed are {', '.join(policy.registries)}"


def _repository_problem(policy: Policy, reference: Reference) -> str | None:
    if not policy.repositories or not reference.scheme.rules.has_host:
        return None
    name = f"{_host(reference)}/{reference.repository or reference.path.lstrip('/')}"
    if any(fnmatchcase(name, pattern) for pattern in policy.repositories):
        return None
    return f"repository {name} is not allowed; allowed are {', '.join(policy.repositories)}"


def _tag_problem(policy: Policy, reference: Reference) -> str | None:
    if not reference.scheme.rules.has_tag:
        return None
    if policy.tag_needed and reference.digest is None and not _names_tag(reference):
        return "it names no tag"
    tag = reference.tag
    if tag is not None and any(fnmatchcase(tag, pattern) for pattern in policy.tags):
        return f"tag {tag} is refused"
    return None


def _platform_problem(policy: Policy, reference: Reference, offered: frozenset[Platform] | None) -> str | None:
    if not policy.platforms or not reference.scheme.is_registry:
        return None
    if offered is None:
        return f"its platforms are not proven, and {_listed_platforms(policy.platforms)} must be there"
    missing = [wanted for wanted in policy.platforms if not any(platform.serves(wanted) for platform in offered)]
    if not missing:
        return None
    has = _listed_platforms(sorted(offered)) or "none"
    return f"it has no image for {_listed_platforms(missing)}; it has {has}"


def _listed_platforms(platforms: Iterable[Platform]) -> str:
    return ", ".join(map(str, platforms))


def _age_problem(policy: Policy, reference: Reference, made: date | None, today: date) -> str | None:
    if policy.age is None or reference.scheme is not Scheme.DOCKER:
        return None
    if made is None:
        return f"its age is not proven, and {policy.age} days are allowed"
    days = (today - made).days
    return f"it was made on {made}, {days} days ago; {policy.age} are allowed" if days > policy.age else None


def _host(reference: Reference) -> str:
    """Return the host; a library reference without one goes to the library that Apptainer is set up for."""
    return reference.host.lower() or "library"


def _names_tag(reference: Reference) -> bool:
    return ":" in reference.text.partition("://")[2].partition("@")[0].rpartition("/")[2]


def parse_policy(value: object, *, source: str) -> Policy:
    """Return the policy that `value`, a table of rules, spells; `source` names where it is written.

    Raises
    ------
    InvalidPolicy
        for an unknown key, a value of the wrong kind, and rules that contradict each other.
    """
    table = table_of(value, "policy", source, allowed=[rule.value for rule in Rule])
    parsed: dict[str, Any] = {}
    levels: dict[Rule, Level] = {}
    for key, rule_table in table.items():
        rule = Rule(key)
        values, levels[rule] = _PARSERS[rule](rule_table, source)
        parsed |= values
    policy = Policy(source=source, levels=levels, **parsed)
    for contradiction in _contradictions(policy):
        raise InvalidPolicy(
            f"{source}: the policy contradicts itself: {contradiction}", hint="change or remove one of the two rules"
        )
    return policy


def load_site_policy(text: str, *, source: str = SITE_FILE) -> Policy | None:
    """Return the policy in the `text` of a site's file; None where it has none.

    Raises
    ------
    InvalidPolicy
        where it is not TOML, has an unknown key, or its policy is not sound.
    """
    try:
        document = read_toml(text)
    except Damaged as error:
        raise InvalidPolicy(f"{source}: {error}", hint="mend it, or remove the file") from None
    table = table_of(document, "the file", source, allowed=["policy"])
    return parse_policy(table["policy"], source=source) if "policy" in table else None


def _contradictions(policy: Policy) -> Iterator[str]:
    for pattern in policy.repositories:
        host = pattern.partition("/")[0]
        if (
            policy.registries
            and not _is_pattern(host)
            and not any(fnmatchcase(host, pattern) for pattern in policy.registries)
        ):
            yield f"repositories allows {pattern}, whose registry {host} registries does not allow"
    if policy.tag_needed and "*" in policy.tags:
        yield "tags requires a tag and refuses every one"
    if {Scheme.DOCKER, Scheme.ORAS, Scheme.LIBRARY} <= set(policy.sources) and (
        policy.registries or policy.repositories
    ):
        yield "registries or repositories allows images that sources refuses: docker, oras and library"


def _is_pattern(text: str) -> bool:
    return any(character in text for character in "*?[")


def _listed(key: str, name: str) -> Callable[[object, str], tuple[dict[str, Any], Level]]:
    """Return a parser for a rule that is one list of patterns, under `key`."""

    def parse_rule(value: object, source: str) -> tuple[dict[str, Any], Level]:
        table = table_of(value, f"policy.{name}", source, allowed=[key, "level"])
        return {name: texts_of(table.get(key), f"policy.{name}.{key}", source)}, level_of(table, name, source)

    return parse_rule


def _tags(value: object, source: str) -> tuple[dict[str, Any], Level]:
    table = table_of(value, "policy.tags", source, allowed=["refuse", "required", "level"])
    needed = table.get("required", False)
    if not isinstance(needed, bool):
        raise InvalidPolicy(f"{source}: policy.tags.required must be true or false, not {needed!r}")
    if "refuse" not in table and not needed:
        raise InvalidPolicy(f"{source}: policy.tags needs refuse, a list of patterns, or required = true")
    patterns = texts_of(table["refuse"], "policy.tags.refuse", source) if "refuse" in table else ()
    return {"tags": patterns, "tag_needed": needed}, level_of(table, "tags", source)


def _sources(value: object, source: str) -> tuple[dict[str, Any], Level]:
    values, level = _listed("refuse", "sources")(value, source)
    known = [*(scheme.value for scheme in Scheme), UNPINNABLE]
    for word in values["sources"]:
        if word not in known:
            raise InvalidPolicy(
                f"{source}: policy.sources.refuse knows no source {word!r}{nearest(word, known)}",
                hint=f"sources are {', '.join(known)}",
            )
    return values, level


def _platforms(value: object, source: str) -> tuple[dict[str, Any], Level]:
    values, level = _listed("require", "platforms")(value, source)
    try:
        return {"platforms": tuple(map(Platform.parse, values["platforms"]))}, level
    except FreshnessError as error:
        raise InvalidPolicy(f"{source}: policy.platforms.require: {error.message}", hint=error.hint) from None


def _age(value: object, source: str) -> tuple[dict[str, Any], Level]:
    table = table_of(value, "policy.age", source, allowed=["at_most", "level"])
    days = table.get("at_most")
    if isinstance(days, bool) or not isinstance(days, int) or not 0 < days <= _DAYS:
        raise InvalidPolicy(f"{source}: policy.age.at_most must be a number of days, not {days!r}")
    return {"age": days}, level_of(table, "age", source)


_PARSERS: Final[Mapping[Rule, Callable[[object, str], tuple[dict[str, Any], Level]]]] = {
    Rule.REGISTRIES: _listed("allow", "registries"),
    Rule.REPOSITORIES: _listed("allow", "repositories"),
    Rule.TAGS: _tags,
    Rule.SOURCES: _sources,
    Rule.PLATFORMS: _platforms,
    Rule.AGE: _age,
    Rule.SIGNED_BY: parse_signed_by,
}
