"""Outdated: finding newer versions of a tool than the tag that a workflow names. Nothing is changed.

The registry's list of tags is asked for, and tags are compared by their own scheme (:mod:`.image.tag_versions`). Of the
newest one it is told when it was made and how large it is; the others are named. What cannot be asked hides no other.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from snakemake_apptainer_freshness.actions.image_content import BlobSource
from snakemake_apptainer_freshness.actions.labels import Details, details
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.image import tag_versions
from snakemake_apptainer_freshness.image.platform import Platform
from snakemake_apptainer_freshness.image.reference import Reference, parse
from snakemake_apptainer_freshness.lockfile import Entry


class Tags(Protocol):
    """The tags of a repository, and whether that is all of them."""

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags, as the registry orders them."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether the registry has no more tags."""
        ...


class TagLister(BlobSource, Protocol):
    """Lists tags and resolves references: :class:`.registry.resolver.Resolver`."""

    def tags(self, references: Iterable[Reference]) -> Iterator[tuple[Reference, Tags | FreshnessError]]:
        """Return the tags of each reference's repository, as answers come in."""
        ...

    def resolve(self, references: Iterable[Reference]) -> Iterator[tuple[Reference, Entry | FreshnessError]]:
        """Return the pin of each reference, or why there is none, as answers come in."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NewerVersions:
    """What is newer than `reference`: whole `references`, the newest first; none where it is the newest.

    `newest` is what the first of them says of itself, where that could be had. `is_whole` says whether all tags of the
    repository were seen; `error` why they were not; `is_version` whether the tag reads as a version at all.
    """

    reference: str
    references: tuple[str, ...] = ()
    newest: Details | None = None
    is_whole: bool = True
    is_version: bool = True
    error: FreshnessError | None = None


def outdated(references: Iterable[str], registry: TagLister, *, platform: Platform) -> list[NewerVersions]:
    """Return the newer versions of each of `references` that lies in a registry and names a tag, in their order."""
    asked = [reference for text in references if (reference := _with_tag(text)) is not None]
    versioned = [reference for reference in asked if tag_versions.parse(reference.tag or "") is not None]
    answers = dict(registry.tags(versioned))
    newer = {reference.text: _newer(reference, answers[reference]) for reference in versioned}
    labels = _newest(newer.values(), registry, platform)
    newer = {
        text: replace(versions_of, newest=labels.get(next(iter(versions_of.references), "")))
        for text, versions_of in newer.items()
    }
    return [
        newer.get(reference.text) or NewerVersions(reference=reference.text, is_version=False) for reference in asked
    ]


def _with_tag(text: str) -> Reference | None:
    try:
        reference = parse(text)
    except FreshnessError:  # locking it says so
        return None
    return reference if reference.scheme.is_registry and reference.tag and reference.digest is None else None


def _newer(reference: Reference, answer: Tags | FreshnessError) -> NewerVersions:
    if isinstance(answer, FreshnessError):
        return NewerVersions(reference=reference.text, error=answer)
    tag = reference.tag or ""
    name = reference.text.removesuffix(f":{tag}")
    references = tuple(f"{name}:{other}" for other in tag_versions.newer(tag, answer.tags))
    return NewerVersions(reference=reference.text, references=references, is_whole=answer.is_whole)


def _newest(newer: Iterable[NewerVersions], registry: TagLister, platform: Platform) -> dict[str, Details]:
    """Return what the newest version of each says of itself; what cannot be had is left out."""
    wanted = [parse(versions_of.references[0]) for versions_of in newer if versions_of.references]
    entries = [answer for _, answer in registry.resolve(wanted) if isinstance(answer, Entry)]
    labels = details(entries, registry, platform=platform)
    return {entry.reference.text: labels[entry.pinned.text] for entry in entries if entry.pinned.text in labels}
