"""Entities of an RO-Crate: made once each, named by what they are, and valid Unicode whatever a record says."""

import contextlib
import getpass
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from snakemake_apptainer_freshness.common.text import unicode
from snakemake_apptainer_freshness.errors import FreshnessError
from snakemake_apptainer_freshness.image.reference import parse


def entity(crate: Any, kind: str, identifier: str, /, **properties: Any) -> Any:
    """Return the entity `identifier` of `crate`, which is added as a `kind` with `properties` where it is not there."""
    from rocrate.model.contextentity import ContextEntity

    known = crate.get(identifier)
    if known is not None:
        return known
    made = ContextEntity(crate, identifier, properties={"@type": kind})
    for key, value in properties.items():
        made[key] = unicode(value) if isinstance(value, str) else value
    return crate.add(made)


def run_id(run: str) -> str:
    """Return the identifier of the action of a run."""
    return f"#run-{quote(unicode(run))}"


def named(reference: str) -> dict[str, str]:
    """Return registry, name and tag of a reference, as far as it has them."""
    reference = unicode(reference)
    try:
        parsed = parse(reference)
    except FreshnessError:
        return {"name": reference, "registry": "unknown"}
    names = {"name": parsed.repository or parsed.path or reference, "registry": parsed.host or "this machine"}
    return names | ({"tag": parsed.tag} if parsed.tag else {})


def address(path: Path) -> str:
    """Return the absolute `path` as an address, whatever its name is made of."""
    try:
        return path.as_uri()
    except UnicodeEncodeError:  # a lone surrogate, which stands for no byte
        return f"file://{quote(unicode(str(path)))}"


def times(started: str, ended: str) -> dict[str, str]:
    """Return both times, where they are known, in the form of ISO 8601 that the profiles ask for."""
    known = {"startTime": started, "endTime": ended}
    return {name: datetime.fromisoformat(time).isoformat() for name, time in known.items() if time}


def unique(entities: Iterable[Any]) -> Any:
    """Return each entity once; a single one by itself, as RO-Crate 1.1 recommends."""
    distinct = list({entity.id: entity for entity in entities}.values())
    return distinct[0] if len(distinct) == 1 else distinct


def current_user() -> str:
    """Return who makes the crate, for records that do not say who ran."""
    with contextlib.suppress(KeyError, OSError):
        return getpass.getuser()
    return "unknown"
