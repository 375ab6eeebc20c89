"""Listings: the tags and the codes of errors that a registry's answer lists, read from its bytes. Pure."""

import json
import re
from dataclasses import dataclass
from typing import Final

from snakemake_apptainer_freshness.errors import DamagedAnswer
from snakemake_apptainer_freshness.registry.containers_conf import Repository

TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TagList:
    """The `tags` of a repository, as the registry orders them; `is_whole` says whether there are no more."""

    tags: tuple[str, ...]
    is_whole: bool


def tag_names(place: Repository, body: bytes) -> list[str]:
    """Return the names in a page of tags; what has not the form of a tag is left out (some registries list digests)."""
    try:
        tags = json.loads(body)["tags"] or []
        return [tag for tag in tags if isinstance(tag, str) and TAG.fullmatch(tag)]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DamagedAnswer(f"the tags of {place}: the registry's answer is no list of tags") from None


def error_codes(body: bytes) -> frozenset[str]:
    """Return the codes of an error answer (distribution specification, error codes)."""
    try:
        errors = json.loads(body)["errors"]
        return frozenset(str(error["code"]) for error in errors)
    except (ValueError, KeyError, TypeError, RecursionError):
        return frozenset()
